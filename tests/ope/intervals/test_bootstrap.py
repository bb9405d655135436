"""The Poisson bootstrap against published hashes, a loop over rows, scipy's bootstrap and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import ConfigError
from ctrkit.ope.intervals.bootstrap import (
    GOLDEN,
    PoissonBootstrap,
    Statistic,
    difference_to_logging,
    ips,
    mixed,
    snips,
)

MASK = 2**64 - 1
ROWS = 600


def draw(seed: int = 0, rows: int = ROWS, users: int | None = None) -> tuple[Floats, Floats, Integers]:
    """Weights, rewards and users."""
    rng = np.random.default_rng(seed)
    rewards = (rng.random(rows) < 0.2).astype(float)
    keys = np.arange(rows) if users is None else rng.integers(users, size=rows)
    return rng.gamma(0.8, 1.25, size=rows), rewards, keys


def bootstrap(
    weights: Floats, rewards: Floats, users: Integers, replicates: int = 200, seed: int = 0
) -> PoissonBootstrap:
    found = PoissonBootstrap(replicates, seed)
    found.update(
        weights, weights * rewards, rewards, users.astype(np.int64).view(np.uint64), np.ones(len(users))
    )
    return found


def test_hash_is_splitmix64() -> None:
    """The first numbers of the generator with seed 0, as its authors and others print them."""
    states = np.arange(1, 4, dtype=np.uint64) * GOLDEN
    assert [int(word) for word in mixed(states)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def splitmix(word: int) -> int:
    """The same on Python's whole numbers."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


