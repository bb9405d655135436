"""Timelines against whole arrays in order of time, merges of any parts, and simulation of their promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.diagnostics.log_grid import lower_edges
from ctrkit.ope.diagnostics.term_points import TermPoints
from ctrkit.ope.diagnostics.timeline import ASYMPTOTIC, Timeline
from ctrkit.ope.estimators.base import LoggedRows
from ctrkit.ope.estimators.importance import InversePropensityScoring, OnPolicy
from ctrkit.ope.intervals.moments import TERM, Moments
from tests.ope.estimates import once
from tests.ope.intervals.running import running_interval

RANGE = (0.0, 1.0)
LARGEST = 12.0


def draw(seed: int, rows: int = 4000, rate: float = 0.1) -> tuple[Floats, LoggedRows]:
    rng = np.random.default_rng(seed)
    weights = np.minimum(rng.gamma(2.0, 0.5, rows), LARGEST)
    return np.sort(rng.random(rows)) * 1000, once(
        LoggedRows, weights, (rng.random(rows) < rate).astype(float), LARGEST
    )


def part(rows: LoggedRows, where: Integers) -> LoggedRows:
    users = None if rows.users is None else rows.users[where]
    counts = rows.counts[where]
    return once(
        LoggedRows, rows.weights[where], rows.rewards[where], rows.largest_weight, users=users, counts=counts
    )


def timeline(
    times: Floats, rows: LoggedRows, bins: int = 20, reward_range: tuple[float, float] | None = RANGE
) -> Timeline:
    found = Timeline(np.linspace(0, 1000, bins + 1), reward_range)
    found.update(times, rows)
    return found


def flat(content: object) -> list[float]:
    if isinstance(content, dict):
        return [number for value in content.values() for number in flat(value)]
    if isinstance(content, (list, tuple)):
        return [number for value in content for number in flat(value)]
    return [] if isinstance(content, str) else [float(content)]  # type: ignore[arg-type]


@pytest.mark.parametrize("largest", [LARGEST, None])
def test_running_estimate_is_the_confidence_sequence_of_the_rows_in_order(largest: float | None) -> None:
    times, rows = draw(0)
    found = timeline(times, rows).result(0.9, largest)
    ends = np.searchsorted(times, np.linspace(0, 1000, 21)[1:])
    np.testing.assert_array_equal(found.policy.rows, ends)
    # All its looks at the very lengths at which the bins end.
    for running, weights, bound in (
        (found.policy, rows.weights, largest),
        (found.logging, np.ones(len(times)), 1.0),
    ):
        sums = np.cumsum(weights * rows.rewards)[ends - 1]
        np.testing.assert_allclose(running.value, sums / ends, rtol=1e-12)
        low, high = -np.inf, np.inf
        for place, end in enumerate(ends):
            exact = running_interval(weights[:end], rows.rewards[:end], RANGE, bound, 0.9, points=1)
            low, high = max(low, exact.low[0]), min(high, exact.high[0])
            # By chords the bets win a little less, never more.
            assert running.low[place] <= low + 1e-9
            assert running.high[place] >= high - 1e-9
            assert running.low[place] == pytest.approx(low, rel=0.002, abs=1e-4)
            assert running.high[place] == pytest.approx(high, rel=0.002)
    assert not found.policy.broken


@pytest.mark.parametrize("values", [np.random.default_rng(0).lognormal(0, 3, 3000), np.zeros(5), np.ones(7)])
def test_points_keep_number_and_sum_and_lie_below_every_concave_function(values: Floats) -> None:
    place = np.arange(len(values)) % 4
    points = TermPoints(4)
    points.update(values, place)
    at = lower_edges(points.points)
    for number in range(4):
        mine, mass = values[place == number], points.mass[number]
        assert mass.sum() == pytest.approx(len(mine))
        assert mass @ at == pytest.approx(mine.sum(), rel=1e-12)
        for scale in (0.1, 1.0, 50.0):
            exact = np.log1p(mine / scale).sum()
            assert exact - len(mine) / 131_072 - 1e-9 <= mass @ np.log1p(at / scale) <= exact + 1e-9


def test_points_out_of_all_bounds() -> None:
    points = TermPoints(1)
    points.update(np.array([1e300, 1e-300, 2.0**40]), np.zeros(3, dtype=np.int64))
    assert points.mass[0] @ lower_edges(points.points) == pytest.approx(2 * 2.0**40)
    assert points.mass.sum() == pytest.approx(3)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_any_parts_in_any_order_are_the_whole(clustered: bool, counted: bool, seed: int) -> None:
    times, rows = draw(seed)
    rng = np.random.default_rng(seed)
    users = rng.integers(300, size=4000)
    rows = once(
        LoggedRows,
        rows.weights,
        rows.rewards,
        LARGEST,
        users=users if clustered else None,
        counts=rng.integers(1, 5, 4000).astype(float) if counted else None,
    )
    unit = users if clustered else rng.integers(1000, size=4000)
    group = rng.integers(7, size=1000)[unit]
    parts = []
    for number in rng.permutation(7):
        where = np.flatnonzero(group == number)
        parts.append(timeline(times[where], part(rows, where)))
    for other in parts[1:]:
        parts[0].merge(other)
    found, expected = (one.result(0.95, LARGEST).to_dict() for one in (parts[0], timeline(times, rows)))
    np.testing.assert_allclose(flat(found), flat(expected), rtol=1e-8, atol=1e-10)
    assert found["policy"]["method"] == expected["policy"]["method"]


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("reward_range", [RANGE, None])
def test_periods_are_estimates_of_their_rows(
    clustered: bool, reward_range: tuple[float, float] | None
) -> None:
    times, rows = draw(2)
    if clustered:
        users = np.random.default_rng(3).integers(200, size=4000)
        rows = once(LoggedRows, rows.weights, rows.rewards, LARGEST, users=users)
    found = timeline(times, rows, 20, reward_range).result(0.9, LARGEST, periods=4)
    assert len(found.periods) == 4
    for period in found.periods:
        where = np.flatnonzero((times >= period.start) & (times < period.end))
        assert period.rows == len(where)
        assert 900 < len(where) < 1100
        for estimator, estimate in (
            (InversePropensityScoring(reward_range), period.policy),
            (OnPolicy(reward_range), period.logging),
        ):
            estimator.update(part(rows, where))
            expected = estimator.result(0.9)
            assert estimate.value == pytest.approx(expected.value)
            assert estimate.interval.low == pytest.approx(expected.interval.low)
            assert estimate.difference_interval.high == pytest.approx(
                expected.difference_interval.high, abs=1e-12
            )
            assert estimate.interval.method == expected.interval.method
        assert period.mean_weight == pytest.approx(rows.weights[where].mean())
        if not clustered:
            assert period.standard_error == pytest.approx(stats.sem(rows.weights[where]))


def test_drift_of_independent_rows_is_the_analysis_of_variance() -> None:
    times, rows = draw(3)
    found = timeline(times, rows).result(periods=5)
    cuts = np.searchsorted(times, [period.end for period in found.periods[:-1]])
    weights, rewards = (np.split(values, cuts) for values in (rows.weights, rows.rewards))
    assert found.weight_drift.p_value == pytest.approx(stats.f_oneway(*weights).pvalue, abs=0.02)
    assert found.reward_drift.p_value == pytest.approx(stats.f_oneway(*rewards).pvalue, abs=0.02)
    assert found.weight_drift.least == pytest.approx(min(one.mean() for one in weights))
    assert found.reward_drift.most == pytest.approx(max(one.mean() for one in rewards))


@pytest.mark.slow
def test_drift_level_at_few_clicks_and_power() -> None:
    """Ten periods of 6 clicks each, and heavy weights."""
    false, found = np.zeros(2), np.zeros(2)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        times = np.sort(rng.random(3000)) * 1000
        weights, rewards = rng.gamma(0.2, 5.0, 3000), (rng.random(3000) < 0.02).astype(float)
        late = times > 600
        for tally, change in ((false, 1.0), (found, 3.0))[: 2 if seed < 50 else 1]:
            grown = np.where(late & (rng.random(3000) < (change - 1) * 0.02), 1.0, rewards)
            rows = once(LoggedRows, weights * np.where(late, change, 1.0), grown, 1.0)
            result = timeline(times, rows, reward_range=None).result()
            tally += [result.weight_drift.p_value < 0.05, result.reward_drift.p_value < 0.05]
    assert (false / 300 < 0.09).all()
    assert (found / 50 > 0.9).all()


def test_drift_takes_the_rows_of_a_user_together() -> None:
    """Users with a level of their own who come in one stretch of time."""
    together = apart = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        users = np.sort(rng.integers(150, size=900))
        weights = rng.exponential(size=150)[users] * rng.uniform(0.8, 1.2, size=900)
        times = users * 6.0 + rng.integers(6, size=900)
        for known in (users, None):
            rows = once(LoggedRows, weights, np.zeros(900), 1.0, users=known)
            false = timeline(times, rows, reward_range=None).result(periods=5).weight_drift.p_value < 0.05
            together, apart = together + (false and known is not None), apart + (false and known is None)
    assert together / 60 < 0.13  # 3 standard errors above 5 %
    assert apart > 3 * together


@pytest.mark.slow
def test_bounds_hold_at_all_times_at_once() -> None:
    """Of 40 logs watched at 20 times, 80 % bounds, so that a fault would show; periods' intervals do not."""
    draws, truth = 40, 0.05
    missed = np.zeros(4)
    for seed in range(draws):
        times, rows = draw(seed, 2000, truth)
        bets = timeline(times, rows, 20).result(0.8, LARGEST)
        normal = timeline(times, rows, 20, None).result(0.8)
        for place, running in enumerate((bets.policy, bets.logging, normal.policy, normal.logging)):
            missed[place] += bool((running.low > truth).any() or (running.high < truth).any())
    assert (missed / draws <= 0.2).all()


