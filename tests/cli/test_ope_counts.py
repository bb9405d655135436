"""`ctrkit ope` on logs of which rows were dropped, and on what is asked for and cannot be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ctrkit.cli import app
from ctrkit.ope import evaluate, read_bandit_log
from ctrkit.policies import UniformPolicy

RATES = np.array([0.1, 0.2, 0.3])


def thinned(rows: int = 600, **columns: Any) -> pl.DataFrame:
    """Three ads chosen evenly; one row in two was dropped where the reward was 0."""
    rng = np.random.default_rng(0)
    action = rng.integers(3, size=2 * rows)
    reward = (rng.random(2 * rows) < RATES[action]).astype(int)
    kept = (reward == 1) | (rng.random(2 * rows) < 0.5)
    table = pl.DataFrame(
        {
            "action": action,
            "propensity": np.full(2 * rows, 1 / 3),
            "reward": reward,
            "x": rng.normal(size=2 * rows),
            "candidates": [[0, 1, 2]] * (2 * rows),
            "p_drop": np.where(reward == 1, 0.0, 0.5),
            "pi": np.where(action == 2, 0.6, 0.2),
        }
    )
    return table.filter(pl.Series(kept)).head(rows).with_columns(**columns)


def run(folder: Path, table: pl.DataFrame, *options: str) -> Any:
    table.write_parquet(folder / "log.parquet")
    given = ["--logs", str(folder / "log.parquet"), "--out", str(folder / "run")]
    return CliRunner().invoke(app, ["ope", *given, "--json", *options])


def told(folder: Path, table: pl.DataFrame, *options: str) -> dict[str, Any]:
    found = run(folder, table, *options)
    assert found.exit_code == 0, found.stderr
    content: dict[str, Any] = json.loads(found.stdout)
    return content


@pytest.mark.parametrize("interval", ["bootstrap", "betting"])
def test_policies_on_a_thinned_log(interval: str, tmp_path: Path) -> None:
    options = ("--interval", interval, "--set", "reward_model=logistic")
    found = told(tmp_path, thinned(), "--policy", "uniform", "--policy", "action:2", *options)
    assert found["logging"]["low"] <= 0.2 <= found["logging"]["high"]
    for policy, truth in zip(found["policies"], (0.2, 0.3), strict=True):
        assert [one["estimator"] for one in policy["estimates"]] == ["ips", "snips", "dm", "dr"]
        for one in policy["estimates"]:
            assert one["value"] == pytest.approx(truth, rel=0.2)
    assert {one["name"] for one in found["ranking"]["policies"]} == {"uniform", "action:2", "logging"}
    others = next((note for note in found["notes"] if note.startswith("There is no")), "")
    assert ("dm" in others) is (interval == "betting")


def test_what_no_policy_can_have_is_an_error(tmp_path: Path) -> None:
    column = ("--target-column", "pi")
    for options, word in (
        (("--estimator", "dr"), "estimator dr needs a policy's probabilities of all candidates"),
        (("--estimator", "ips", "--estimator", "mrdr"), "estimator mrdr needs"),
        (("--action-feature", "brand"), "the weights of 'brand' need a policy's probabilities"),
    ):
        found = run(tmp_path, thinned(), *column, *options)
        assert found.exit_code == 2
        assert word in " ".join(found.stderr.split())
    found = run(tmp_path, thinned(), "--policy", "uniform", "--action-feature", "brand")
    assert found.exit_code == 2
    assert "logging_probabilities" in found.stderr


def test_what_some_policy_cannot_have_is_told() -> None:
    log = read_bandit_log(thinned())
    found = evaluate(log, [UniformPolicy(), "pi"], ["ips", "dr"], reward_model="logistic")
    estimators = [[one.estimator for one in policy.estimates] for policy in found.policies]
    assert estimators == [["ips", "dr"], ["ips"]]
    assert any(note.startswith("For pi there is no estimate by dr") for note in found.notes)
    # By default a column has what it can have, and it is said why not more.
    plain = evaluate(log, ["pi"])
    assert [one.estimator for one in plain.policies[0].estimates] == ["ips", "snips"]
    assert sum("there is no estimate by dm, dr" in note for note in plain.notes) == 1


def test_settings_of_which_nothing_is_made_are_told(tmp_path: Path) -> None:
    options = ("--set", "folds=4", "--set", "context_columns=[x]")
    found = told(tmp_path, thinned(), "--target-column", "pi", *options)
    assert "Not used: context_columns, folds." in " ".join(found["notes"])
    # Missing propensities are estimated by the context.
    lacking = thinned().drop("propensity")
    found = told(tmp_path, lacking, "--target-column", "pi", "--set", "context_columns=[x]")
    assert not any("Not used" in note for note in found["notes"])


def test_slots_of_a_page_are_dropped_together(tmp_path: Path) -> None:
    place = pl.int_range(pl.len())
    pages = thinned().with_columns(slate_id=place // 2, position=place % 2 + 1)
    found = run(tmp_path, pages, "--policy", "uniform", "--estimator", "ips")
    assert found.exit_code == 2
    assert "were dropped with different probabilities" in " ".join(found.stderr.split())
