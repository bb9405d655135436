"""`ctrkit summary` of every kind of run folder, whatever the last run of a command was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit
import ctrkit.api
from ctrkit.api import summary as summaries
from ctrkit.api.run_folder import RunFolder
from ctrkit.errors import DataError
from ctrkit.reports.cells import text
from ctrkit.tables import write_json

API = Path(ctrkit.api.__path__[0])
FEW = [
    "rows=200",
    "attributed_rows=5",
    "repeats=2",
    "grid=3",
    "dependence_rows=10",
    "features=[user_age]",
    "map=none",
]
MARKET = {"market": "auctions=1500,ads=3,dimensions=3,click_rate=0.05", "budget": 3.0}


@pytest.fixture
def _numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures and pages take most of a run's time, and `summary` reads `metrics.json`."""

    def write(run: RunFolder, settings: object, result: Any, **_: Any) -> None:
        if run.home is not None:
            write_json({"command": run.command, **result.to_dict()}, run.home / "metrics.json")

    monkeypatch.setattr(RunFolder, "write", write)


def curves() -> pl.DataFrame:
    return pl.DataFrame({"campaign": ["a", "b"], "spend": [3.0, 4.0], "value": [1.0, 2.0]})


def bids() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    bid = rng.uniform(0, 2, 600)
    reward = (rng.random(600) < 0.3).astype(float)
    return pl.DataFrame({"bid": bid, "density": 0.5, "reward": reward, "target_bid": bid * 0.9})


def simulated(out: Path, *overrides: str, **given: Any) -> None:
    settings = ["strategies=[dual,linear]", "compare_models=false", *overrides]
    ctrkit.simulate_bidding(out=out, overrides=settings, **{**MARKET, **given})


def two_rankers() -> pl.DataFrame:
    """Clicks on the candidates of requests, and two columns of scores."""
    rng = np.random.default_rng(0)
    request, score = np.repeat(np.arange(300), 5), rng.random(1500)
    return pl.DataFrame(
        {
            "request_id": request,
            "click": (rng.random(1500) < score / 2).astype(int),
            "a": rng.random(1500),
            "b": score,
        }
    )


RUNS: dict[str, tuple[str, Callable[[Path, Path, Path], Any]]] = {
    "a look at a table": (
        "inspect", lambda model, logs, out: ctrkit.inspect(logs / "impressions.parquet", out=out)
    ),
    "a simulation": ("simulate-bidding", lambda model, logs, out: simulated(out)),
    "a sweep": ("simulate-bidding", lambda model, logs, out: simulated(out, budget="1:4:3")),
    "a simulation over seeds": ("simulate-bidding", lambda model, logs, out: simulated(out, "seeds=2")),
    "a simulation that bought nothing": (
        "simulate-bidding", lambda model, logs, out: simulated(out, "auction.hard_floor=1e6")
    ),
    "a replay without clicks": (
        "simulate-bidding",
        lambda model, logs, out: simulated(
            out, market=None, auctions=pl.DataFrame({"market_price": [1.0] * 50, "pctr": [0.1] * 50})
        ),
    ),
    "a watch": ("monitor", lambda model, logs, out: ctrkit.monitor(model=model, out=out, by="week")),
    "two rankers": (
        "interleave", lambda model, logs, out: ctrkit.interleave(two_rankers(), a="a", b="b", out=out)
    ),
    "a plan": ("plan-budget", lambda model, logs, out: ctrkit.plan_budget(5.0, curves=curves(), out=out)),
    "an audit": ("check-log", lambda model, logs, out: ctrkit.check_log(logs / "bandit.parquet", out=out)),
    "a policy's value": (
        "ope", lambda model, logs, out: ctrkit.evaluate_policy(logs / "bandit.parquet", "uniform", out=out)
    ),
    "several policies": (
        "ope",
        lambda model, logs, out: ctrkit.evaluate_policy(
            logs / "bandit.parquet", ["uniform", "logging"], out=out
        ),
    ),
    "bids": (
        "ope", lambda model, logs, out: ctrkit.evaluate_policy(bids(), out=out, overrides=["bid_range=[0,2]"])
    ),
    "an evaluation": (
        "evaluate",
        lambda model, logs, out: ctrkit.evaluate(model, out=out, overrides=["draws=50"]),
    ),
    "an explanation": (
        "explain",
        lambda model, logs, out: ctrkit.explain(
            model, out=out, overrides=FEW
        ),
    ),
    "rows explained": (
        "explain",
        lambda model, logs, out: ctrkit.explain(model, logs / "impressions.parquet", rows=[3], out=out),
    ),
}  # fmt: skip


