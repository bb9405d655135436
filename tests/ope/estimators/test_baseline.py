from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from ctrkit.ope import Estimator, LoggedRows
from ctrkit.ope.diagnostics.ranking import PolicyDifference, PolicyRanking
from ctrkit.ope.estimators.baseline import DifferenceBaseline, OptimalBaseline, SelfNormalizedDoublyRobust
from ctrkit.ope.estimators.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.estimators.registry import make_estimator
from ctrkit.ope.intervals.moments import Floats
from tests.ope.estimates import once
from tests.ope.estimators.test_clipped import fed, problem

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
        for _ in range(200):
            result = fed(SelfNormalizedDoublyRobust(reward_range), draw(rng, 800)).result()
            values.append(result.value)
            widths.append(result.interval.high - result.interval.low)
            covered += result.interval.low <= truth <= result.interval.high
        assert covered >= 0.9 * 200  # 3 standard errors below 95 %
        assert 0.87 < np.mean(widths) / 2 / 1.96 / np.std(values) < widest


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


OTHER = np.array([0.25, 0.15, 0.25, 0.35])


def pair(rng: np.random.Generator, n: int, users: int | None = None) -> list[LoggedRows]:
    """The same rows as TARGET and OTHER see them."""
    codes = None if users is None else np.sort(rng.integers(users, size=n))
    action = rng.choice(4, size=n, p=LOGGING)
    level = 0.0 if codes is None else 0.15 * rng.standard_normal(users)[codes]
    rewards = (rng.random(n) < CLICK[action] + level).astype(float)
    q = np.zeros(n)
    return [
        once(LoggedRows, (policy / LOGGING)[action], rewards, 8.0, q, q, codes) for policy in (TARGET, OTHER)
    ]


def difference(
    rows: list[LoggedRows],
    kind: type[Estimator] = DifferenceBaseline,
    reward_range: tuple[float, float] | None = None,
) -> PolicyDifference:
    """Of TARGET less OTHER."""
    found = PolicyRanking(["target", "other"], kind, reward_range, logging=False)
    found.update(rows)
    (one,) = found.result(against="other").differences
    return one


def by_hand(delta: Floats, rewards: Floats, baseline: float) -> tuple[float, float]:
    """mean(Δw (r - β)) and its standard error."""
    parts = delta * (rewards - baseline)
    return float(parts.mean()), float(stats.sem(parts))


@pytest.mark.parametrize("seed", range(3))
def test_differences_have_the_baseline_that_a_search_finds(seed: int) -> None:
    """Of two policies, and of one and the logging policy, by the baseline of the least standard error."""
    rows = pair(np.random.default_rng(seed), 400)
    rewards = rows[0].rewards
    single = fed(DifferenceBaseline(), rows[0])
    found = difference(rows)
    for delta, value, low, high in (
        (rows[0].weights - rows[1].weights, found.value, found.interval.low, found.interval.high),
        (
            rows[0].weights - 1,
            single.result().difference,
            single.result().difference_interval.low,
            single.result().difference_interval.high,
        ),
    ):
        best = optimize.minimize_scalar(lambda beta, d=delta: by_hand(d, rewards, beta)[1], tol=1e-12).x
        expected, error = by_hand(delta, rewards, best)
        assert value == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose([low, high], stats.norm.interval(0.95, expected, error), rtol=1e-5)
    assert found.standard_error == pytest.approx((found.interval.high - found.interval.low) / 2 / 1.959964)
    # As the source has it, where E[w] = 1 is exact: these weights' mean is made so.
    exact = (rows[0].weights - 1) - (rows[0].weights - 1).mean()
    source = (exact**2 @ rewards) / (exact @ exact)
    centred = once(LoggedRows, exact + 1, rewards, 8.0)
    assert fed(DifferenceBaseline(), centred).baseline == pytest.approx(source, rel=1e-9)


