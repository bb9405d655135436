"""`ctrkit ope check`, and `ctrkit ope` beside it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from ctrkit.cli import app


def call(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_help_of_both() -> None:
    code, out, _ = call("ope", "--help")
    assert code == 0
    assert "--target-column" in out
    assert "check" in out
    code, out, _ = call("ope", "check", "--help")
    assert code == 0
    for option in ("--format", "--json", "--quiet", "--debug", "--out"):
        assert option in out


def test_a_sound_log_exits_with_0_and_one_json_object(logs: Path, tmp_path: Path) -> None:
    code, out, err = call("ope", "check", logs / "bandit.parquet", "--out", tmp_path / "run", "--json")
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
        code, out, _ = call("ope", "check", *arguments, "--out", tmp_path / "run")
        assert code == 1
        assert "1 error" in out
        assert "duplicates" in out
        content = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert (content["rows"], content["severity"]) == (3000, "error")
    code, out, err = call("ope", "check", *files, "--out", tmp_path / "run", "--quiet")
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
    code, out, err = call("ope", "check", *arguments)
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