@pytest.mark.usefixtures("_numbers_alone")
@pytest.mark.filterwarnings("ignore::ctrkit.evaluation.EvaluationWarning")
@pytest.mark.parametrize("kind", RUNS)
def test_every_kind_of_run_has_its_rows(kind: str, trained: Path, logs: Path, tmp_path: Path) -> None:
    command, run = RUNS[kind]
    run(trained, logs, tmp_path / "run")
    result = ctrkit.summary(tmp_path)
    assert set(result.runs) == {command}
    rows = result.report().tables[0].rows
    assert rows
    assert all(text(cell) for row in rows for cell in row[:2])
    assert not any(summaries._ELSEWHERE in row for row in rows), rows
    json.loads(result.to_json())


def test_training_and_calibration_have_their_rows(trained: Path) -> None:
    rows = ctrkit.summary(trained.parent).report().tables[0].rows
    assert [row[0] for row in rows] == [
        "AUC of click", "AUC of conversion", "ECE of click", "PCOC of click", "ECE of conversion",
        "PCOC of conversion",
    ]  # fmt: skip


def test_every_command_that_writes_a_run_is_known() -> None:
    written = set()
    for file in API.glob("*.py"):
        written |= set(re.findall(r'run_folder\(out, "([\w-]+)"\)', file.read_text()))
    assert written == set(summaries._ROWS) - {"ope check"}  # the name in older folders
    assert written - {"prepare", "train", "calibrate", "recalibrate", "learn-policy"} == {
        command for command, _ in RUNS.values()
    }


def test_what_is_not_defined_not_known_or_not_complete_is_no_error(tmp_path: Path) -> None:
    contents = {
        "train": {"metrics": {"click": {"auc": None, "positives": 0, "rows": 7}}},
        "recalibrate": {"tasks": {"click": {"rows": 7, "outcome": "kept", "reason": "less loss"}}},
        "ope": {"logging": {"value": 0.5, "low": None, "high": None}, "policies": []},
        "fly": {"height": 3},
        "evaluate": {"tasks": 3},
    }
    for command, content in contents.items():
        write_json({"command": command, **content}, tmp_path / command / "metrics.json")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("seed: 0\n")
    result = ctrkit.summary(tmp_path)
    assert [tuple(map(text, row)) for row in result.report().tables[0].rows] == [
        ("AUC of click", "–", "0 positives of 7 test rows"),
        ("click, on 7 new rows", "kept", "less loss"),
        ("ctrkit evaluate", "see its report", "written by another version"),
        ("value of the logging policy", "0.5", ""),
        ("ctrkit fly", "see its report", "written by another version"),
    ]
    assert result.report().notes == ("begun: this run is not complete and was left out.",)


def test_one_run_in_place_of_a_folder_of_runs_is_told_as_such(tmp_path: Path) -> None:
    ctrkit.plan_budget(3.0, curves=pl.DataFrame({"spend": [4.0], "value": [2.0]}), out=tmp_path / "plan")
    with pytest.raises(DataError, match="this is the folder of one run") as error:
        ctrkit.summary(tmp_path / "plan")
    assert error.value.hint == f"Give {tmp_path}"