@pytest.mark.parametrize("seed", [0, 7, -1])
def test_replicates_are_those_of_a_loop_over_rows(seed: int) -> None:
    weights, rewards, users = draw(1, 60, users=25)
    users = users - 10  # ids may be negative
    golden = 0x9E3779B97F4A7C15
    start = splitmix(((seed & MASK) * golden + golden) & MASK)
    expected = np.zeros((8, 4))
    for weight, reward, user in zip(weights.tolist(), rewards.tolist(), users.tolist(), strict=True):
        state = splitmix((user & MASK) ^ start)
        for replicate in range(8):
            word = splitmix((state + (replicate // 4 + 1) * golden) & MASK)
            bits = word >> (16 * (replicate % 4)) & 0xFFFF
            copies = stats.poisson.ppf((bits + 0.5) / 2**16, 1)
            expected[replicate] += copies * np.array([1, weight, weight * reward, reward])
    found = bootstrap(weights, rewards, users, 8, seed)
    np.testing.assert_allclose(found.sums, expected, rtol=1e-12)
    np.testing.assert_allclose(
        found.observed, [60, weights.sum(), (weights * rewards).sum(), rewards.sum()], rtol=1e-12
    )


def test_parts_in_any_order_are_the_whole_even_where_users_are_torn_apart() -> None:
    weights, rewards, users = draw(2, users=150)
    whole = bootstrap(weights, rewards, users)
    shuffled = np.random.default_rng(0).permutation(ROWS)
    merged = PoissonBootstrap(200)
    for part in np.array_split(shuffled, 7):
        merged.merge(bootstrap(weights[part], rewards[part], users[part]))
    np.testing.assert_allclose(merged.sums, whole.sums, rtol=1e-12)
    for statistic in (ips, snips, difference_to_logging(snips)):
        one, other = merged.interval(statistic, 0.9), whole.interval(statistic, 0.9)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-12)
    with pytest.raises(ConfigError, match="cannot be merged"):
        merged.merge(PoissonBootstrap(200, seed=1))
    with pytest.raises(ConfigError, match="cannot be merged"):
        merged.merge(PoissonBootstrap(100))


@pytest.mark.slow
def test_copies_are_poisson_and_independent() -> None:
    """Each user alone: the first column holds his copies in each replicate."""
    alone = np.stack([bootstrap(*draw(0, 1)[:2], np.array([user]), 400).sums[:, 0] for user in range(300)])
    values = np.arange(8)
    observed = np.array([(alone == value).sum() for value in values[:-1]] + [(alone >= 7).sum()])
    chances = np.append(stats.poisson.pmf(values[:-1], 1), stats.poisson.sf(6, 1))
    assert stats.chisquare(observed, chances * alone.size).pvalue > 1e-3
    # Between users and between replicates: no more correlation than independent draws have.
    for table in (alone, alone.T):
        pairs = np.corrcoef(table)[np.triu_indices(len(table), 1)]
        assert abs(pairs.mean()) < 5 / np.sqrt(len(pairs) * table.shape[1])
        assert pairs.std() == pytest.approx(1 / np.sqrt(table.shape[1]), rel=0.05)
    other_seed = np.stack([bootstrap(*draw(0, 1)[:2], np.array([u]), 400, 1).sums[:, 0] for u in range(300)])
    assert abs(np.corrcoef(alone.ravel(), other_seed.ravel())[0, 1]) < 5 / np.sqrt(alone.size)


@pytest.mark.parametrize("statistic", [ips, snips])
def test_interval_is_near_that_of_scipys_bootstrap(statistic: Statistic) -> None:
    weights, rewards, users = draw(3)
    found = bootstrap(weights, rewards, users, 4000).interval(statistic, 0.9)

    def of_rows(w: Floats, r: Floats, axis: int = -1) -> Floats:
        top = (w * r).sum(axis=axis)
        return np.asarray(top / w.shape[axis] if statistic is ips else top / w.sum(axis=axis))

    theirs = stats.bootstrap(
        (weights, rewards),
        of_rows,
        n_resamples=4000,
        paired=True,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    # 4,000 replicates leave an end about 0.03 standard errors of play, of an interval 3.3 long.
    play = 0.04 * (theirs.high - theirs.low)
    np.testing.assert_allclose([found.low, found.high], [theirs.low, theirs.high], atol=play)
    assert found.method == "Poisson bootstrap"


def test_spread_by_user_is_that_of_the_users_sums() -> None:
    """Copies of a row in a user's name add nothing."""
    weights, rewards, _ = draw(4)
    copies = bootstrap(np.tile(weights, 5), np.tile(rewards, 5), np.tile(np.arange(ROWS), 5), 2000)
    alone = bootstrap(weights, rewards, np.arange(ROWS), 2000)
    np.testing.assert_allclose(copies.replicates(snips), alone.replicates(snips), rtol=1e-12)
    values = weights * (rewards - snips(alone.observed)) / weights.mean()
    assert alone.replicates(snips).std() == pytest.approx(stats.sem(values), rel=0.06)
    terms = weights * rewards - rewards
    assert alone.replicates(difference_to_logging(ips)).std() == pytest.approx(stats.sem(terms), rel=0.06)


def test_covers_users_of_many_rows_where_rows_taken_for_independent_do_not() -> None:
    """100 users of 10 rows, each of whom clicks on all or on nothing."""
    draws, covered, covered_by_row = 150, 0, 0
    rng = np.random.default_rng(5)
    for number in range(draws):
        taste = (rng.random(100) < 0.3).astype(float)
        rewards, users = np.repeat(taste, 10), np.repeat(np.arange(100), 10) + 1000 * number
        ones = np.ones(1000)
        found = bootstrap(ones, rewards, users).interval(ips, 0.9)
        by_row = bootstrap(ones, rewards, np.arange(1000) + 1000 * number).interval(ips, 0.9)
        covered += found.low <= 0.3 <= found.high
        covered_by_row += by_row.low <= 0.3 <= by_row.high
    assert 0.82 <= covered / draws <= 0.97
    assert covered_by_row / draws < 0.6


def test_what_no_replicate_determines_is_nan() -> None:
    zeros = np.zeros(5)
    found = bootstrap(zeros, zeros, np.arange(5))
    assert np.isnan(found.interval(snips, 0.95).low)
    assert found.interval(ips, 0.95).high == 0
    assert np.isnan(PoissonBootstrap(4).interval(ips, 0.95).low)
    with pytest.raises(ConfigError, match="at least 1 replicate"):
        PoissonBootstrap(0)
