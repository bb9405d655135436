"""Clopper-Pearson against scipy's exact binomial test, and against vw-estimators where it is installed.

The Cressie-Read interval is held against the same package here, for the same rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from ctrkit.errors import ConfigError
from ctrkit.ope.intervals.clopper_pearson import clopper_pearson
from ctrkit.ope.intervals.interval import Unseen, cressie_read
from ctrkit.ope.intervals.moments import TERM, Floats, Moments

CONFIDENCES = (0.8, 0.95, 0.99)


def draw(seed: int, rows: int = 300, rate: float = 0.1) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return np.minimum(rng.gamma(0.8, 1.25, size=rows), 9.0), (rng.random(rows) < rate).astype(float)


def moments(weights: Floats, rewards: Floats, users: np.ndarray | None = None) -> Moments:
    found = Moments()
    found.update(weights, weights * rewards, rewards, users, np.ones(len(weights)))
    return found


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("clicks", [0, 1, 37, 250])
def test_weights_of_one_give_the_exact_binomial_interval(clicks: int, confidence: float) -> None:
    rewards = (np.arange(250) < clicks).astype(float)
    found = clopper_pearson(moments(np.ones(250), rewards), 1.0, (0.0, 1.0), confidence)
    expected = stats.binomtest(clicks, 250).proportion_ci(confidence, method="exact")
    # scipy finds its bounds by a root search of finite precision.
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], rtol=0, atol=1e-9)
    assert found.method == "clopper-pearson"


def test_weights_of_zero_or_two_are_a_binomial_count_of_half_the_rows() -> None:
    """Σ w r / 2 = 30 successes of 200 / 2 trials."""
    weights, rewards = np.tile([0.0, 2.0], 100), np.repeat([1.0, 0.0], [60, 140])
    found = clopper_pearson(moments(weights, rewards), 2.0, (0.0, 1.0), 0.95)
    expected = stats.binomtest(30, 100).proportion_ci(0.95, method="exact")
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], rtol=0, atol=1e-9)


def test_scale_of_rewards_only_moves_the_ends() -> None:
    weights, rewards = draw(0)
    plain = clopper_pearson(moments(weights, rewards), 9.0, (0.0, 1.0), 0.95)
    moved = clopper_pearson(moments(weights, 5 * rewards - 2), 9.0, (-2.0, 3.0), 0.95)
    np.testing.assert_allclose([moved.low, moved.high], [5 * plain.low - 2, 5 * plain.high - 2], rtol=1e-9)


def test_copies_of_rows_by_user_tell_nothing_new() -> None:
    weights, rewards = draw(1)
    users = np.tile(np.arange(300), 4)
    copies = moments(np.tile(weights, 4), np.tile(rewards, 4), users)
    alone = clopper_pearson(moments(weights, rewards), 9.0, (0.0, 1.0), 0.95)
    clustered = clopper_pearson(copies, 9.0, (0.0, 1.0), 0.95)
    np.testing.assert_allclose([clustered.low, clustered.high], [alone.low, alone.high], rtol=1e-9)


def test_more_successes_than_trials() -> None:
    """The weights' mean is far above 1 by chance: the interval ends where the rewards do."""
    found = clopper_pearson(moments(np.full(20, 3.0), np.ones(20)), 3.0, (0.0, 1.0), 0.95)
    assert 0 < found.low < found.high == 1


@pytest.mark.parametrize(("largest", "least"), [(0.0, 0.0), (np.inf, 0.0), (2.0, 1.0)])
def test_nothing_follows_without_bounds(largest: float, least: float) -> None:
    with pytest.raises(ConfigError, match="give no interval"):
        clopper_pearson(moments(*draw(0)), largest, (least, 1.0), 0.95)


@pytest.fixture(scope="module")
def peers() -> Any:
    return pytest.importorskip("estimators.bandits", reason="vw-estimators is not installed")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("reward_range", [(0.0, 1.0), (-1.0, 2.0)])
def test_same_interval_as_vw_estimators(
    seed: int, confidence: float, reward_range: tuple[float, float], peers: Any
) -> None:
    from estimators.bandits import clopper_pearson as peer

    weights, clicks = draw(seed)
    least, most = reward_range
    rewards = least + (most - least) * clicks
    theirs = peer.Interval(*reward_range)
    for weight, reward in zip(weights.tolist(), rewards.tolist(), strict=True):
        theirs.add_example(1.0, reward, weight)
    found = clopper_pearson(moments(weights, rewards), float(weights.max()), reward_range, confidence)
    np.testing.assert_allclose([found.low, found.high], theirs.get(1 - confidence), rtol=1e-6)


@pytest.mark.parametrize("mean_weight", [0.93, 1.07])
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("reward_range", [(0.0, 1.0), (-1.0, 2.0)])
def test_cressie_read_is_that_of_vw_estimators(
    mean_weight: float, rate: float, reward_range: tuple[float, float], peers: Any
) -> None:
    """Where the weights' mean is so far from 1 that one unseen row does not take it past 1."""
    from estimators.bandits import cressieread as peer

    weights, clicks = draw(0, rate=rate)
    weights *= mean_weight / weights.mean()
    least, most = reward_range
    rewards = least + (most - least) * clicks
    largest = 10.0
    theirs = peer.Interval(0.0, largest, *reward_range)
    for weight, reward in zip(weights.tolist(), rewards.tolist(), strict=True):
        theirs.add_example(1.0, reward, weight)
    unseen = [Unseen(weight, weight * least, weight * most) for weight in (0.0, largest)]
    found = cressie_read(moments(weights, rewards), TERM, unseen, 0.95)
    clipped = np.clip([found.low, found.high], least, most)
    np.testing.assert_allclose(clipped, theirs.get(0.05), rtol=1e-6, atol=1e-9)


def test_cressie_read_where_the_definitions_differ(peers: Any) -> None:
    """One unseen row of the largest weight would take the mean weight farther from 1 than it is.

    vw-estimators measures the distance to the nearest distribution with that row even so; ours, and the
    definition, with whichever row makes it nearest. Its interval is therefore the wider one.
    """
    from estimators.bandits import cressieread as peer

    weights = np.tile([0.5, 1.499], 25)
    rewards = (np.arange(50) % 5 == 0).astype(float)
    theirs = peer.Interval(0.0, 100.0, 0.0, 1.0)
    for weight, reward in zip(weights.tolist(), rewards.tolist(), strict=True):
        theirs.add_example(1.0, reward, weight)
    low, high = theirs.get(0.05)
    found = cressie_read(
        moments(weights, rewards), TERM, [Unseen(0.0, 0.0, 0.0), Unseen(100.0, 0.0, 100.0)], 0.95
    )
    assert low <= max(found.low, 0.0)
    assert high >= min(found.high, 1.0)
    assert high - low > 1.02 * (min(found.high, 1.0) - max(found.low, 0.0))
