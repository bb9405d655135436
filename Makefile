# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# Commands that tests and pages run by the dozen would each compile all of ctrkit's modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check tests tests-slow tests-thorough tests-properties tests-all format clean

# The environment: everything pinned by constraints.txt; obp 0.5.7 forbids Python 3.11 and newer in its
# metadata though it works there, hence its own line.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,obp,bench,explain,oracles,scale,lake,serve]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python obp==0.5.7
	touch .venv/installed

# The promised commands, one after another, on the sample logs, in the folder demo/. Then what each stage from
# logs to bids is worth in money, on a market with more rows.
demo: .venv/installed
	rm -rf demo && mkdir demo
	cd demo && ../$(BIN)/ctrkit train
	cd demo && ../$(BIN)/ctrkit calibrate
	cd demo && ../$(BIN)/ctrkit evaluate
	cd demo && ../$(BIN)/ctrkit ope
	cd demo && ../$(BIN)/ctrkit simulate-bidding --budget 1000
	cd demo && ../$(BIN)/ctrkit summary
	$(BIN)/python benchmarks/worth.py

# Types are checked on one core, which leaves the other one idle: both at once.
test: .venv/installed
	$(MAKE) --jobs=2 check tests

# Lint, format, types: the same three commands that pre-commit runs.
check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

tests: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What takes longer: the pages of the docs, trainings of several models, a Ray cluster.
tests-slow: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow and not thorough"

# What takes longest: exports of every model, thousands of requests.
tests-thorough: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m thorough

# Four times as many examples of properties.
tests-properties: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m hypothesis --hypothesis-profile thorough

tests-all: tests tests-slow tests-thorough tests-properties

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist demo *.egg-info