def test_differences_on_the_way_from_one_policy_to_another_are_in_proportion() -> None:
    """And they turn round with the policies, and a constant on all rewards leaves them as they are."""
    rows = pair(np.random.default_rng(4), 300)
    whole = difference(rows)
    for share in (0.25, 1e-3):
        weights = share * rows[0].weights + (1 - share) * rows[1].weights
        near = once(LoggedRows, weights, rows[0].rewards, 8.0)
        assert difference([near, rows[1]]).value == pytest.approx(share * whole.value, rel=1e-6)
        assert difference([near, rows[1]]).standard_error == pytest.approx(
            share * whole.standard_error, rel=1e-6
        )
        mixed = share * rows[0].weights + 1 - share
        alone = fed(DifferenceBaseline(), rows[0]).result().difference
        found = fed(DifferenceBaseline(), once(LoggedRows, mixed, rows[0].rewards, 8.0)).result().difference
        assert found == pytest.approx(share * alone, rel=1e-6)
    assert difference(rows[::-1]).value == pytest.approx(-whole.value, rel=1e-9)
    shifted = [once(LoggedRows, each.weights, each.rewards + 7, 8.0) for each in rows]
    assert difference(shifted).value == pytest.approx(whole.value, rel=1e-8)
    assert difference(shifted).standard_error == pytest.approx(whole.standard_error, rel=1e-8)
    assert difference([rows[0], rows[0]]).value == 0
    assert difference([rows[0], rows[0]]).standard_error == 0


def test_the_baseline_of_the_difference_is_the_values_where_logged_rewards_know_no_weight() -> None:
    """cov(w, r) = 0: the logging policy's mean then varies apart from the policy's value."""
    weights, rewards = np.repeat([0.5, 1.1, 1.9], 4), np.tile([0.0, 1.0, 1.0, 3.0], 3)
    rows = once(LoggedRows, weights, rewards, 8.0)
    mine, theirs = fed(DifferenceBaseline(), rows), fed(OptimalBaseline(), rows)
    assert mine.baseline == pytest.approx(theirs.baseline, rel=1e-12)
    assert mine.result().value == pytest.approx(theirs.result().value, rel=1e-12)
    other = draw(np.random.default_rng(1), 300)
    assert fed(DifferenceBaseline(), other).baseline != pytest.approx(fed(OptimalBaseline(), other).baseline)


@pytest.mark.slow
def test_differences_are_right_and_vary_least_and_their_intervals_hold() -> None:
    """Of two policies beside other common baselines, even the true values; of one beside its peers."""
    draws, rng = 200, np.random.default_rng(0)
    others = (0.0, float(TARGET @ CLICK), float(OTHER @ CLICK), float(LOGGING @ CLICK))
    kinds = (
        DifferenceBaseline,
        OptimalBaseline,
        InversePropensityScoring,
        SelfNormalizedInversePropensityScoring,
    )
    pairs, alone = np.empty((draws, 1 + len(others))), np.empty((draws, len(kinds)))
    held = dict.fromkeys(("pair", "normal", "cressie-read"), 0)
    truth, single = float((TARGET - OTHER) @ CLICK), float((TARGET - LOGGING) @ CLICK)
    for place in range(draws):
        rows = pair(rng, 1000)
        found = difference(rows)
        delta = rows[0].weights - rows[1].weights
        pairs[place] = found.value, *(by_hand(delta, rows[0].rewards, beta)[0] for beta in others)
        alone[place] = [fed(kind(), rows[0]).result().difference for kind in kinds]
        held["pair"] += found.interval.low <= truth <= found.interval.high
        for reward_range in (None, (0.0, 1.0)):
            interval = fed(DifferenceBaseline(reward_range), rows[0]).result().difference_interval
            held[interval.method] += interval.low <= single <= interval.high
    for expected, values in ((truth, pairs), (single, alone)):
        spread = values.std(axis=0)
        assert abs(values[:, 0].mean() - expected) < 3 * spread[0] / np.sqrt(draws)
        # A spread of 200 draws that go together is told to about 1.6 %.
        assert (spread[0] < 1.03 * spread[1:]).all(), spread
        assert spread[0] < 0.9 * spread.max()
    # 2.6 standard errors of 200 draws below 95 %: intervals of 87 % fail in 95 of 100 cases.
    assert all(0.91 * draws <= hits < draws for hits in held.values()), held


def test_the_error_of_a_difference_is_the_jackknifes_over_users() -> None:
    users = 150
    rows = pair(np.random.default_rng(6), 3000, users)
    codes = rows[0].users
    assert codes is not None
    present = np.unique(codes)

    def gap(keep: Floats) -> float:
        delta, rewards = rows[0].weights[keep] - rows[1].weights[keep], rows[0].rewards[keep]
        slope = np.cov(delta, delta * rewards)
        return by_hand(delta, rewards, slope[0, 1] / slope[0, 0])[0]

    left_out = np.array([gap(codes != user) for user in present])
    n = len(present)
    jackknife = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    assert difference(rows).standard_error == pytest.approx(jackknife, rel=0.03)
    assert difference(rows).interval.method == "normal, clustered"
