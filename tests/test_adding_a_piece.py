"""A new piece is one new file: those that CONTRIBUTING.md shows, in a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = (
    "model.name=wide-deep",
    "model.history.encoder.name=moving-average",
    "model.embedding=4",
    "model.hidden=[8]",
    "training.epochs=1",
)
COMMANDS = {
    "train": "logs/impressions.parquet " + " ".join(f"--set {setting}" for setting in SMALL),
    "calibrate": "--set method=clipped-platt",
    "ope": "logs/bandit.parquet --policy uniform --set estimators=[es-ips]",
    "simulate-bidding": "--replay logs/auctions.parquet --budget 100 --strategy cautious:share=0.7",
}
# The folders of the tests over each kind's registry.
CONTRACTS = {
    "tests/models": "wide-deep",
    "tests/nn": "moving-average",
    "tests/calibration": "clipped-platt",
    "tests/ope": "es-ips",
    "tests/bidding": "cautious",
}


def pieces() -> dict[str, str]:
    """The files that CONTRIBUTING.md shows in full, by their place."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.findall(r"^    # (ctrkit/\S+\.py)\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    return {place: textwrap.dedent(content).rstrip() + "\n" for place, content in shown}


@pytest.fixture(scope="module")
def copy(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with those files in it, and nothing else changed."""
    home = tmp_path_factory.mktemp("copy")
    for folder in ("ctrkit", "tests", "configs", "logs_sample"):
        shutil.copytree(ROOT / folder, home / folder)
    shutil.copytree(ROOT / "cli", home / "ctrkit" / "cli")
    shutil.copy(ROOT / "pyproject.toml", home)
    shutil.copytree(logs, home / "logs")
    for place, content in pieces().items():
        assert not (home / place).exists()
        (home / place).write_text(content, encoding="utf-8")
    return home


def python(copy: Path, *arguments: str) -> str:
    """What a Python that finds the copy first says."""
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_is_a_file_of_each_kind() -> None:
    assert [place.split("/")[1] for place in pieces()] == ["models", "nn", "calibration", "ope", "bidding"]


@pytest.mark.slow
def test_commands_take_each_by_its_name(copy: Path) -> None:
    run = "import sys; from ctrkit.cli import main; main()"
    said = ""
    for command, arguments in COMMANDS.items():
        said += python(copy, "-c", run, command, *arguments.split(), "--json", "--quiet")
        if command == "train":
            said += (copy / "runs" / command / "config.yaml").read_text(encoding="utf-8")
    assert all(name in said for name in CONTRACTS.values())
    assert "wide-deep" in python(copy, "-c", run, "models")


@pytest.mark.slow
@pytest.mark.parametrize("folder", CONTRACTS)
def test_the_tests_of_its_kind_collect_it_and_it_passes_them(copy: Path, folder: str) -> None:
    said = python(copy, "-m", "pytest", folder, "-k", CONTRACTS[folder], "-p", "no:cacheprovider")
    assert re.search(r"^[1-9]\d* passed", said, re.MULTILINE), said
