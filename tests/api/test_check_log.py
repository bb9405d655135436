"""`ctrkit.check_log`: from a log to a run folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.errors import ConfigError


def test_the_run_folder_holds_what_the_result_says(logs: Path, tmp_path: Path) -> None:
    result = ctrkit.check_log(logs / "bandit.parquet", out=tmp_path / "run")
    content = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert content == {"command": "check-log", **json.loads(result.to_json())}
    assert not result.failed
    assert content["rows"] == 3000
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "Calibration of propensities by action" in page
    assert {file.name for file in (tmp_path / "run" / "figures").iterdir()} == {
        "propensities.svg", "over_time.svg",
    }  # fmt: skip
    findings = result.to_pandas()
    assert len(findings) == len(content["findings"])
    assert set(findings["severity"]) <= {"error", "warning", "fine"}


def test_errors_come_first_and_rows_are_named(logs: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(logs / "bandit.parquet")
    row = pl.int_range(pl.len())
    table.with_columns(propensity=pl.when(row.is_in([4, 8])).then(0.0).otherwise("propensity")).write_parquet(
        tmp_path / "bad.parquet"
    )
    result = ctrkit.check_log(tmp_path / "bad.parquet", out=tmp_path / "run")
    assert result.failed
    report = result.report()
    assert report.answer.startswith("Do not evaluate")
    sentence, severity, *_ = report.tables[0].rows[0]
    assert severity == "error"
    assert "Rows 4, 8 of bad.parquet." in " ".join(sentence.split())
    finding = result.to_dict()["findings"][0]
    assert finding["rows"] == [{"file": str(tmp_path / "bad.parquet"), "row": r} for r in (4, 8)]
    assert finding["columns"] == ("propensity",)


def test_a_log_in_memory_without_times_or_candidates(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    feedback = {
        "n_rounds": 500,
        "n_actions": 2,
        "action": rng.integers(2, size=500),
        "reward": rng.binomial(1, 0.2, size=500),
        "pscore": np.full(500, 0.5),
        "context": np.zeros((500, 1)),
    }
    result = ctrkit.check_log(feedback, out=tmp_path)
    assert result.to_dict()["severity"] == "warning"
    assert (tmp_path / "report.html").read_text().count("<svg") == 1


def test_bare_it_takes_the_sample_and_says_so(tmp_path: Path) -> None:
    result = ctrkit.check_log(out=tmp_path)
    assert "The log is the sample that ships with ctrkit." in result.report().notes
    assert not result.failed


def test_settings(logs: Path, tmp_path: Path) -> None:
    result = ctrkit.check_log(logs / "bandit.parquet", overrides=["bins=3"], out=tmp_path)
    assert len(result.to_dict()["time"]["rows"]) == 3
    assert "bins: 3" in (tmp_path / "config.yaml").read_text()
    with pytest.raises(ConfigError, match="Did you mean 'bins'"):
        ctrkit.check_log(logs / "bandit.parquet", overrides=["bin=3"], out=tmp_path)
    with pytest.raises(ConfigError, match="Did you mean 'criteo'"):
        ctrkit.check_log(logs / "bandit.parquet", format="critoe", out=tmp_path)
