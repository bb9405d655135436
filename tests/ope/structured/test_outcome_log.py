"""Outcomes read from a log's columns: against the arrays fed by hand, SNIPS, and known ratios."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.estimators.base import LoggedRows
from ctrkit.ope.estimators.doubly_robust import DoublyRobust
from ctrkit.ope.estimators.importance import (
    InversePropensityScoring,
    OnPolicy,
    SelfNormalizedInversePropensityScoring,
)
from ctrkit.ope.logs.bandit_log import BanditLog, read_bandit_log
from ctrkit.ope.structured.outcome_log import MEANING, OutcomeLog
from ctrkit.ope.structured.outcomes import RATIOS, OutcomeSums
from tests.ope.estimates import numbers, once

OLD, NEW = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
CLICK, BUY, WORTH, COST = (
    np.array(values) for values in ([0.2, 0.4, 0.6], [0.3, 0.5, 0.4], [5.0, 8.0, 6.0], [0.5, 1.0, 1.5])
)

NAMES = ("click", "conversion", "value", "cost")
RANGE = {"value": (0.0, 16.0)}
TRUTH = {
    "click": NEW @ CLICK,
    "conversion": NEW @ (CLICK * BUY),
    "value": NEW @ (CLICK * BUY * WORTH),
    "cost": NEW @ (CLICK * COST),
}


def draw(seed: int, rows: int = 500) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    action = rng.choice(3, rows, p=OLD)
    click = rng.random(rows) < CLICK[action]
    conversion = click & (rng.random(rows) < BUY[action])
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, rows // 3, rows),
            "action": action,
            "propensity": OLD[action],
            "click": click.astype(float),
            "conversion": conversion,
            "value": conversion * WORTH[action] * rng.uniform(0, 2, rows),
            "cost": click * COST[action],
            "target_probability": NEW[action],
        }
    )


def rows_of(log: BanditLog) -> LoggedRows:
    weights = log.target_probability() / log.propensity
    return once(LoggedRows, weights, log.reward, 2.5, users=log.users)


def fed(table: pl.DataFrame, cuts: list[int], *settings: Any, q: Any = None, **more: Any) -> OutcomeLog:
    found = OutcomeLog(*settings, **more)
    ends = [0, *cuts, table.height]
    for start, end in itertools.pairwise(ends):
        log = read_bandit_log(table[start:end])
        found.update(log, rows_of(log), q(log) if q is not None else None)
    return found


def model(log: BanditLog) -> dict[str, Any]:
    action = log.table["action"].to_numpy()
    ones = np.ones(len(log))
    return {
        "click": (0.9 * CLICK[action], 0.9 * (NEW @ CLICK) * ones),
        "conversion": ((CLICK * BUY)[action], (NEW @ (CLICK * BUY)) * ones),
        "value": (0 * ones, 0 * ones),
        "cost": (0.5 * ones, 0.5 * ones),
    }


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("kind", [SelfNormalizedInversePropensityScoring, DoublyRobust])
def test_columns_in_batches_are_the_arrays(users: bool, kind: Any) -> None:
    table = draw(0) if users else draw(0).drop("user_id")
    q = model if kind is DoublyRobust else None
    log = read_bandit_log(table)
    ranges = {"click": (0.0, 1.0), "conversion": (0.0, 1.0), **RANGE, "cost": None}
    columns = {"click": log.reward, **{name: table[name].cast(pl.Float64).to_numpy() for name in NAMES[1:]}}
    weights = rows_of(log).weights
    hand: dict[str, LoggedRows] = {}
    for name, values in columns.items():
        predictions = q(log)[name] if q else (None, None)
        hand[name] = once(LoggedRows, weights, values, 2.5, *predictions, log.users)
    should, logging = OutcomeSums(ranges, kind), OutcomeSums(ranges, OnPolicy)
    for outcomes in (should, logging):
        outcomes.update(hand)
    for cuts in ([], [1, 100, 333]):
        found = fed(table, cuts, NAMES, kind, RANGE, q=q)
        result = found.result(0.9)
        assert result.ranges == ranges
        for mine, theirs in ((result.policy, should.result(0.9)), (result.logging, logging.result(0.9))):
            assert [one.estimator for one in mine] == [*NAMES, *RATIOS]
            both = [*theirs.outcomes.values(), *theirs.ratios.values()]
            np.testing.assert_allclose(numbers(mine), numbers(both), rtol=1e-9, atol=1e-12)
            assert [one.interval.method for one in mine] == [one.interval.method for one in both]
        assert numbers(found.result(0.9).policy) == numbers(result.policy)
    assert {*NAMES, *RATIOS} == set(MEANING)
    parts = [fed(table[a:b], [], NAMES, kind, RANGE, q=q) for a, b in ((300, 500), (0, 40), (40, 300))]
    for part in parts[1:]:
        parts[0].merge(part)
    np.testing.assert_allclose(
        numbers(parts[0].result(0.9).policy), numbers(result.policy), rtol=1e-9, atol=1e-12
    )


def test_means_are_those_of_the_estimator_and_ratios_theirs() -> None:
    table = draw(1)
    weights = (table["target_probability"] / table["propensity"]).to_numpy()
    found = fed(table, [50], NAMES).result()
    values = {one.estimator: one.value for one in found.policy}
    logged = {one.estimator: one.value for one in found.logging}
    for name in NAMES:
        column = table[name].cast(pl.Float64).to_numpy()
        assert values[name] == pytest.approx(weights @ column / weights.sum(), rel=1e-12)
        assert logged[name] == pytest.approx(column.mean(), rel=1e-12)
    for name, (above, below) in RATIOS.items():
        assert values[name] == pytest.approx(values[above] / values[below], rel=1e-12)
        assert logged[name] == pytest.approx(logged[above] / logged[below], rel=1e-12)
    for one in found.policy:
        assert one.difference == pytest.approx(values[one.estimator] - logged[one.estimator], abs=1e-12)
    for one in found.logging:
        assert one.difference == pytest.approx(0, abs=1e-12)


def test_agrees_with_obp() -> None:
    ope = pytest.importorskip("obp.ope")
    table = draw(2)
    found = fed(table, [77], NAMES).result()
    for one in found.policy[: len(NAMES)]:
        expected = ope.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(
            reward=table[one.estimator].cast(pl.Float64).to_numpy(),
            action=table["action"].to_numpy(),
            pscore=table["propensity"].to_numpy(),
            action_dist=np.repeat(NEW[None, :, None], table.height, axis=0),
            position=np.zeros(table.height, dtype=int),
        )
        assert one.value == pytest.approx(expected, rel=1e-9)


def test_intervals_cover_the_truth() -> None:
    truth = {**TRUTH, **{name: TRUTH[above] / TRUTH[below] for name, (above, below) in RATIOS.items()}}
    covered = Counter[str]()
    for seed in range(60):
        table = draw(seed + 10, 800).drop("user_id")
        for one in fed(table, [400], NAMES, ranges=RANGE).result().policy:
            covered[one.estimator] += one.interval.low <= truth[one.estimator] <= one.interval.high
    # 57 of 60 in expectation: below 51 with a probability of 0.6 %.
    assert set(covered) == set(truth)
    assert min(covered.values()) >= 51, covered


@pytest.mark.parametrize("users", [False, True])
def test_dropped_rows_count_as_many(users: bool) -> None:
    table = draw(3) if users else draw(3).drop("user_id")
    again = table["action"] == 1
    expected = OutcomeLog(NAMES)
    log = read_bandit_log(pl.concat([table, table.filter(again)]))
    expected.update(log, rows_of(log))
    found = OutcomeLog(NAMES)
    for part in (table[:200], table[200:]):
        log = read_bandit_log(part)
        rows = rows_of(log)
        counts = 1.0 + (part["action"] == 1).to_numpy()
        found.update(log, once(LoggedRows, rows.weights, rows.rewards, 2.5, counts=counts))
    should = [one.value for one in expected.result().policy]
    np.testing.assert_allclose([one.value for one in found.result().policy], should, rtol=1e-12)


def test_a_column_is_binary_only_if_all_of_it_is() -> None:
    table = draw(4).drop("user_id").with_columns(pl.Series("visits", [1.0] * 300 + [2.0] * 200))
    found = fed(table, [300], ["visits"], InversePropensityScoring)
    assert found.result().ranges == {"visits": None}
    assert fed(table[:300], [100], ["visits"]).result().ranges == {"visits": (0.0, 1.0)}


@pytest.mark.parametrize(
    ("column", "value", "said", "row"),
    [
        ("cost", "dear", "not a number", 12),
        ("cost", None, "missing", 12),
        ("cost", float("inf"), "not a finite number", 12),
        ("value", -1.0, "outside the range from 0 to 16", 12),
        ("value", 17.0, "outside the range from 0 to 16", 12),
    ],
)
def test_bad_outcomes_are_named(tmp_path: Any, column: str, value: Any, said: str, row: int) -> None:
    table = draw(5, 20)
    values = [str(one) for one in table[column]] if isinstance(value, str) else table[column].to_list()
    values[row] = value
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    good = (
        table.with_columns(pl.Series(column, [str(v) for v in table[column]]))
        if isinstance(value, str)
        else table
    )
    good.write_parquet(first)
    table.with_columns(pl.Series(column, values)).write_parquet(second)
    log = read_bandit_log(second if isinstance(value, str) else [first, second])
    with pytest.raises(DataError, match=said) as caught:
        OutcomeLog(NAMES, ranges=RANGE).update(log, rows_of(log))
    if not isinstance(value, str):
        assert (caught.value.file, caught.value.row) == (str(second), row)
    assert caught.value.column == column


def test_missing_outcomes_and_odd_settings_are_refused() -> None:
    log = read_bandit_log(draw(6))
    with pytest.raises(DataError, match="Did you mean 'conversion'") as caught:
        OutcomeLog(["conversions"]).update(log, rows_of(log))
    assert caught.value.column == "conversions"
    with pytest.raises(ConfigError, match="no outcomes"):
        OutcomeLog([])
    with pytest.raises(ConfigError, match="Did you mean 'value'"):
        OutcomeLog(["value"], ranges={"valu": (0, 1)})
    with pytest.raises(ConfigError, match="needs the outcome 'cost'"):
        OutcomeLog(["value"], ratios={"roas": ("value", "cost")})
