"""Intervals against brute force: convex optimisation, textbook formulas, repeated draws."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from scipy import stats

from ctrkit.ope import ESTIMATORS, LoggedRows
from ctrkit.ope.intervals.interval import ConfidenceInterval, Unseen, around, cressie_read, normal
from ctrkit.ope.intervals.moments import ONE, REWARD, TERM, WEIGHT, Floats, Moments
from tests.ope.estimates import once

LARGEST = 12.0


def draw(seed: int, rows: int, rate: float) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    weights = np.minimum(rng.lognormal(-0.5, 1.0, size=rows), LARGEST)
    return weights, (rng.random(rows) < rate).astype(float)


def moments(weights: Floats, terms: Floats, rewards: Floats, users: np.ndarray | None = None) -> Moments:
    found = Moments()
    found.update(weights, terms, rewards, users, np.ones(len(weights)))
    return found


def extreme_mean(weights: Floats, terms: Floats, unseen: list[tuple[float, float]], sign: int) -> float:
    """The definition, solved: the lowest (sign 1) or highest (-1) mean over distributions within reach."""
    reach = stats.f.isf(0.05, 1, len(weights))
    problems = []
    for weight, term in unseen:
        w, g = np.append(weights, weight), np.append(terms, term)
        m = len(w)
        q = cp.Variable(m)
        divergence = cp.sum_squares(m * q - 1)
        known = [cp.sum(q) == 1, q @ w == 1]
        cp.Problem(cp.Minimize(divergence), known).solve(solver=cp.CLARABEL)
        problems.append((q, divergence, known, g, divergence.value))
    nearest = min(distance for *_, distance in problems)
    found = []
    for q, divergence, known, g, _ in problems:
        problem = cp.Problem(cp.Minimize(sign * (q @ g)), [*known, divergence <= nearest + reach])
        problem.solve(solver=cp.CLARABEL)
        if problem.status in ("optimal", "optimal_inaccurate"):
            found.append(problem.value)
    return float(sign * min(found))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_cressie_read_is_the_extreme_of_its_definition(seed: int, rate: float) -> None:
    weights, rewards = draw(seed, 40, rate)
    terms = weights * rewards
    interval = cressie_read(
        moments(weights, terms, rewards), TERM, [Unseen(0, 0, 0), Unseen(LARGEST, 0, LARGEST)], 0.95
    )
    low = extreme_mean(weights, terms, [(0.0, 0.0), (LARGEST, 0.0)], 1)
    high = extreme_mean(weights, terms, [(0.0, 0.0), (LARGEST, LARGEST)], -1)
    np.testing.assert_allclose([interval.low, interval.high], [low, high], rtol=1e-4, atol=1e-5)


def test_cressie_read_of_equal_weights_nears_the_normal_interval() -> None:
    rewards = np.tile([0.0, 1.0], 50_000)
    found = moments(np.ones_like(rewards), rewards, rewards)
    interval = cressie_read(found, TERM, [Unseen(1, 0, 1)] * 2, 0.95)
    textbook = stats.norm.isf(0.025) * rewards.std() / np.sqrt(len(rewards))
    np.testing.assert_allclose([interval.low, interval.high], [0.5 - textbook, 0.5 + textbook], atol=2e-5)


def test_normal_interval_is_the_textbooks() -> None:
    weights, rewards = draw(0, 500, 0.3)
    terms = weights * rewards
    interval = normal(terms.mean(), moments(weights, terms, rewards), TERM, 0.9)
    expected = stats.norm.interval(0.9, terms.mean(), stats.sem(terms))
    np.testing.assert_allclose([interval.low, interval.high], expected, rtol=1e-9)


def test_standard_error_of_a_ratio_is_the_delta_methods() -> None:
    weights, rewards = draw(1, 500, 0.3)
    found = moments(weights, weights * rewards, rewards)
    value = (weights * rewards).sum() / weights.sum()
    residuals = weights * (rewards - value) / weights.mean()
    direction = (TERM - value * WEIGHT) / weights.mean()
    assert found.standard_error(direction) == pytest.approx(stats.sem(residuals), rel=1e-9)


def test_design_effect_of_copied_rows_is_their_number() -> None:
    weights, rewards = draw(2, 400, 0.3)
    copies = np.tile(weights, 3), np.tile(weights * rewards, 3), np.tile(rewards, 3)
    users = np.tile(np.arange(400), 3)
    clustered, naive = moments(*copies, users), moments(*copies)
    assert clustered.design_effect(TERM) == pytest.approx(3, rel=1e-9)
    assert naive.design_effect(TERM) == 1
    # Copies tell nothing new, so the clustered error is that of the rows copied.
    alone = moments(weights, weights * rewards, rewards)
    assert clustered.standard_error(REWARD) == pytest.approx(alone.standard_error(REWARD), rel=2e-3)
    unseen = [Unseen(0, 0, 0), Unseen(LARGEST, 0, LARGEST)]
    wide, narrow = (cressie_read(m, TERM, unseen, 0.95) for m in (clustered, naive))
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_moments_of_constants() -> None:
    found = moments(np.ones(10), np.full(10, 0.3), np.full(10, 0.3))
    assert found.standard_error(TERM) == pytest.approx(0, abs=1e-9)
    assert found.mean @ ONE == 1
    assert found.count == 10


def test_cressie_read_covers_at_click_rates_where_the_normal_interval_does_not() -> None:
    rng = np.random.default_rng(7)
    actions, rows, draws = 10, 1000, 400
    rate = 0.004 * rng.lognormal(0, 0.6, size=actions)
    target = rate**3 / (rate**3).sum()
    largest = float(target.max() * actions)
    value = float(target @ rate)
    hits = {"cressie-read": 0, "normal": 0}
    for _ in range(draws):
        action = rng.integers(actions, size=rows)
        weights = target[action] * actions
        rewards = (rng.random(rows) < rate[action]).astype(float)
        found = moments(weights, weights * rewards, rewards)
        unseen = [Unseen(0, 0, 0), Unseen(largest, 0, largest)]
        for interval in (
            cressie_read(found, TERM, unseen, 0.95),
            normal(float(found.mean @ TERM), found, TERM, 0.95),
        ):
            hits[interval.method] += interval.low <= value <= interval.high
    # The standard error of a coverage from 400 draws is 1.1 points.
    assert hits["cressie-read"] / draws >= 0.93
    assert hits["normal"] / draws < 0.85


def test_an_interval_that_leaves_out_its_estimate_says_so() -> None:
    found = ConfidenceInterval(0.1, 0.2, "some")
    assert around(0.15, found) == found
    # By rounding it may.
    near = around(0.2 + 1e-9, found)
    assert (near.high, near.missed) == (0.2 + 1e-9, False)
    for value in (0.05, 0.21):
        wide = around(value, found)
        assert wide.missed
        assert wide.low <= value <= wide.high
        assert around(0.15, wide).missed
    for undetermined in (ConfidenceInterval(np.nan, np.nan, "none"), ConfidenceInterval(np.nan, 0.2, "none")):
        assert around(0.15, undetermined) is undetermined
    assert around(0.15, ConfidenceInterval(-np.inf, np.inf, "all")).missed is False


def test_no_policy_is_judged_by_an_interval_that_leaves_out_its_estimate() -> None:
    """Weights with a mean of 3 put all of a log's rewards far above what they can be."""
    rng = np.random.default_rng(0)
    rewards = (rng.random(4000) < 0.9).astype(float)
    estimator = ESTIMATORS["ips"]((0.0, 1.0))
    estimator.update(once(LoggedRows, np.full(4000, 3.0), rewards, 3.0))
    found = estimator.result()
    assert found.interval.missed
    assert found.interval.high == found.value > 1.0
