"""Rankings against brute force, the jackknife, other people's numbers and simulations with known truth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from ctrkit.errors import ConfigError
from ctrkit.ope.diagnostics.ranking import (
    PolicyDifference,
    PolicyRanking,
    best_probabilities,
    holm,
    largest_normal_quantile,
)
from ctrkit.ope.estimators.base import Estimator, LoggedRows
from ctrkit.ope.estimators.baseline import DifferenceBaseline, OptimalBaseline
from ctrkit.ope.estimators.doubly_robust import DirectMethod, DoublyRobust
from ctrkit.ope.estimators.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.intervals.interval import ConfidenceInterval, Unseen, cressie_read
from ctrkit.ope.intervals.moments import TERM, Floats, MomentColumns, Moments
from tests.ope.estimates import once

ACTIONS = 5
KINDS = (InversePropensityScoring, SelfNormalizedInversePropensityScoring, DirectMethod, DoublyRobust)


def policies(count: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).dirichlet(np.ones(ACTIONS), size=count)


def draw(
    rows: int, count: int, seed: int, users: int | None = None, rate: float | None = None
) -> list[LoggedRows]:
    """Rows of a uniform log as `count` policies see them; each user has their own level of reward."""
    rng = np.random.default_rng(seed)
    action = rng.integers(ACTIONS, size=rows)
    x = rng.random(rows)
    codes = None if users is None else rng.integers(users, size=rows)
    level = x if codes is None else rng.random(codes.max() + 1)[codes]
    means = 0.1 + 0.1 * np.arange(ACTIONS)[action] + 0.4 * level if rate is None else np.full(rows, rate)
    rewards = (rng.random(rows) < means).astype(float)
    q = 0.2 + 0.1 * np.arange(ACTIONS) + 0.2 * x[:, None] * (np.arange(ACTIONS) % 2)
    mine = policies(count)
    return [
        once(
            LoggedRows,
            pi[action] * ACTIONS,
            rewards,
            pi.max() * ACTIONS,
            q[np.arange(rows), action],
            q @ pi,
            codes,
        )
        for pi in mine
    ]


def ranking(
    rows: list[LoggedRows], kind: type[Estimator], reward_range: tuple[float, float] | None = None
) -> PolicyRanking:
    found = PolicyRanking([f"p{i}" for i in range(len(rows))], kind, reward_range)
    found.update(rows)
    return found


def by_pair(differences: tuple[PolicyDifference, ...]) -> dict[tuple[str, str], PolicyDifference]:
    return {(d.first, d.second): d for d in differences}


def contribution(rows: LoggedRows, kind: type[Estimator]) -> Floats:
    """What each row adds to the error of a value, written out."""
    w, r, q, v = rows.weights, rows.rewards, rows.q_logged, rows.q_policy
    assert q is not None
    assert v is not None
    if kind is InversePropensityScoring:
        return w * r
    if kind is SelfNormalizedInversePropensityScoring:
        return w * (r - (w * r).sum() / w.sum()) / w.mean()
    return v if kind is DirectMethod else v + w * (r - q)


@pytest.mark.parametrize("kind", KINDS)
def test_paired_errors_are_those_of_the_differences_row_by_row(kind: type[Estimator]) -> None:
    rows = draw(400, 3, 0)
    found = ranking(rows, kind).result()
    parts = {f"p{i}": contribution(mine, kind) for i, mine in enumerate(rows)}
    parts["logging"] = rows[0].rewards
    assert len(found.differences) == 6
    for d in found.differences:
        assert d.standard_error == pytest.approx(stats.sem(parts[d.first] - parts[d.second]), rel=1e-8)
        expected = stats.norm.interval(0.95, d.value, d.standard_error)
        np.testing.assert_allclose([d.interval.low, d.interval.high], expected, rtol=1e-8)
        assert d.p_value == pytest.approx(2 * stats.norm.sf(abs(d.value) / d.standard_error), rel=1e-5)


def test_covariance_of_all_values_is_the_sample_covariance() -> None:
    rows = draw(300, 3, 2)
    found = ranking(rows, SelfNormalizedInversePropensityScoring)
    directions = np.stack([found.joint.direction(name) for name in found.joint.estimators])
    parts = [contribution(mine, SelfNormalizedInversePropensityScoring) for mine in rows]
    expected = np.cov(np.stack([*parts, rows[0].rewards])) / 300
    np.testing.assert_allclose(found.joint.covariance(directions), expected, rtol=1e-8, atol=1e-14)


def test_clustered_error_is_the_jackknifes_over_users() -> None:
    """Leave out one user at a time and estimate the difference anew."""
    rows = draw(3000, 2, 3, users=150)
    kind = SelfNormalizedInversePropensityScoring
    d = by_pair(ranking(rows, kind).result().differences)
    found = next(v for k, v in d.items() if "logging" not in k)
    codes = rows[0].users
    assert codes is not None

    def gap(keep: np.ndarray) -> float:
        values = [(mine.weights[keep] * mine.rewards[keep]).sum() / mine.weights[keep].sum() for mine in rows]
        return values[0] - values[1]

    left_out = np.array([gap(codes != user) for user in range(150)])
    jackknife = np.sqrt(149 / 150 * ((left_out - left_out.mean()) ** 2).sum())
    assert found.standard_error == pytest.approx(jackknife, rel=0.02)
    alone = [once(LoggedRows, m.weights, m.rewards, m.largest_weight, m.q_logged, m.q_policy) for m in rows]
    unclustered = by_pair(ranking(alone, kind).result().differences)[(found.first, found.second)]
    assert unclustered.standard_error < found.standard_error
    assert found.interval.method == "normal, clustered"


@pytest.mark.parametrize("kind", [*KINDS, OptimalBaseline, DifferenceBaseline])
@pytest.mark.parametrize("reward_range", [None, (0.0, 1.0)])
@pytest.mark.parametrize("users", [None, 60])
def test_against_the_logging_policy_it_is_the_estimators_own_difference(
    kind: type[Estimator], reward_range: tuple[float, float] | None, users: int | None
) -> None:
    rows = draw(500, 1, 4, users)
    estimator = kind(reward_range)
    estimator.update(rows[0])
    expected = estimator.result(0.9)
    (found,) = ranking(rows, kind, reward_range).result(0.9, against="logging").differences
    assert (found.first, found.second) == ("p0", "logging")
    assert found.value == pytest.approx(expected.difference, abs=1e-14)
    assert found.interval.method == expected.difference_interval.method
    for mine in (found.interval, found.simultaneous):
        np.testing.assert_allclose(
            [mine.low, mine.high],
            [expected.difference_interval.low, expected.difference_interval.high],
            rtol=1e-7,
            atol=1e-10,
        )
    assert found.adjusted_p_value == found.p_value


@pytest.mark.parametrize("reward_range", [None, (0.0, 1.0)])
def test_p_value_is_the_level_at_which_the_interval_reaches_zero(
    reward_range: tuple[float, float] | None,
) -> None:
    found = ranking(draw(2000, 3, 5), InversePropensityScoring, reward_range)
    for pair, d in by_pair(found.result().differences).items():
        if not 1e-6 < d.p_value < 1:
            continue
        wide, narrow = (
            by_pair(found.result(1 - d.p_value * factor).differences)[pair].interval
            for factor in (0.99, 1.01)
        )
        assert wide.low < 0 < wide.high
        assert narrow.low > 0 or narrow.high < 0


@pytest.mark.parametrize("kind", [DoublyRobust, DifferenceBaseline])
def test_parts_merged_are_the_whole(kind: type[Estimator]) -> None:
    rows = draw(900, 3, 6)

    def part(at: slice) -> list[LoggedRows]:
        found = []
        for m in rows:
            assert m.q_logged is not None
            assert m.q_policy is not None
            found.append(
                once(
                    LoggedRows, m.weights[at], m.rewards[at], m.largest_weight, m.q_logged[at], m.q_policy[at]
                )
            )
        return found

    whole = ranking(rows, kind, (0.0, 1.0)).result()
    one, two = (
        ranking(part(slice(0, 300)), kind, (0.0, 1.0)),
        ranking(part(slice(500, 900)), kind, (0.0, 1.0)),
    )
    one.update(part(slice(300, 500)))
    one.merge(two)
    merged = one.result()
    assert [p.name for p in merged.policies] == [p.name for p in whole.policies]
    for a, b in zip(merged.differences, whole.differences, strict=True):
        np.testing.assert_allclose(
            [a.value, a.standard_error, a.interval.low, a.simultaneous.high],
            [b.value, b.standard_error, b.interval.low, b.simultaneous.high],
            rtol=1e-8,
        )


def test_holm_by_its_steps() -> None:
    """By hand, in Holm's own form: the k-th smallest p-value is compared with α / (m - k + 1)."""
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    rng = np.random.default_rng(0)
    p = rng.random(12) ** 4
    adjusted = holm(p)
    for alpha in (0.01, 0.05, 0.2, 0.5):
        rejected = set()
        for step, place in enumerate(np.argsort(p)):
            if p[place] > alpha / (12 - step):
                break
            rejected.add(int(place))
        assert set(np.flatnonzero(adjusted <= alpha)) == rejected


