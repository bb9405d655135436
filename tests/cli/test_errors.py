"""How errors reach a person and a machine, and how early."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ctrkit.cli import common
from ctrkit.tables import atomic_path
from tests.terminal import call


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("train", "none.parquet"), 2, "none.parquet: no such file"),
        (("train", "--set", "training.epoch=1"), 2, "Did you mean 'epochs'"),
        (("simulate-bidding",), 2, "--budget"),
        (("ope", "--polcy", "x"), 2, "--polcy"),
        (("calibrat",), 2, "No such command 'calibrat'"),
        (("summary", "nowhere"), 2, "no finished run in this folder"),
    ],
)
def test_json_of_an_error_is_one_object(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = call(*arguments, "--json")
    assert found == code
    assert said in json.loads(out)["error"]
    assert said.split()[0] in err, "a person sees it too"
    assert call(*arguments)[:2] == (code, ""), "without --json nothing is on stdout"


def test_the_parts_of_an_error_stand_apart(logs: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    table = logs / "impressions.parquet"
    _, out, _ = call("train", table, "--set", "features.group=userid", "--json")
    content = json.loads(out)
    assert (content["file"], content["column"]) == (str(table), "userid")
    assert content["hint"] == "Did you mean 'user_id'"


MISSING = (
    ("train", "none.csv"),
    ("calibrate",),
    ("evaluate", "none.pt"),
    ("explain", "none.pt"),
    ("ope", "--logs", "none.parquet"),
    ("ope", "none.parquet"),
    ("ope", "--policy", "none.pt"),
    ("check-log", "none.parquet"),
    ("learn-policy", "--logs", "none.parquet"),
    ("plan-budget", "--budget", "1", "--curves", "none.csv"),
    ("simulate-bidding", "--budget", "1", "--replay", "none.parquet"),
    ("train", "--config", "none.yaml"),
    ("models", "none.csv"),
)
TOLD = """
import sys
from typer.testing import CliRunner
from ctrkit.cli import app

for arguments in {arguments}:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2 and "no such" in result.stderr, (arguments, result.stderr)
    loaded = {{"torch", "polars", "numba", "scipy"}} & set(sys.modules)
    assert not loaded, (arguments, loaded)
"""


@pytest.mark.slow
def test_a_missing_file_is_told_before_the_libraries_are_loaded(tmp_path: Path) -> None:
    program = TOLD.format(arguments=MISSING)
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_logs_are_named_with_and_without_the_option(logs: Path, tmp_path: Path) -> None:
    log, rest = logs / "bandit.parquet", ("--set", "estimators=[ips]", "--json", "--quiet")
    values = [
        json.loads(out)["logging"]["value"]
        for code, out, err in (
            call("ope", "--logs", log, "--policy", "uniform", "--out", tmp_path / "a", *rest),
            call("ope", log, "--policy", "uniform", "--out", tmp_path / "b", *rest),
            call("ope", "--policy=uniform", *rest, "--out", tmp_path / "c", log),
        )
        if code == 0 or pytest.fail(err)
    ]
    assert values[0] == values[1] == values[2]
    checks = [
        call("check-log", log, "--out", tmp_path / "d", "--json", "--quiet"),
        call("check-log", "--logs", log, "--out", tmp_path / "e", "--json", "--quiet"),
    ]
    assert json.loads(checks[0][1]) == json.loads(checks[1][1])


def test_a_narrow_terminal_folds_and_cuts_nothing(logs: Path, tmp_path: Path, monkeypatch: Any) -> None:
    page = io.StringIO()
    narrow = Console(file=page, width=60, highlight=False)
    monkeypatch.setattr(common.Output, "console", lambda self, stderr: narrow)
    code, _, err = call("ope", logs / "bandit.parquet", "--policy", "uniform", "--out", tmp_path / "o")
    assert code == 0, err
    lines = page.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert "…" not in page.getvalue()
    assert "snips" in page.getvalue()


FULL = """
import resource, signal, sys
import numpy as np, polars as pl, torch
from ctrkit.errors import RunError
from ctrkit.tables import atomic_path, write_table, write_text

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

def save(path):
    with atomic_path(path) as part:
        torch.save({"a": torch.zeros(100_000)}, part)

table = pl.DataFrame({"a": np.random.default_rng(0).random(100_000)})
for write in (save, lambda path: write_table(table, path), lambda path: write_text("a" * 100_000, path)):
    try:
        write(sys.argv[1])
    except RunError as error:
        assert "cannot be written: file too large" in str(error), error
    else:
        raise SystemExit("it was written")
"""


@pytest.mark.slow
def test_a_full_disk_is_one_message_whatever_library_writes(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("before")
    subprocess.run([sys.executable, "-c", FULL, str(target)], check=True)
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_errors_of_the_writer_itself_pass(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_path(tmp_path / "file"):
        raise KeyError("mine")
    assert list(tmp_path.iterdir()) == []
