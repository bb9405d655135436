"""Every command with a model and rows knows the training rows, or stands in a list with the reason."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import ctrkit
from ctrkit.errors import DataError
from tests.api.test_learn_policy import QUICK, places

pytestmark = pytest.mark.filterwarnings("ignore:.*:ctrkit.evaluation.measures.EvaluationWarning")

# Commands that take a model or a policy, and rows, and need not know: why.
EXCEPTIONS = {
    "predict": "it writes probabilities and judges nothing",
    "train": "`start` and `resume` go on with a model; the rows are training rows, and new ones are held out",
    "plan_budget": "the same note as of `simulate_bidding`, from the same reader of auctions",
    "prepare": "it writes rows for a training",
    "export_model": "it compares a graph with the model, and judges neither",
    "push_features": "it writes features and judges nothing",
    "list_models": "it takes neither a model nor a policy that was trained",
}


def _evaluated(model: str, rows: pl.DataFrame) -> list[str]:
    found = ctrkit.evaluate(model, rows, draws=20)
    return [*found.notes, *(task.verdict.sentence for task in found.tasks.values() if task.verdict)]


def _refused(command: Callable[..., Any]) -> Callable[[str, pl.DataFrame], list[str]]:
    def said(model: str, rows: pl.DataFrame) -> list[str]:
        with pytest.raises(DataError) as caught:
            command(model, rows, save=f"{model}.new")
        return [str(caught.value)]

    return said


TOLD: dict[str, Callable[[str, pl.DataFrame], list[str]]] = {
    "evaluate": _evaluated,
    "calibrate": _refused(ctrkit.calibrate),
    "recalibrate": _refused(ctrkit.recalibrate),
    "explain": lambda model, rows: list(
        ctrkit.explain(model, rows, most_rows=200, repeats=2, attributed_rows=5, map="none", top=0).notes
    ),
    "monitor": lambda model, rows: list(ctrkit.monitor(rows, model=model, by="week").notes),
    "simulate_bidding": lambda model, rows: list(
        ctrkit.simulate_bidding(
            rows.with_columns(market_price=pl.lit(0.001)),
            model,
            1.0,
            strategies=["dual"],
            compare_models=False,
        ).notes
    ),
}
# Of bandit logs, tested below.
OF_LOGS = {"evaluate_policy", "learn_policy"}


def test_every_command_with_a_model_and_rows_tells_or_is_an_exception() -> None:
    taking = set()
    for name in ctrkit.__all__:
        if not inspect.isfunction(command := getattr(ctrkit, name)):
            continue
        names = set(inspect.signature(command).parameters)
        if names & {"model", "policy"} and names & {"data", "logs", "auctions", "table", "frame"}:
            taking.add(name)
    assert taking == {*TOLD, *OF_LOGS, *EXCEPTIONS}


@pytest.mark.parametrize("command", TOLD)
def test_training_rows_are_told(command: str, trained: Path, logs: Path) -> None:
    rows = pl.read_parquet(logs / "impressions.parquet").sort("timestamp").head(2000)
    said = TOLD[command](str(trained), rows)
    assert any("trained on about" in one and "of these" in one for one in said)


@pytest.mark.slow
def test_a_policy_that_starts_from_another_has_seen_its_rows_too(tmp_path: Path) -> None:
    asked = {"overrides": [*QUICK, "split.by=random"], "model": tmp_path / "first.pt"}
    first = ctrkit.learn_policy(places(), **asked)
    other = places(seed=1).with_columns(pl.col("timestamp") + 1_000_000)
    again = ctrkit.learn_policy(
        other, policy=str(tmp_path / "first.pt"), overrides=QUICK, model=tmp_path / "second.pt"
    )
    assert again.evaluation.evaluation.policies[0].verdict.verdict != "do not trust"
    for model in ("first.pt", "second.pt"):
        asked = {"policy": str(tmp_path / model), "estimators": ["snips"], "unseen": None}
        whole = ctrkit.evaluate_policy(places(), **{**asked, "unseen": False}).evaluation.policies[0]
        assert "was trained on about" in whole.verdict.reason
        # Divided at random: the held-out rows are known one by one.
        left = ctrkit.evaluate_policy(places(), **{**asked, "unseen": True}).evaluation.policies[0]
        assert first.rows["test"] - 30 <= left.diagnostics.rows <= first.rows["test"]
        assert "was trained on" not in left.verdict.reason
