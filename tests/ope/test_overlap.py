"""Diagnostics of weights by brute force, by other fits and by simulation."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from ctrkit.errors import ConfigError
from ctrkit.ope.moments import Floats, Ints, Moments
from ctrkit.ope.overlap import (
    ActionOverlap,
    Check,
    mean_check,
    missing_mass,
    overlap_by_action,
    pareto_shape,
    top_share,
    unsupported_mass,
    weight_drift,
    weight_tail,
)


def residual_check(weights: Floats, rewards: Floats, q: Floats, users: Ints | None = None) -> Check:
    moments = Moments()
    moments.update(weights, weights * (rewards - q), rewards, users)
    return mean_check(moments)


def test_top_share() -> None:
    weights = np.random.default_rng(0).lognormal(0, 2, size=1050)
    assert top_share(weights) == pytest.approx(np.sort(weights)[-10:].sum() / weights.sum())
    assert top_share(weights, 0.5) == pytest.approx(np.sort(weights)[-525:].sum() / weights.sum())
    assert top_share(np.ones(200), 0.1) == pytest.approx(0.1)
    assert top_share(np.array([3.0])) == 1
    assert top_share(np.zeros(5)) == 1


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9, 1.3])
def test_pareto_shape_is_that_of_the_draws_and_of_maximum_likelihood(shape: float) -> None:
    draws = np.sort(stats.genpareto.rvs(shape, scale=3.0, size=3000, random_state=1))
    found = pareto_shape(draws)
    assert found == pytest.approx(shape, abs=0.1)
    assert found == pytest.approx(stats.genpareto.fit(draws, floc=0)[0], abs=0.02)
    # The scale of the draws does not matter.
    assert pareto_shape(draws * 7) == pytest.approx(found, rel=1e-9)


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
    found = overlap_by_action(weights, pl.Series(actions))
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
    one.update(np.ones(2), pl.Series([3, 4]))
    assert empty.result().columns == one.result().columns
    assert empty.result().is_empty()
    one.merge(empty)
    assert one.result()["rows"].to_list() == [1, 1]


def test_pareto_shape_of_repeated_values() -> None:
    rng = np.random.default_rng(9)
    values, counts = np.sort(rng.pareto(2, size=300)), rng.integers(1, 5, size=300)
    found = pareto_shape(values, counts.astype(float))
    assert found == pytest.approx(pareto_shape(np.repeat(values, counts)), rel=1e-9)


def test_unsupported_mass_by_brute_force() -> None:
    rng = np.random.default_rng(4)
    policy = rng.dirichlet(np.ones(4), size=50)
    logging = rng.dirichlet(np.ones(4), size=50)
    logging[rng.random((50, 4)) < 0.3] = 0
    for floor in (0.0, 0.1):
        expected = [
            sum(p for p, mu in zip(one, other, strict=True) if mu <= floor)
            for one, other in zip(policy, logging, strict=True)
        ]
        np.testing.assert_allclose(unsupported_mass(policy, logging, floor), expected, atol=1e-15)


def test_missing_mass_is_what_the_logger_rules_out() -> None:
    """The logger never takes the last of four actions, on which the policy has 0.4."""
    rng = np.random.default_rng(5)
    policy = np.array([0.1, 0.2, 0.3, 0.4])
    found = missing_mass(policy[rng.integers(3, size=20_000)] * 3)
    assert found.mean == pytest.approx(0.4, abs=4 * found.standard_error)
    assert found.z > 20
    full = missing_mass(policy[rng.integers(4, size=20_000)] * 4)
    assert abs(full.z) < 3
    weights = policy[rng.integers(4, size=500)] * 4
    assert missing_mass(weights).z == pytest.approx(-stats.ttest_1samp(weights, 1).statistic)
    assert missing_mass(np.ones(30)).z == 0
    assert missing_mass(np.full(30, 0.8)).z == np.inf


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


def test_drift_by_brute_force() -> None:
    rng = np.random.default_rng(8)
    weights = rng.exponential(size=1000)
    times = rng.permutation(1000) * 60 + 1_700_000_000
    found = weight_drift(weights, times, bins=4)
    ordered = weights[np.argsort(times)].reshape(4, 250)
    np.testing.assert_allclose(found.mean_weight, ordered.mean(axis=1))
    np.testing.assert_allclose(found.standard_error, stats.sem(ordered, axis=1))
    np.testing.assert_array_equal(found.rows, 250)
    np.testing.assert_array_equal(found.start, 1_700_000_000 + 60 * np.array([0, 250, 500, 750]))
    np.testing.assert_array_equal(found.end, 1_700_000_000 + 60 * np.array([249, 499, 749, 999]))
    # Cochran's test of equal means: the weighted squares around the weighted mean.
    precision = 1 / (ordered.var(axis=1) / 250)
    centre = precision @ ordered.mean(axis=1) / precision.sum()
    statistic = precision @ (ordered.mean(axis=1) - centre) ** 2
    assert found.p_value == pytest.approx(stats.chi2.sf(statistic, 3), rel=1e-9)
    assert len(found.to_dict()["rows"]) == 4


def test_drift_level_and_power_with_users() -> None:
    """Users with a level of their own, rows spread over time: few false alarms; a change is found."""
    false = clustered_false = found = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        users = np.sort(rng.integers(100, size=600))
        level = rng.exponential(size=100)[users]
        # Each user comes in one stretch of time, so that a bin holds some users' rows only.
        times = users * 10 + rng.integers(10, size=600)
        weights = level * rng.uniform(0.8, 1.2, size=600)
        false += weight_drift(weights, times, bins=4).p_value < 0.05
        clustered_false += weight_drift(weights, times, users, bins=4).p_value < 0.05
        steady = rng.exponential(size=600)
        found += weight_drift(steady * np.where(times > 700, 1.6, 1), times, users, bins=4).p_value < 0.05
    assert clustered_false / 300 < 0.12
    assert false > 3 * clustered_false
    assert found / 300 > 0.8


def test_times_may_be_dates_and_may_repeat() -> None:
    day = np.repeat(np.array(["2024-01-01", "2024-01-02", "2024-01-03"], dtype="datetime64[s]"), [10, 80, 10])
    found = weight_drift(np.arange(100.0), day, bins=10)
    assert found.rows.sum() == 100
    # A day is never split: bins begin where days begin.
    np.testing.assert_array_equal(found.rows, [10, 80, 10])
    assert np.isnan(weight_drift(np.ones(5), np.zeros(5)).p_value)
    assert weight_drift(np.ones(50), np.arange(50)).p_value == 1
    with pytest.raises(ConfigError, match="0 bins"):
        weight_drift(np.ones(5), np.arange(5), bins=0)
