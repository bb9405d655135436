"""Which estimates a log's columns and a plan call for, and what their groups hold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.ope import evaluate, read_bandit_log
from ctrkit.ope.estimators.base import Estimate, LoggedRows
from ctrkit.ope.estimators.importance import InversePropensityScoring, OnPolicy, logging_value
from ctrkit.ope.estimators.rows import Models, evaluated_rows
from ctrkit.ope.evaluation.other_estimates import OtherEstimates
from ctrkit.ope.evaluation.plan import Plan
from ctrkit.ope.intervals.interval import ConfidenceInterval
from ctrkit.policies import UniformPolicy
from tests.ope.estimates import once

ROWS = 300
OWN = Estimate("on-policy", 0.5, ConfidenceInterval(0.4, 0.6, ""), 0.0, ConfidenceInterval(0, 0, ""))


def draw() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "action": rng.integers(0, 3, ROWS),
            "propensity": np.full(ROWS, 1 / 3),
            "reward": rng.integers(0, 2, ROWS).astype(float),
            "candidates": [[0, 1, 2]] * ROWS,
            "logging_probabilities": [[1 / 3] * 3] * ROWS,
            "candidate_brand": [[0, 0, 1]] * ROWS,
            "slate_id": np.arange(ROWS) // 3,
            "position": np.arange(ROWS) % 3 + 1,
            "logger_id": rng.integers(0, 2, ROWS),
            "target_probability": rng.uniform(0, 1, ROWS),
        }
    )


def plan(columns: set[str], modelled: bool = True, **more: object) -> Plan:
    return Plan(("p",), (modelled,), ("ips",), log_columns=frozenset(columns), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "titles"),
    [
        (plan(set()), []),
        (plan({"slate_id"}), []),
        (plan({"slate_id", "position"}), ["Value of a page"]),
        (plan({"logger_id"}), ["Several logging policies"]),
        (plan(set(), outcomes=("reward",)), ["Outcomes"]),
        (plan(set(), action_feature="brand"), ["By the action's brand"]),
        (plan(set(), modelled=False, action_feature="brand"), []),
        (
            plan({"slate_id", "position", "logger_id"}, outcomes=("click",), action_feature="brand"),
            ["Value of a page", "Several logging policies", "Outcomes", "By the action's brand"],
        ),
    ],
)
def test_columns_and_plan_tell(made: Plan, titles: list[str]) -> None:
    whole = OtherEstimates(made, 0)
    parts = [OtherEstimates(made, 0) for _ in range(2)]
    for found, cut in ((whole, slice(0, ROWS)), (parts[0], slice(0, 150)), (parts[1], slice(150, ROWS))):
        batch = read_bandit_log(draw()[cut])

        def on_block(place: int, block: slice, *more: object, mine: OtherEstimates = found) -> None:
            mine.update_block(batch, block, *more)  # type: ignore[arg-type]  # noqa: B023

        found.update(batch, evaluated_rows(batch, [UniformPolicy()], Models(), ("action",), on_block))
    parts[0].merge(parts[1])
    groups = whole.groups(0.9, OWN)
    assert [one.title for one in groups] == titles
    for one, two in zip(groups, parts[0].groups(0.9, OWN), strict=True):
        assert one.notes == two.notes
        for mine, theirs in zip((*one.estimates, *one.logging), (*two.estimates, *two.logging), strict=True):
            assert mine.value == pytest.approx(theirs.value, rel=1e-9)
            assert mine.interval.high == pytest.approx(theirs.interval.high, rel=1e-9)
    for one in groups:
        # The uniform policy is the logging policy.
        assert {estimate.estimator for estimate in one.estimates} <= {*one.meaning, "reward"}
        for estimate in one.estimates:
            if estimate.estimator != "weighted-ips":  # whose loggers do not count by their rows
                assert estimate.difference == pytest.approx(0, abs=1e-9)


def test_notes_of_groups_reach_the_evaluation() -> None:
    found = evaluate(read_bandit_log(draw()), ["target_probability"], ["ips"]).to_dict()
    assert any("marginal_propensity" in note for note in found["notes"])
    assert any("logger_probabilities" in note for note in found["notes"])


@pytest.mark.parametrize("users", [False, True])
def test_logging_value_is_that_of_the_logging_policys_own_estimator(users: bool) -> None:
    rng = np.random.default_rng(1)
    codes = np.arange(ROWS) // 3 if users else None
    rows = once(LoggedRows, rng.gamma(1, 1, ROWS), (rng.random(ROWS) < 0.2).astype(float), 9.0, users=codes)
    for reward_range in (None, (0.0, 1.0)):
        ips, own = InversePropensityScoring(reward_range), OnPolicy(reward_range)
        ips.update(rows)
        own.update(rows)
        one, two = logging_value(ips, 0.9), own.result(0.9)
        assert (one.value, one.estimator) == (pytest.approx(two.value), "on-policy")
        assert (one.interval.low, one.interval.high) == pytest.approx((two.interval.low, two.interval.high))
        assert one.interval.method == two.interval.method
