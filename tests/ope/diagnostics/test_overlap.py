"""Diagnostics of weights by brute force, by other fits and by simulation."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from ctrkit.arrays import Floats, Integers
from ctrkit.ope.diagnostics.overlap import (
    ActionOverlap,
    MeanCheck,
    Residual,
    mean_check,
    pareto_shape,
)
from ctrkit.ope.estimators.base import LoggedRows
from ctrkit.ope.intervals.moments import Moments
from tests.ope.diagnostics.tails import weight_tail


def residual_check(weights: Floats, rewards: Floats, q: Floats, users: Integers | None = None) -> MeanCheck:
    moments = Moments()
    moments.update(weights, weights * (rewards - q), rewards, users, np.ones(len(weights)))
    return mean_check(moments)


def actions_of(weights: Floats, actions: pl.Series) -> pl.DataFrame:
    overlap = ActionOverlap()
    overlap.update(weights, actions, np.ones(len(weights)))
    return overlap.result()


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9, 1.3])
def test_pareto_shape_is_that_of_the_draws_and_of_maximum_likelihood(shape: float) -> None:
    draws = np.sort(stats.genpareto.rvs(shape, scale=3.0, size=3000, random_state=1))
    found = pareto_shape(draws, np.ones(len(draws)))
    assert found == pytest.approx(shape, abs=0.1)
    assert found == pytest.approx(stats.genpareto.fit(draws, floc=0)[0], abs=0.02)
    # The scale of the draws does not matter.
    assert pareto_shape(draws * 7, np.ones(len(draws))) == pytest.approx(found, rel=1e-9)


def test_tail_of_weights() -> None:
    rng = np.random.default_rng(2)
    shapes = {
        "bounded": weight_tail(rng.random(20_000)).shape,
        "exponential": weight_tail(rng.exponential(size=20_000)).shape,
        "no variance": weight_tail(rng.pareto(1 / 0.9, size=20_000)).shape,
    }
    assert shapes["bounded"] < -0.5
    assert abs(shapes["exponential"]) < 0.15
    assert 0.7 < shapes["no variance"] < 1.1
    tail = weight_tail(rng.exponential(size=900))
    assert tail.rows == 90
    assert np.isnan(weight_tail(np.tile([0.5, 1.5], 500)).shape)
    assert np.isnan(weight_tail(np.ones(8)).shape)
    assert np.isnan(weight_tail(np.zeros(1000)).shape)


def test_overlap_by_action_by_brute_force() -> None:
    rng = np.random.default_rng(3)
    actions = rng.choice(["a", "b", "c"], size=300, p=[0.6, 0.3, 0.1])
    weights = rng.exponential(size=300) * np.where(actions == "c", 5, 1)
    weights[actions == "b"] = 0
    found = actions_of(weights, pl.Series(actions))
    assert found["policy_share"].is_sorted(descending=True)
    assert found["policy_share"].sum() == pytest.approx(weights.mean())
    assert found["logged_share"].sum() == pytest.approx(1)
    assert sorted(found["action"]) == ["a", "b", "c"]
    for row in found.iter_rows(named=True):
        mine = weights[actions == row["action"]]
        assert row["rows"] == len(mine)
        assert row["policy_share"] == pytest.approx(mine.sum() / 300)
        assert row["max_weight"] == mine.max()
        assert row["mean_weight"] == pytest.approx(mine.mean())
        square = (mine**2).sum()
        expected = mine.sum() ** 2 / square if square else 0
        assert row["effective_sample_size"] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_overlap_of_parts_in_any_order_is_that_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    actions = pl.Series(rng.choice(["a", "b", "c", None], size=500, p=[0.6, 0.3, 0.05, 0.05]))
    counts = rng.integers(1, 4, size=500).astype(float)
    weights = rng.exponential(size=500)
    whole = ActionOverlap()
    whole.update(weights, actions, counts)
    parts = [ActionOverlap()]
    for where in np.split(rng.permutation(500), np.sort(rng.integers(0, 500, 4))):
        part = ActionOverlap()
        part.update(weights[where], actions[where], counts[where])
        parts.append(part)
    for other in parts[1:]:
        parts[0].merge(other)
    assert_frame_equal(parts[0].result(), whole.result())
    found = whole.result()
    assert found["rows"].sum() == counts.sum()
    for row in found.iter_rows(named=True):
        mine = np.array([action == row["action"] for action in actions])
        carried = weights[mine] * counts[mine]
        assert row["policy_share"] == pytest.approx(carried.sum() / counts.sum())
        assert row["mean_weight"] == pytest.approx(carried.sum() / counts[mine].sum())
        assert row["effective_sample_size"] == pytest.approx(carried.sum() ** 2 / (carried**2).sum())


def test_overlap_without_rows_is_a_table_without_rows() -> None:
    empty, one = ActionOverlap(), ActionOverlap()
    one.update(np.ones(2), pl.Series([3, 4]), np.ones(2))
    assert empty.result().columns == one.result().columns
    assert empty.result().is_empty()
    one.merge(empty)
    assert one.result()["rows"].to_list() == [1, 1]


def test_pareto_shape_of_repeated_values() -> None:
    rng = np.random.default_rng(9)
    values, counts = np.sort(rng.pareto(2, size=300)), rng.integers(1, 5, size=300)
    found = pareto_shape(values, counts.astype(float))
    assert found == pytest.approx(pareto_shape(np.repeat(values, counts), np.ones(counts.sum())), rel=1e-9)


def test_residuals() -> None:
    rng = np.random.default_rng(6)
    weights = rng.exponential(size=4000)
    q = rng.uniform(0.1, 0.3, size=4000)
    rewards = (rng.random(4000) < q).astype(float)
    right, wrong = residual_check(weights, rewards, q), residual_check(weights, rewards, q + 0.1)
    expected = stats.ttest_1samp(weights * (rewards - q), 0)
    assert right.mean == pytest.approx((weights * (rewards - q)).mean())
    assert right.z == pytest.approx(expected.statistic)
    assert abs(right.z) < 3
    assert wrong.mean == pytest.approx(right.mean - 0.1 * weights.mean())
    assert wrong.z < -5
    assert residual_check(weights, q, q).z == 0


def test_residuals_of_copied_rows_count_once() -> None:
    rng = np.random.default_rng(7)
    weights, rewards = rng.exponential(size=400), rng.random(400)
    q = np.full(400, 0.4)
    alone = residual_check(weights, rewards, q)
    copies = [np.tile(part, 4) for part in (weights, rewards, q)]
    together = residual_check(*copies, users=np.tile(np.arange(400), 4))
    assert together.z == pytest.approx(alone.z, rel=0.01)
    assert residual_check(*copies).z == pytest.approx(2 * alone.z, rel=0.01)


def test_residuals_spread_as_much_as_the_model_predicts_where_rewards_are_few() -> None:
    rng = np.random.default_rng(3)
    n = 4000
    weights = rng.choice([0.1, 10.0], n, p=[0.95, 0.05])
    q = np.full(n, 0.03)
    held = Residual()
    # No heavy row has a reward: by their own spread the residuals are far below 0, and chance explains them.
    rewards = ((rng.random(n) < 0.03) & (weights < 1)).astype(float)
    held.update(LoggedRows(weights, rewards, 10.0, q, q, counts=np.ones(n)))
    found = held.check()
    assert found is not None
    own = mean_check(held.moments)
    assert own.z < -4 < found.z
    assert found.standard_error == pytest.approx(np.sqrt((weights**2 * q * (1 - q)).sum()) / n)
    assert found.scale == pytest.approx(rewards.mean())
    # Of other rewards the model predicts no spread.
    held.update(LoggedRows(weights, rewards * 2.0, 10.0, q, q, counts=np.ones(n)))
    both = held.check()
    assert both is not None
    assert both.standard_error == mean_check(held.moments).standard_error
