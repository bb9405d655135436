"""Confidence sequences against the betting game played out row by row, vw-estimators, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.intervals.confidence_sequence import CAUTION, ConfidenceSequence
from ctrkit.ope.intervals.moments import Floats
from tests.ope.intervals.running import running_interval

LARGEST = 8.0


def draw(seed: int, rows: int, rate: float = 0.2) -> tuple[Floats, Floats]:
    """Two actions of a uniform logger and a policy of weights 0.25 and 1.75."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(rows) < 0.5, 0.25, 1.75), (rng.random(rows) < rate).astype(float)


def sequence(
    weights: Floats,
    rewards: Floats,
    reward_range: tuple[float, float] = (0.0, 1.0),
    largest: float | None = LARGEST,
) -> ConfidenceSequence:
    found = ConfidenceSequence(reward_range, largest)
    found.update(weights, rewards, np.ones(len(weights)))
    return found


def wealth(value: float, weights: Floats, rewards: Floats, largest: float | None, against_low: bool) -> float:
    """The game played out: every gambler's money after every row, in plain products."""
    scale = 1.0 if largest is None else largest
    purses = []
    for caution in (CAUTION * scale).tolist():
        own, other = 1.0, 1.0
        for w, r in zip(weights.tolist(), rewards.tolist(), strict=True):
            success, level = (r, value) if against_low else (1 - r, 1 - value)
            bet = 1 / (caution + level)
            own *= 1 + bet * (w * success - level)
            if largest is not None:
                level = largest - 1 + level
                other *= 1 + (largest - w * (1 - success) - level) / (caution + level)
        purses += [own] if largest is None else [own, other]
    return math.fsum(purses) / len(purses)


@pytest.mark.parametrize("largest", [LARGEST, None])
@pytest.mark.parametrize("rate", [0.2, 0.9])
def test_ends_are_where_the_gambler_has_multiplied_his_money(rate: float, largest: float | None) -> None:
    weights, rewards = draw(0, 400, rate)
    found = sequence(weights, rewards, largest=largest).interval(0.95)
    # Each side has half of 5 %: a fortune of 40 rules a value out.
    assert wealth(found.low, weights, rewards, largest, against_low=True) == pytest.approx(40, rel=1e-6)
    assert wealth(found.high, weights, rewards, largest, against_low=False) == pytest.approx(40, rel=1e-6)
    for value in np.linspace(0, 1, 21).tolist():
        ruled_out = any(
            wealth(value, weights, rewards, largest, against_low) >= 40 for against_low in (True, False)
        )
        assert ruled_out == (not found.low < value < found.high)


def test_every_bet_is_fair() -> None:
    """At the true value the expected factor of a row is 1, whatever the bet: the sum over its four cases."""
    rate, largest = 0.3, 1.75
    grown = np.zeros((4, len(CAUTION)))
    for weight in (0.25, 1.75):
        for reward, chance in ((0.0, 0.5 * (1 - rate)), (1.0, 0.5 * rate)):
            one = sequence(np.array([weight]), np.array([reward]), largest=largest)
            means = np.array([[rate], [1 - rate], [largest - rate], [largest - 1 + rate]])
            # The order of the sums is that of w s, w (1 - s), W - w s, W - w (1 - s).
            grown += chance * np.exp(one.growth - np.log1p(means / one.caution))
    np.testing.assert_allclose(grown, 1, rtol=1e-12)


def test_parts_merged_in_any_order_are_the_whole() -> None:
    weights, rewards = draw(1, 40_000, 0.05)
    whole = sequence(weights, rewards)
    first = sequence(weights[30_000:], rewards[30_000:])
    first.merge(sequence(weights[:30_000], rewards[:30_000]))
    first.merge(ConfidenceSequence((0.0, 1.0), LARGEST))
    expected, found = whole.interval(0.9), first.interval(0.9)
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], rtol=1e-9)
    assert first.value == pytest.approx((weights * rewards).mean(), rel=1e-12)
    assert first.rows == 40_000


def test_scale_of_rewards_only_moves_the_ends() -> None:
    weights, rewards = draw(2, 2000)
    plain = sequence(weights, rewards).interval(0.95)
    moved = sequence(weights, 5 * rewards - 2, (-2.0, 3.0)).interval(0.95)
    np.testing.assert_allclose([moved.low, moved.high], [5 * plain.low - 2, 5 * plain.high - 2], rtol=1e-8)


