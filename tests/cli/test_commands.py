"""The commands as a person or a script would call them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from ctrkit.artifact import Artifact
from ctrkit.cli import app
from tests.terminal import call, sets

COMMANDS = (
    "train", "calibrate", "predict", "evaluate", "explain", "ope", "import", "export", "serve",
    "learn-policy",
    "plan-budget", "simulate-bidding", "sample-logs", "models", "sources", "summary"
)  # fmt: skip
pytestmark = [
    pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.evaluation.measures.EvaluationWarning"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_shared_options(command: str) -> None:
    code, out, _ = call(command, "--help")
    assert code == 0
    for option in ("--json", "--quiet", "--debug"):
        assert option in out


def test_help_answers_without_loading_torch() -> None:
    code = "import sys, ctrkit.cli; assert not {'torch', 'polars', 'pydantic', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_bare_and_in_order_in_an_empty_folder(tmp_path: Path, small: tuple[str, ...]) -> None:
    fast = sets((*small, "training.epochs=1", "training.batch_size=2048"))
    for arguments in (
        ("train", *fast),
        ("calibrate",),
        ("evaluate", *sets(("draws=20", "figures=false"))),
        ("ope",),
        ("simulate-bidding", "--budget", "1000"),
        ("summary",),
    ):
        code, out, err = call(*arguments, "--json", cwd=tmp_path)
        assert code == 0, err
        assert isinstance(json.loads(out), dict)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "calibrate", "evaluate", "ope", "report.html", "simulate-bidding", "train",
    ]  # fmt: skip
    assert (tmp_path / "model.pt").is_file()


@pytest.mark.slow
def test_json_holds_what_the_tables_show(trained: Path, logs: Path, tmp_path: Path) -> None:
    arguments = ("ope", "--logs", logs / "bandit.parquet", "--policy", trained, "--out", tmp_path / "ope")
    code, table, _ = call(*arguments)
    assert code == 0
    _, out, err = call(*arguments, "--json")
    content = json.loads(out)
    for estimate in content["policies"][0]["estimates"]:
        for key in ("value", "low", "high"):
            assert f"{estimate[key]:.4g}" in table
    assert content["policies"][0]["verdict"] in table
    # With --json, what people read goes to stderr.
    assert "Diagnostics" in err
    assert "Diagnostics" in table


def test_quiet_prints_nothing(trained: Path, logs: Path, tmp_path: Path) -> None:
    code, out, err = call(
        "ope", "--logs", logs / "bandit.parquet", "--policy", trained, "--out", tmp_path / "o", "--quiet"
    )
    assert (code, out, err) == (0, "", "")


@pytest.mark.slow
def test_sample_logs_are_written_and_named(tmp_path: Path) -> None:
    code, out, _ = call("sample-logs", "--out", tmp_path / "logs", "--seed", "1", "--json")
    assert code == 0
    files = [Path(entry["file"]).name for entry in json.loads(out)["files"]]
    assert {"impressions.parquet", "bandit.parquet", "auctions.parquet", "README.md"} == set(files)


def change(row: int, name: str, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """A function that puts another value into one row of a column."""
    here = pl.int_range(pl.len()) == row
    return lambda table: table.with_columns(pl.when(here).then(pl.lit(value)).otherwise(name).alias(name))


@dataclass(frozen=True)
class Spoilt:
    """A table with one fault, the command that reads it, and what the message must say."""

    command: str
    table: str
    said: str
    spoil: Callable[[pl.DataFrame], pl.DataFrame]


BAD_TABLES = {
    "wrong type": Spoilt(
        "train",
        "impressions",
        "column 'user_age', row index 0",
        lambda t: t.with_columns(user_age=pl.lit("old")),
    ),
    "infinite": Spoilt(
        "train", "impressions", "column 'ad_price', row index 7", change(7, "ad_price", float("inf"))
    ),
    "label": Spoilt("train", "impressions", "column 'click', row index 5", change(5, "click", 2)),
    "propensity 0": Spoilt("ope", "bandit", "column 'propensity', row index 4", change(4, "propensity", 0.0)),
    "propensity above 1": Spoilt(
        "ope", "bandit", "column 'propensity', row index 4", change(4, "propensity", 1.1)
    ),
    "propensity missing": Spoilt(
        "ope", "bandit", "column 'propensity', row index 4", change(4, "propensity", None)
    ),
    "no propensity": Spoilt("ope", "bandit", "column 'propensity'", lambda t: t.drop("propensity")),
    "action no candidate": Spoilt(
        "ope", "bandit", "column 'action', row index 9", change(9, "action", 12345)
    ),
    "negative price": Spoilt(
        "simulate-bidding", "auctions", "column 'market_price', row index 3", change(3, "market_price", -1.0)
    ),
}
TABLE_OPTION = {"train": (), "ope": ("--logs",), "simulate-bidding": ("--replay",)}
MORE = {"train": (), "ope": (), "simulate-bidding": ("--budget", "10")}


def complaint(code: int, out: str, err: str) -> str:
    """The message of a refused input, after checking that it is one, and no traceback."""
    assert code == 2, (out, err)
    assert out == ""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_ends_with_one_message_and_nothing_written(
    case: str, trained: Path, logs: Path, tmp_path: Path
) -> None:
    bad = BAD_TABLES[case]
    command = bad.command
    path = tmp_path / "bad.parquet"
    bad.spoil(pl.read_parquet(logs / f"{bad.table}.parquet")).write_parquet(path)
    model = () if command == "train" else (("--policy" if command == "ope" else "--model"), trained)
    message = complaint(*call(command, *TABLE_OPTION[command], path, *model, *MORE[command], cwd=tmp_path))
    assert f"{path}, {bad.said}" in message
    assert re.search(r"\. [A-Z]\w+.*\.$", message), "no hint"
    assert [p.name for p in tmp_path.iterdir()] == ["bad.parquet"]


@pytest.mark.parametrize("command", ["train", "ope", "simulate-bidding"])
@pytest.mark.parametrize(("content", "said"), [(b"", "the file is empty"), (b"PAR1 cut", "damaged")])
def test_a_broken_file_is_named(
    command: str, content: bytes, said: str, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bad.parquet"
    path.write_bytes(content)
    message = complaint(*call(command, *TABLE_OPTION[command], path, *MORE[command], cwd=tmp_path))
    assert str(path) in message
    assert said in message
    assert [p.name for p in tmp_path.iterdir()] == ["bad.parquet"]


def test_unknown_keys_and_names_get_the_nearest(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("features: {numeric: [{name: a}]}\ntraning: {epochs: 1}\n")
    for arguments, said in {
        ("train", "--config", config): "unknown key 'traning'. Did you mean 'training'",
        ("train", "--set", "training.epoch=1"): "Did you mean 'epochs'",
        ("train", "--set", "model.name=mdfa"): "Did you mean 'mdaf'",
        ("train", "--set", "model.widht=1"): "Did you mean 'width'",
        ("ope", "--set", "policy.name=gredy"): "Did you mean 'greedy'",
        ("simulate-bidding", "--budget", "1", "--set", "max_bit=1"): "Did you mean 'max_bid'",
    }.items():
        assert said in complaint(*call(*arguments, cwd=tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["c.yaml"]


def test_an_artifact_of_something_else_is_refused(logs: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"weights": torch.ones(2)}, path)
    for arguments in (
        ("calibrate", path),
        ("ope", "--logs", logs / "bandit.parquet", "--policy", path),
        ("simulate-bidding", "--budget", "5", "--model", path),
    ):
        message = complaint(*call(*arguments, cwd=tmp_path))
        assert f"{path}: this is another torch file" in message


@pytest.mark.parametrize("budget", ["-5", "0", "nan"])
def test_a_budget_must_be_above_zero(budget: str, tmp_path: Path) -> None:
    message = complaint(*call("simulate-bidding", "--budget", budget, cwd=tmp_path))
    assert "must be above 0. Give for example --budget 1000" in message


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", str(tmp_path / "none.parquet"), "--debug"])
    assert type(result.exception).__name__ == "DataError"


@pytest.mark.slow
def test_a_run_killed_with_sigkill_resumes_to_the_same_weights(
    logs: Path, tmp_path: Path, small: tuple[str, ...]
) -> None:
    overrides = sets((*small, "training.checkpoint_steps=10", "training.patience=99"))

    def command(name: str) -> list[str]:
        paths = ["--model", str(tmp_path / f"{name}.pt"), "--out", str(tmp_path / name)]
        return ["train", str(logs / "impressions.parquet"), *paths, *overrides, "--json", "--quiet"]

    program = [sys.executable, "-c", "from ctrkit.cli import main; main()"]
    process = subprocess.Popen(
        [*program, *command("killed")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    assert not (tmp_path / "killed.pt").exists()
    (code, whole, _), (again_code, again, _) = (call(*command(name)) for name in ("whole", "killed"))
    assert code == again_code == 0
    assert not json.loads(whole)["resumed"]
    assert json.loads(again)["resumed"]
    first, second = (Artifact.load(tmp_path / f"{name}.pt").weights for name in ("whole", "killed"))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left == {path.name for path in (tmp_path / "whole").iterdir()}
