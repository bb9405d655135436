from __future__ import annotations

import numpy as np
import pytest

from ctrkit.ope import LoggedRows
from ctrkit.ope.baseline import OptimalBaseline, SelfNormalizedDoublyRobust
from ctrkit.ope.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.registry import make_estimator
from tests.ope.estimates import once
from tests.ope.test_clipped import fed, problem

LOGGING = np.array([0.5, 0.3, 0.15, 0.05])
TARGET = np.array([0.1, 0.2, 0.3, 0.4])
CLICK = np.array([0.2, 0.3, 0.4, 0.8])


def draw(rng: np.random.Generator, n: int) -> LoggedRows:
    action = rng.choice(4, size=n, p=LOGGING)
    rewards = (rng.random(n) < CLICK[action]).astype(float)
    q = np.array([0.45, 0.7, 0.3, 0.5])
    return once(LoggedRows, (TARGET / LOGGING)[action], rewards, 8.0, q[action], np.full(n, TARGET @ q))


def test_value_is_the_regression_line_at_weight_1() -> None:
    rows = problem(1).rows
    slope, intercept = np.polyfit(rows.weights, rows.weights * rows.rewards, 1)
    estimator = fed(OptimalBaseline((0.0, 1.0)), rows)
    assert estimator.baseline == pytest.approx(slope, rel=1e-9)
    assert estimator.result().value == pytest.approx(slope + intercept, rel=1e-9)


def test_no_baseline_gives_less_variance() -> None:
    rows = problem(2).rows
    estimator = fed(OptimalBaseline(), rows)
    best = estimator.baseline

    def variance(baseline: float) -> float:
        return float((rows.weights * (rows.rewards - baseline)).var(ddof=1))

    for other in np.linspace(best - 0.5, best + 0.5, 21):
        assert variance(best) <= variance(other) + 1e-15
    interval = estimator.result().interval
    reach = 1.959963984540054 * np.sqrt(variance(best) / len(rows.rewards))
    assert interval.high - interval.low == pytest.approx(2 * reach, rel=1e-9)


def test_closer_to_the_truth_than_its_peers_and_as_spread_as_it_says() -> None:
    rng = np.random.default_rng(0)
    truth = float(TARGET @ CLICK)
    kinds = (OptimalBaseline, InversePropensityScoring, SelfNormalizedInversePropensityScoring)
    values = {kind: np.empty(600) for kind in kinds}
    widths, covered = np.empty(600), 0
    for place in range(600):
        rows = draw(rng, 500)
        for kind in kinds:
            values[kind][place] = fed(kind(), rows).result().value
        interval = fed(OptimalBaseline(), rows).result().interval
        widths[place] = interval.high - interval.low
        covered += interval.low <= truth <= interval.high
    errors = {kind: float(((value - truth) ** 2).mean()) for kind, value in values.items()}
    best = values[OptimalBaseline]
    assert errors[OptimalBaseline] < 0.6 * errors[InversePropensityScoring]
    assert errors[OptimalBaseline] < 1.01 * errors[SelfNormalizedInversePropensityScoring]
    assert abs(best.mean() - truth) < 3 * best.std() / np.sqrt(600)
    assert widths.mean() / 2 / 1.96 == pytest.approx(best.std(), rel=0.1)
    assert 0.92 * 600 <= covered <= 0.98 * 600


def test_weights_that_are_all_alike_leave_the_mean() -> None:
    rewards = np.array([0.0, 1.0, 1.0, 0.0])
    for weight in (1.0, 0.1 + 0.2):
        estimator = fed(OptimalBaseline(), once(LoggedRows, np.full(4, weight), rewards, 1.0))
        assert estimator.baseline == 0
        assert estimator.result().value == pytest.approx(weight / 2)


def test_baseline_moves_with_the_rewards() -> None:
    """A constant on all rewards comes back whole, which IPS does not promise."""
    rows = problem(3).rows
    shifted = once(LoggedRows, rows.weights, rows.rewards + 7, rows.largest_weight)
    before, after = fed(OptimalBaseline(), rows).result(), fed(OptimalBaseline(), shifted).result()
    assert after.value == pytest.approx(before.value + 7, rel=1e-9)
    assert after.interval.high == pytest.approx(before.interval.high + 7, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_self_normalized_doubly_robust_is_obps(seed: int) -> None:
    ope = pytest.importorskip("obp.ope")
    given = problem(seed)
    expected = ope.SelfNormalizedDoublyRobust().estimate_policy_value(**given.inputs)
    found = fed(make_estimator("sndr", (0.0, 1.0)), given.rows).result()
    assert found.value == pytest.approx(expected, rel=1e-9)


def test_self_normalized_doubly_robust_covers_the_truth() -> None:
    rng = np.random.default_rng(5)
    truth = float(TARGET @ CLICK)
    # Cressie-Read's interval is wider by what the unseen row adds; the normal one is as wide as the spread.
    for reward_range, widest in (((0.0, 1.0), 1.25), (None, 1.1)):
        covered, values, widths = 0, [], []
        for _ in range(300):
            result = fed(SelfNormalizedDoublyRobust(reward_range), draw(rng, 800)).result()
            values.append(result.value)
            widths.append(result.interval.high - result.interval.low)
            covered += result.interval.low <= truth <= result.interval.high
        assert covered >= 0.91 * 300
        assert 0.9 < np.mean(widths) / 2 / 1.96 / np.std(values) < widest


def test_self_normalized_doubly_robust_without_weight_is_undetermined() -> None:
    n = 20
    q = np.full(n, 0.3)
    rows = once(LoggedRows, np.zeros(n), np.ones(n), 1.0, q, q)
    for reward_range in ((0.0, 1.0), None):
        assert np.isnan(fed(SelfNormalizedDoublyRobust(reward_range), rows).result().value)


def test_self_normalized_doubly_robust_with_no_model_is_snips() -> None:
    rows = problem(4).rows
    nothing = np.zeros(len(rows.weights))
    bare = once(LoggedRows, rows.weights, rows.rewards, rows.largest_weight, nothing, nothing)
    found = fed(SelfNormalizedDoublyRobust((0.0, 1.0)), bare).result()
    expected = fed(SelfNormalizedInversePropensityScoring((0.0, 1.0)), bare).result()
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    mine, theirs = found.interval, expected.interval
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