def test_failures_mirror_successes() -> None:
    weights, rewards = draw(3, 2000)
    one, other = (sequence(weights, r).interval(0.95) for r in (rewards, 1 - rewards))
    np.testing.assert_allclose([other.low, other.high], [1 - one.high, 1 - one.low], rtol=1e-8)


def test_no_rows_rule_nothing_out() -> None:
    found = ConfidenceSequence((0.0, 1.0), LARGEST)
    interval = found.interval(0.95)
    assert (interval.low, interval.high) == (0.0, 1.0)
    assert math.isnan(found.value)


def test_no_clicks_still_bound_the_value_from_above() -> None:
    """The exact bound for rows of weight 1 without a click is 1 - 0.025^(1/n); this one holds at all n."""
    found = sequence(np.ones(1000), np.zeros(1000), largest=1.0).interval(0.95)
    assert found.low == 0
    assert 1 - 0.025**0.001 < found.high < 3 * (1 - 0.025**0.001)


def test_weights_whose_mean_is_not_one_leave_no_value() -> None:
    """A wrong propensity: half of all weight is missing, so rewards and failures do not add up to 1."""
    weights = np.full(5000, 0.5)
    rewards = (np.arange(5000) % 2).astype(float)
    interval = sequence(weights, rewards).interval(0.95)
    assert interval.low > interval.high


@pytest.mark.parametrize(
    ("weights", "rewards", "column", "row"),
    [([1, 9], [0, 1], "weight", 1), ([-1, 1], [0, 1], "weight", 0), ([1, 1, 1], [0, 1, 2], "reward", 2)],
)
def test_what_passes_the_bounds(weights: list[int], rewards: list[int], column: str, row: int) -> None:
    with pytest.raises(DataError) as caught:
        sequence(np.array(weights, dtype=float), np.array(rewards, dtype=float))
    assert (caught.value.column, caught.value.row) == (column, row)


def test_bounds_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="weights have mean 1"):
        ConfidenceSequence((0.0, 1.0), 0.5)
    with pytest.raises(ConfigError, match="empty or infinite"):
        ConfidenceSequence((1.0, 1.0), 2.0)
    with pytest.raises(ConfigError, match="cannot be merged"):
        ConfidenceSequence((0.0, 1.0), 2.0).merge(ConfidenceSequence((0.0, 1.0), 3.0))


@pytest.mark.slow
def test_holds_at_every_length_at_once_where_repeated_looks_at_normal_intervals_do_not() -> None:
    """Of 150 logs watched at 40 lengths; 80 % intervals, so that a fault would show."""
    draws, missed, missed_by_normal = 150, 0, 0
    truth = 0.05
    for seed in range(draws):
        weights, rewards = draw(seed, 2000, truth)
        found = running_interval(weights, rewards, (0.0, 1.0), 1.75, 0.8, points=40)
        missed += bool((found.low > truth).any() or (found.high < truth).any())
        terms = weights * rewards
        mean = np.cumsum(terms)[found.rows - 1] / found.rows
        spread = np.sqrt(np.maximum(np.cumsum(terms**2)[found.rows - 1] / found.rows - mean**2, 0))
        missed_by_normal += bool(
            (np.abs(mean - truth) > stats.norm.isf(0.1) * spread / np.sqrt(found.rows)).any()
        )
    assert missed / draws <= 0.2
    assert missed_by_normal / draws > 0.5


def test_learns_as_fast_as_the_normal_interval_but_for_a_factor() -> None:
    weights, rewards = draw(6, 200_000, 0.02)
    found = sequence(weights, rewards, largest=1.75).interval(0.95)
    terms = weights * rewards
    reach = stats.norm.isf(0.025) * stats.sem(terms)
    assert 1 < (found.high - found.low) / (2 * reach) < 2.2


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_narrower_than_the_sequence_of_vw_estimators(rate: float) -> None:
    """The same promise, by a mixture of sub-gamma bets on w r and w (1 - r) without a largest weight."""
    peer = pytest.importorskip("estimators.bandits.cs", reason="vw-estimators is not installed")
    weights, rewards = draw(7, 3000, rate)
    theirs = peer.Interval(rmin=0, rmax=1)
    for weight, reward in zip(weights.tolist(), rewards.tolist(), strict=True):
        theirs.add_example(1.0, reward, weight)
    low, high = theirs.get(0.05)
    known, unknown = (sequence(weights, rewards, largest=bound).interval(0.95) for bound in (1.75, None))
    assert known.high - known.low < high - low
    # Without a largest weight both play with the same terms.
    assert unknown.high - unknown.low == pytest.approx(high - low, rel=0.3)
    assert max(low, known.low) <= rate <= min(high, known.high)