def test_critical_values_are_those_of_the_tables() -> None:
    """Independent: Šidák. Pairs of k means: the studentised range (Tukey). Equal: a single normal."""
    for m in (2, 6):
        sidak = stats.norm.isf((1 - 0.95 ** (1 / m)) / 2)
        assert largest_normal_quantile(np.diag(np.arange(1.0, m + 1)), 0.95) == pytest.approx(sidak, abs=0.01)
    pairs = np.array([np.eye(5)[i] - np.eye(5)[j] for i, j in combinations(range(5), 2)])
    tukey = stats.studentized_range.ppf(0.95, 5, 1e7) / np.sqrt(2)
    assert largest_normal_quantile(pairs @ pairs.T, 0.95) == pytest.approx(tukey, abs=0.01)
    assert largest_normal_quantile(np.ones((3, 3)), 0.95) == pytest.approx(stats.norm.isf(0.025))
    assert largest_normal_quantile(np.zeros((2, 2)), 0.95) == pytest.approx(stats.norm.isf(0.025))


def test_probability_of_being_best() -> None:
    """Two: closed form. Exchangeable: equal shares. Three independent: one-dimensional integral."""
    spread = np.array([[2.0, 0.5], [0.5, 1.0]])
    expected = stats.norm.cdf(0.3 / np.sqrt(2.0))
    np.testing.assert_allclose(best_probabilities(np.array([0.3, 0.0]), spread), [expected, 1 - expected])
    np.testing.assert_allclose(best_probabilities(np.zeros(4), np.eye(4)), 0.25, atol=0.005)
    mean, sd = np.array([0.0, 0.4, 1.0]), np.array([1.0, 2.0, 0.5])
    grid = np.linspace(-12, 12, 20_001)
    density = stats.norm.pdf(grid[:, None], mean, sd)
    below = stats.norm.cdf(grid[:, None], mean, sd)
    integral = [
        np.trapezoid(density[:, k] * np.delete(below, k, axis=1).prod(axis=1), grid) for k in range(3)
    ]
    np.testing.assert_allclose(best_probabilities(mean, np.diag(sd**2)), integral, atol=0.005)