def test_asymptotic_bounds_of_copied_rows_are_those_of_the_rows() -> None:
    times, rows = draw(5)
    alone = timeline(times, rows, 10, None).result()
    copies = once(
        LoggedRows,
        np.tile(rows.weights, 4),
        np.tile(rows.rewards, 4),
        LARGEST,
        users=np.tile(np.arange(4000), 4),
    )
    together = timeline(np.tile(times, 4), copies, 10).result()
    assert together.policy.method == alone.policy.method == ASYMPTOTIC
    known = np.isfinite(alone.policy.low)
    assert known.sum() > 5
    for end in ("low", "high"):
        np.testing.assert_allclose(
            getattr(together.policy, end)[known], getattr(alone.policy, end)[known], rtol=0.01
        )


def test_asymptotic_bounds_by_the_formula() -> None:
    """At the end of the log: log-terms of the paper, from the sums of the whole log."""
    times, rows = draw(6)
    found = timeline(times, rows, 1, None).result(0.95).policy
    moments = Moments()
    moments.update(rows.weights, rows.weights * rows.rewards, rows.rewards, None, rows.counts)
    level = -2 * np.log(0.05)
    rho = np.sqrt((level + np.log(level) + 1) / 4000)
    t = 4000
    reach = np.sqrt(2 * (t * rho**2 + 1) / (t**2 * rho**2) * np.log(np.sqrt(t * rho**2 + 1) / 0.05))
    error = moments.standard_error(TERM) * np.sqrt(t)
    assert found.high[0] - found.value[0] == pytest.approx(reach * error, rel=1e-9)
    assert found.value[0] - found.low[0] == pytest.approx(reach * error, rel=1e-9)


