"""`ctrkit check-log`, and `ctrkit ope` beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.terminal import call


def test_help_of_both() -> None:
    code, out, _ = call("ope", "--help")
    assert code == 0
    assert "--target-column" in out
    code, out, _ = call("check-log", "--help")
    assert code == 0
    for option in ("--format", "--json", "--quiet", "--debug", "--out"):
        assert option in out


def test_a_sound_log_exits_with_0_and_one_json_object(logs: Path, tmp_path: Path) -> None:
    code, out, err = call("check-log", logs / "bandit.parquet", "--out", tmp_path / "run", "--json")
    assert code == 0, err
    assert json.loads(out)["rows"] == 3000
    assert "Findings" in err
    assert (tmp_path / "run" / "report.html").exists()


def test_an_error_exits_with_1_after_the_report_is_written(logs: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(logs / "bandit.parquet")
    for name, part in {"a": table[:1500], "b": table[1500:].with_columns(event_id=pl.lit(1))}.items():
        part.with_columns(pl.col("event_id").cast(pl.Int64)).write_parquet(tmp_path / f"{name}.parquet")
    files = (tmp_path / "a.parquet", tmp_path / "b.parquet")
    for arguments in (files, (tmp_path / "*.parquet",)):
        code, out, _ = call("check-log", *arguments, "--out", tmp_path / "run")
        assert code == 1
        assert "1 error" in out
        assert "duplicates" in out
        content = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert (content["rows"], content["severity"]) == (3000, "error")
    code, out, err = call("check-log", *files, "--out", tmp_path / "run", "--quiet")
    assert (code, out, err) == (1, "", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.parquet",), "no such file"),
        (("none*.parquet",), "no file matches"),
        (("x*.txt", "--format", "dsjsn"), "Did you mean 'dsjson'"),
    ],
)
def test_what_cannot_be_read_exits_with_2_and_writes_nothing(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call("check-log", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert not list(tmp_path.iterdir())


def test_ope_itself_reads_a_glob(logs: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(logs / "bandit.parquet").with_columns(target_probability=pl.col("propensity"))
    table[:1000].write_parquet(tmp_path / "1.parquet")
    table[1000:].write_parquet(tmp_path / "2.parquet")
    arguments = ("--target-column", "target_probability", "--json", "--quiet", "--out", tmp_path / "run")
    code, out, err = call("ope", "--logs", tmp_path / "*.parquet", *arguments)
    assert code == 0, err
    assert json.loads(out)["policies"][0]["diagnostics"]["rows"] == 3000


def bids(path: Path, broken: int) -> Path:
    """A log of bids as JSON lines, with half a line before that of this number."""
    rng = np.random.default_rng(0)
    bid = rng.uniform(0, 2, 400)
    table = pl.DataFrame(
        {
            "bid": bid,
            "density": [0.5] * 400,
            "target_bid": rng.uniform(0.5, 1.5, 400),
            "reward": 1 * (bid > 1),
        }
    )
    lines = table.write_ndjson().splitlines()
    path.write_text("\n".join([*lines[:broken], lines[0][:20], *lines[broken:]]) + "\n")
    return path


@pytest.mark.parametrize("broken", [0, 5])
def test_broken_lines_of_a_log_of_bids_are_left_out_where_asked(broken: int, tmp_path: Path) -> None:
    log = bids(tmp_path / "bids.jsonl", broken)
    given = ("--logs", log, "--out", tmp_path / "run", "--json")
    code, out, _ = call("ope", *given)
    assert code == 2
    assert f"line {broken + 1} holds no JSON object" in json.loads(out)["error"]
    code, out, err = call("ope", *given, "--skip-bad-lines")
    assert code == 0, err
    notes = json.loads(out)["notes"]
    assert (
        sum(f"Broken lines left out: 1 of {log} (the first is line {broken + 1})" in one for one in notes)
        == 1
    )


@pytest.mark.slow
@pytest.mark.parametrize("broken", [0, 5])
def test_broken_lines_are_left_out_of_values_and_audits_where_asked(
    broken: int, logs: Path, tmp_path: Path
) -> None:
    table = pl.read_parquet(logs / "bandit.parquet")[:400]
    lines = table.write_ndjson().splitlines()
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join([*lines[:broken], lines[0][:20], *lines[broken:]]) + "\n")
    run = ("--out", tmp_path / "run", "--json")
    value = ("ope", "--logs", log, "--policy", "uniform", "--estimator", "ips", *run)
    for arguments in (value, ("check-log", log, *run)):
        code, out, _ = call(*arguments)
        assert code == 2
        assert f"line {broken + 1} holds no JSON object" in json.loads(out)["error"]
        code, out, err = call(*arguments, "--skip-bad-lines")
        assert code in (0, 1), err
        assert any("Broken lines left out: 1" in note for note in json.loads(out)["notes"])
    whole = tmp_path / "whole.jsonl"
    whole.write_text("\n".join(lines) + "\n")
    values = []
    for file, given in ((log, ["--skip-bad-lines"]), (whole, [])):
        _, out, _ = call("ope", "--logs", file, "--policy", "uniform", "--estimator", "ips", *run, *given)
        values.append(json.loads(out)["policies"][0]["estimates"])
    assert values[0] == values[1]


def test_a_log_of_bids_is_no_log_to_audit(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {"bid": [1.0, 2.0], "density": [0.5, 0.5], "reward": [0, 1], "target_bid": [1.0, 1.0]}
    )
    table.write_parquet(tmp_path / "bids.parquet")
    code, out, _ = call("check-log", tmp_path / "bids.parquet", "--out", tmp_path / "run", "--json")
    assert code == 2
    assert "this is a log of bids" in json.loads(out)["error"]
