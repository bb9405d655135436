"""Several outcomes against brute force, the jackknife, Fieller's definition and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ctrkit.errors import ConfigError
from ctrkit.ope.estimators.base import Estimator, LoggedRows
from ctrkit.ope.estimators.doubly_robust import DoublyRobust
from ctrkit.ope.estimators.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.structured.outcomes import RATIOS, OutcomeEstimates, OutcomeSums, fieller
from tests.ope.estimates import once

RANGES = {"click": (0.0, 1.0), "conversion": (0.0, 1.0), "value": (0.0, 60.0), "cost": (0.0, 3.0)}
POLICY = np.array([0.1, 0.2, 0.7])
CLICK, CONVERT, PRICE = np.array([0.2, 0.4, 0.3]), np.array([0.3, 0.2, 0.4]), np.array([1.0, 2.0, 1.5])
KINDS = (InversePropensityScoring, SelfNormalizedInversePropensityScoring, DoublyRobust)


def draw(
    n: int, seed: int, users: int | None = None, scale: float = 1.0, policy: np.ndarray = POLICY
) -> dict[str, LoggedRows]:
    """Rows of a uniform log over three actions: a click is paid for, may convert, and then has a value."""
    rng = np.random.default_rng(seed)
    action = rng.integers(3, size=n)
    codes = None if users is None else rng.integers(users, size=n)
    level = np.ones(n) if codes is None else rng.uniform(0.3, 1.7, size=users)[codes]
    click = (rng.random(n) < np.minimum(scale * level * CLICK[action], 1)).astype(float)
    conversion = click * (rng.random(n) < CONVERT[action] * level)
    rewards = {
        "click": click,
        "conversion": conversion,
        "value": conversion * rng.uniform(2, 20, size=n),
        "cost": click * PRICE[action] * rng.uniform(0.5, 1.5, size=n),
    }
    weights = policy[action] * 3
    means = {
        "click": scale * CLICK,
        "conversion": scale * CLICK * CONVERT,
        "value": scale * CLICK * CONVERT * 11,
        "cost": scale * CLICK * PRICE,
    }
    return {
        name: once(
            LoggedRows,
            weights,
            r,
            3 * policy.max(),
            0.8 * means[name][action],
            np.full(n, 0.8 * means[name] @ policy),
            codes,
        )
        for name, r in rewards.items()
    }


TRUTH = {
    "roas": float((CLICK * CONVERT * 11) @ POLICY / ((CLICK * PRICE) @ POLICY)),
    "cpa": float((CLICK * PRICE) @ POLICY / ((CLICK * CONVERT) @ POLICY)),
    "ecpc": float((CLICK * PRICE) @ POLICY / (CLICK @ POLICY)),
    "cvr": float((CLICK * CONVERT) @ POLICY / (CLICK @ POLICY)),
}


def outcomes(rows: dict[str, LoggedRows], kind: type[Estimator]) -> OutcomeSums:
    found = OutcomeSums(RANGES, kind)
    found.update(rows)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_each_outcome_is_the_estimators_own_estimate(kind: type[Estimator]) -> None:
    rows = draw(600, 0)
    found = outcomes(rows, kind).result(0.9).outcomes
    for name, mine in rows.items():
        alone = kind(RANGES[name])
        alone.update(mine)
        assert found[name] == alone.result(0.9)


def jackknifed(
    rows: dict[str, LoggedRows], kind: type[Estimator], units: np.ndarray
) -> dict[str, np.ndarray]:
    """Jackknife errors of each ratio and of its difference from logging: one unit at a time is left out."""
    weights = rows["click"].weights

    def means(name: str) -> tuple[np.ndarray, np.ndarray]:
        """Policy's and logging policy's mean of an outcome, one for each unit left out."""
        mine = rows[name]
        assert mine.q_logged is not None
        assert mine.q_policy is not None
        term = weights * mine.rewards
        if kind is DoublyRobust:
            term = mine.q_policy + weights * (mine.rewards - mine.q_logged)
        columns = (term, mine.rewards, weights, np.ones(len(weights)))
        left = [line.sum() - np.bincount(units, line) for line in columns]
        below = left[2] if kind is SelfNormalizedInversePropensityScoring else left[3]
        return left[0] / below, left[1] / left[3]

    found = {}
    for name, (top, bottom) in RATIOS.items():
        (above, logged_above), (below, logged_below) = means(top), means(bottom)
        drawn = np.stack([above / below, above / below - logged_above / logged_below])
        squares = ((drawn - drawn.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        found[name] = np.sqrt((drawn.shape[1] - 1) / drawn.shape[1] * squares)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("users", [None, 200])
def test_delta_error_is_the_jackknifes(kind: type[Estimator], users: int | None) -> None:
    """By rows; where users are known by users too, and then the larger of the two counts."""
    rows = draw(4000, 1, users)
    found = outcomes(rows, kind).result(method="delta").ratios
    by_row = jackknifed(rows, kind, np.arange(4000))
    codes = rows["click"].users
    by_user = by_row if codes is None else jackknifed(rows, kind, codes)
    reach = 2 * stats.norm.isf(0.025)
    for name, ratio in found.items():
        expected = np.maximum(by_row[name], by_user[name])
        for error, interval in zip(expected, (ratio.interval, ratio.difference_interval), strict=True):
            assert (interval.high - interval.low) / reach == pytest.approx(error, rel=0.03)
    if users is not None:  # A user's clicks convert alike.
        assert by_user["cvr"][0] > 1.05 * by_row["cvr"][0]


def test_a_ratio_is_the_same_by_ips_and_by_snips() -> None:
    """The sum of the weights is in numerator and denominator alike."""
    rows = draw(800, 2)
    ips, snips = (
        outcomes(rows, kind).result(method="delta").ratios
        for kind in (InversePropensityScoring, SelfNormalizedInversePropensityScoring)
    )
    for name, ratio in ips.items():
        expected = snips[name]
        np.testing.assert_allclose(
            [ratio.value, ratio.interval.low, ratio.interval.high, ratio.difference_interval.low],
            [expected.value, expected.interval.low, expected.interval.high, expected.difference_interval.low],
            rtol=1e-9,
        )


def test_the_logging_policy_against_itself_has_no_difference() -> None:
    rows = draw(500, 3, policy=np.full(3, 1 / 3))
    for ratio in outcomes(rows, InversePropensityScoring).result().ratios.values():
        assert ratio.value == pytest.approx(ratio.logging)
        assert ratio.difference == pytest.approx(0, abs=1e-12)
        width = ratio.difference_interval.high - ratio.difference_interval.low
        assert width == pytest.approx(0, abs=1e-6)
        assert ratio.interval.high > ratio.value + 0.01


def test_parts_merged_are_the_whole() -> None:
    rows = draw(900, 4)

    def part(at: slice) -> dict[str, LoggedRows]:
        return {
            name: once(LoggedRows, mine.weights[at], mine.rewards[at], mine.largest_weight)
            for name, mine in rows.items()
        }

    kind = SelfNormalizedInversePropensityScoring
    one, two = outcomes(part(slice(0, 350)), kind), outcomes(part(slice(350, 900)), kind)
    one.merge(two)
    whole = outcomes(rows, kind).result()
    for name, ratio in one.result().ratios.items():
        expected = whole.ratios[name]
        np.testing.assert_allclose(
            [ratio.value, ratio.interval.low, ratio.difference_interval.high],
            [expected.value, expected.interval.low, expected.difference_interval.high],
            rtol=1e-8,
        )


@pytest.mark.parametrize("bottom", [2.0, 0.5, 0.15, -0.15])
@pytest.mark.parametrize("top", [1.0, 0.1])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_fieller_is_the_hull_of_its_definition(top: float, bottom: float, nonnegative: bool) -> None:
    """All ratios on a fine grid that the test of top - ρ bottom = 0 does not reject."""
    covariance = np.array([[0.04, 0.006], [0.006, 0.01]])
    span = np.tan(np.linspace(-np.pi / 2 + 1e-5, np.pi / 2 - 1e-5, 400_001))
    ratios = span[span >= 0] if nonnegative else span
    spread = covariance[0, 0] - 2 * ratios * covariance[0, 1] + ratios**2 * covariance[1, 1]
    kept = ratios[(top - ratios * bottom) ** 2 <= 1.96**2 * spread]
    low, high = fieller(top, bottom, covariance, 1.96, nonnegative)
    for mine, expected in ((low, kept.min()), (high, kept.max())):
        if abs(expected) > 1e4:
            assert np.isinf(mine)
            assert np.sign(mine) == np.sign(expected)
        else:
            assert mine == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_fieller_nears_the_delta_method_where_the_denominator_is_sure() -> None:
    rows = draw(20_000, 5)
    found = outcomes(rows, InversePropensityScoring)
    delta, exact = (found.result(method=method).ratios["cpa"] for method in ("delta", "fieller"))
    assert delta.value == exact.value
    width = delta.interval.high - delta.interval.low
    np.testing.assert_allclose(
        [exact.interval.low, exact.interval.high],
        [delta.interval.low, delta.interval.high],
        atol=0.1 * width,
    )
    assert found.result().ratios["cpa"].interval.method == "delta"


def test_no_denominator_no_bound() -> None:
    rows = draw(50, 6, scale=0.0)
    ratio = outcomes(rows, InversePropensityScoring).result().ratios["cpa"]
    assert np.isnan(ratio.value)
    assert (ratio.interval.low, ratio.interval.high) == (0, np.inf)
    assert ratio.difference_interval.high == np.inf
    for method in ("delta", "fieller"):
        interval = outcomes(rows, InversePropensityScoring).result(method=method).ratios["cpa"].interval
        assert (interval.low, interval.high) == (0, np.inf)


@pytest.mark.parametrize(("n", "scale", "least"), [(3000, 1.0, 0.895), (800, 0.1, 0.875)])
def test_intervals_of_ratios_cover(n: int, scale: float, least: float) -> None:
    """150 logs: with many clicks, and with eight conversions, where the default is Fieller's."""
    draws = 150  # a standard error of 1.8 points
    hits = dict.fromkeys(TRUTH, 0)
    fiellers = 0
    for seed in range(draws):
        rows = draw(n, 10_000 + seed, scale=scale)
        ratios = outcomes(rows, SelfNormalizedInversePropensityScoring).result().ratios
        for name, truth in TRUTH.items():
            interval = ratios[name].interval
            hits[name] += interval.low <= truth <= interval.high
            fiellers += interval.method == "fieller"
    for name, count in hits.items():
        assert count / draws >= least, name
    assert (fiellers > draws) == (scale < 1)


def test_ratios_that_are_there() -> None:
    assert set(OutcomeSums({"click": None, "cost": None}, InversePropensityScoring).ratios) == {"ecpc"}
    own = OutcomeSums({"click": None, "cost": None}, InversePropensityScoring, {"x": ("click", "cost")})
    assert set(own.ratios) == {"x"}
    with pytest.raises(ConfigError, match=r"needs the outcome 'costs'.*Did you mean 'cost'"):
        OutcomeSums({"click": None, "cost": None}, InversePropensityScoring, {"x": ("click", "costs")})
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        own.result(2.0)


def test_plain_data() -> None:
    found: OutcomeEstimates = outcomes(draw(200, 7), InversePropensityScoring).result()
    assert set(found.to_dict()["ratios"]) == {"roas", "cpa", "ecpc", "cvr"}