def test_rows_that_stand_for_more_are_not_bet_on() -> None:
    times, rows = draw(7)
    counted = once(LoggedRows, rows.weights, rows.rewards, LARGEST, counts=np.full(4000, 3.0))
    found = timeline(times, counted).result(0.95, LARGEST)
    assert found.policy.method == ASYMPTOTIC
    assert found.policy.rows[-1] == 12_000
    assert found.policy.value[-1] == pytest.approx((rows.weights * rows.rewards).mean())


def test_wrong_propensities_break_the_bounds() -> None:
    times, rows = draw(8)
    halved = once(LoggedRows, np.full(4000, 0.5), (np.arange(4000) % 2).astype(float), 1.0)
    assert timeline(times, halved).result(0.95, 2.0).policy.broken
    assert not timeline(times, rows).result(0.95, LARGEST).policy.broken


def test_the_largest_weight_seen_stands_in_for_a_smaller_one_given() -> None:
    times, rows = draw(9)
    result = timeline(times, rows).result(0.95, 1.0)
    assert result.policy.method.endswith(f"up to {rows.weights.max():.4g}")


def test_one_moment_one_row_and_empty_bins() -> None:
    same = Timeline(np.array([5.0, 6.0]), RANGE)
    same.update(np.full(3, 5.0), once(LoggedRows, np.ones(3), np.array([0.0, 1, 0]), 1.0))
    found = same.result()
    assert len(found.policy.rows) == len(found.periods) == 1
    assert np.isnan(found.weight_drift.p_value)
    gaps = timeline(np.array([0.0, 999.0, 2000.0, -5.0]), once(LoggedRows, np.ones(4), np.ones(4), 1.0))
    np.testing.assert_array_equal(gaps.result().policy.rows, [2, 4])
    assert [period.rows for period in gaps.result().periods] == [2, 2]
    alone = timeline(np.array([1.0]), once(LoggedRows, np.ones(1), np.ones(1), 1.0))
    assert alone.result().policy.value[0] == 1


def test_bad_input() -> None:
    rows = once(LoggedRows, np.ones(2), np.array([0.0, 2.0]), 1.0)
    with pytest.raises(DataError, match="outside the reward range") as caught:
        timeline(np.zeros(2), rows)
    assert caught.value.row == 1
    with pytest.raises(DataError, match="time is missing"):
        timeline(np.array([0.0, np.nan]), rows)
    with pytest.raises(ConfigError, match="do not rise"):
        Timeline(np.array([1.0, 1.0]))
    with pytest.raises(ConfigError, match="cannot be merged"):
        Timeline(np.arange(3.0)).merge(Timeline(np.arange(4.0)))
    with pytest.raises(ConfigError, match="has no rows"):
        Timeline(np.arange(3.0)).result()
    with pytest.raises(ConfigError, match="confidence"):
        Timeline(np.arange(3.0)).result(1.0)