def test_equal_policies_share_and_a_policy_without_a_value_has_no_chance() -> None:
    spread = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1e-4]])
    np.testing.assert_allclose(best_probabilities(np.array([3.0, 3.0, -9.0]), spread), [0.5, 0.5, 0])
    np.testing.assert_allclose(best_probabilities(np.array([1.0, 1.0]), spread[:2, :2]), [0.5, 0.5])
    one, nan, _ = best_probabilities(np.array([1.0, np.nan, -9.0]), np.eye(3))
    assert one == pytest.approx(1)
    assert np.isnan(nan)


def test_the_same_policy_twice_does_not_differ_from_itself() -> None:
    rows = draw(500, 2, 7)
    found = ranking([rows[0], rows[0], rows[1]], SelfNormalizedInversePropensityScoring).result()
    d = by_pair(found.differences)[("p0", "p1")]
    assert d.value == 0
    assert d.standard_error == 0
    assert d.interval == ConfidenceInterval(0, 0, "normal")
    assert d.p_value == d.adjusted_p_value == 1
    best = {p.name: p.probability_best for p in found.policies}
    assert best["p0"] == pytest.approx(best["p1"])
    assert sum(best.values()) == pytest.approx(1)


def test_a_policy_that_was_never_followed_has_no_value() -> None:
    rows = draw(200, 2, 8)
    nothing = once(LoggedRows, np.zeros(200), rows[0].rewards, 4.0)
    found = ranking([rows[0], nothing], SelfNormalizedInversePropensityScoring).result()
    assert found.policies[-1].name == "p1"
    assert np.isnan(found.policies[-1].probability_best)
    known = by_pair(found.differences)
    assert all(np.isnan(d.p_value) == ("p1" in pair) for pair, d in known.items())


@pytest.mark.slow
def test_family_wise_error_and_joint_coverage_are_near_their_level() -> None:
    """Four policies and the logging one, all worth the same: ten comparisons that should find nothing."""
    draws = 200
    false = {"alone": 0, "holm": 0, "simultaneous": 0}
    for seed in range(draws):
        rows = draw(500, 4, 1000 + seed, rate=0.4)
        differences = ranking(rows, SelfNormalizedInversePropensityScoring).result().differences
        false["alone"] += any(d.p_value < 0.05 for d in differences)
        false["holm"] += any(d.adjusted_p_value < 0.05 for d in differences)
        false["simultaneous"] += any(d.simultaneous.low > 0 or d.simultaneous.high < 0 for d in differences)
    # The standard error of a share of 0.05 from 200 draws is 1.5 points.
    assert 0.015 <= false["simultaneous"] / draws <= 0.095
    assert false["holm"] <= false["simultaneous"]
    assert false["alone"] / draws > 0.12


@pytest.mark.slow
def test_cressie_read_differences_cover_at_click_rates() -> None:
    draws, hits, normal_hits = 150, 0, 0
    rates = 0.004 * np.array([0.3, 0.6, 1.0, 1.5, 3.0])
    pi = np.array([[0.02, 0.02, 0.02, 0.04, 0.9], [0.9, 0.04, 0.02, 0.02, 0.02]])
    truth = float((pi[0] - pi[1]) @ rates)
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        action = rng.integers(ACTIONS, size=1000)
        rewards = (rng.random(1000) < rates[action]).astype(float)
        rows = [once(LoggedRows, p[action] * ACTIONS, rewards, 4.5) for p in pi]
        for reward_range in ((0.0, 1.0), None):
            found = PolicyRanking(["p0", "p1"], InversePropensityScoring, reward_range, logging=False)
            found.update(rows)
            (d,) = found.result().differences
            sign = 1 if d.first == "p0" else -1
            hit = d.interval.low <= sign * truth <= d.interval.high
            hits += hit and reward_range is not None
            normal_hits += hit and reward_range is None
    assert hits / draws >= 0.94
    assert normal_hits < hits


def test_cressie_read_differences_know_that_the_weights_differ_by_0_in_the_mean() -> None:
    """Of policies that are near each other, what they have in common is left out."""
    rng = np.random.default_rng(3)
    action = rng.integers(ACTIONS, size=2000)
    rewards = (rng.random(2000) < 0.1 + 0.1 * action).astype(float)
    near = np.array([[0.4, 0.3, 0.1, 0.1, 0.1], [0.3, 0.4, 0.1, 0.1, 0.1]])
    rows = [once(LoggedRows, p[action] * ACTIONS, rewards, 2.0) for p in near]
    found = PolicyRanking(["p0", "p1"], SelfNormalizedInversePropensityScoring, (0.0, 1.0), logging=False)
    found.update(rows)
    (d,) = found.result(against="p1").differences

    def interval(sign: float) -> ConfidenceInterval:
        (one, two), moments = (each.weights for each in rows), Moments()
        known = 1 + one - two if sign < 0 else (one + two) / 2
        moments.update(known, (one - two) * rewards, rewards, None, np.ones(2000))
        unseen = [
            Unseen(1 + w - v if sign < 0 else (w + v) / 2, min(w - v, 0), max(w - v, 0))
            for w in (0.0, 1.0, 2.0)
            for v in (0.0, 1.0, 2.0)
        ]
        return cressie_read(moments, TERM, unseen, 0.95)

    expected, by_the_sum = interval(-1), interval(1)
    assert d.interval.low == pytest.approx(expected.low, rel=1e-9)
    assert d.interval.high == pytest.approx(expected.high, rel=1e-9)
    assert expected.high - expected.low < 0.9 * (by_the_sum.high - by_the_sum.low)


@pytest.mark.parametrize(
    ("names", "logging", "message"),
    [
        (["a", "a"], True, "the same name"),
        (["logging"], True, "the same name"),
        (["a"], False, "cannot be ranked"),
    ],
)
def test_bad_names(names: list[str], logging: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PolicyRanking(names, InversePropensityScoring, logging=logging)


def test_bad_questions() -> None:
    found = ranking(draw(50, 2, 0), InversePropensityScoring)
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        found.result(95)
    with pytest.raises(ConfigError, match="there is no policy 'p9'"):
        found.result(against="p9")
    rows = draw(50, 2, 0, users=9)
    other = once(LoggedRows, rows[1].weights, rows[1].rewards, 3.0)
    with pytest.raises(ValueError, match="users of 'p1'"):
        found.update([rows[0], other])


def test_an_estimator_that_changes_its_rows_is_compared_by_what_it_sums_up() -> None:
    class Halved(InversePropensityScoring):
        def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
            return super().observe(
                once(LoggedRows, rows.weights / 2, rows.rewards, rows.largest_weight, users=rows.users)
            )

    rows = draw(50, 2, 0, users=9)
    found = ranking(rows, Halved).result()
    for name, mine in zip(["p0", "p1"], rows, strict=True):
        alone = Halved()
        alone.update(mine)
        expected = alone.result()
        ranked = next(one for one in found.policies if one.name == name)
        assert ranked.value == pytest.approx(expected.value, rel=1e-12)
        assert ranked.interval.low == pytest.approx(expected.interval.low, rel=1e-9)
        against = by_pair(found.differences)
        here = against.get((name, "logging")) or against["logging", name]
        assert abs(here.value) == pytest.approx(abs(expected.difference), rel=1e-9)
        width = expected.difference_interval.high - expected.difference_interval.low
        assert here.interval.high - here.interval.low == pytest.approx(width, rel=1e-9)
