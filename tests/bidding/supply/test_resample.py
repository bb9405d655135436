"""The Poisson bootstrap against its formula: mean, variance, and the Poisson law itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ctrkit.bidding import Auctions
from ctrkit.bidding.supply import resampled
from ctrkit.errors import DataError

Log = Callable[..., Auctions]
Gathered = Callable[[Iterable[Auctions]], Auctions]
SEEDS = 500


def near_moments(sums: np.ndarray, mean: float, variance: float) -> None:
    """The mean within 4 of its deviations, the variance within 4 of a normal variable's."""
    assert abs(sums.mean() - mean) < 4 * np.sqrt(variance / len(sums))
    assert sums.var(ddof=1) == pytest.approx(variance, rel=4 * np.sqrt(2 / len(sums)))


@pytest.mark.parametrize("by_user", [False, None])
def test_mean_and_variance_of_a_sum_are_the_bootstrap_s(
    full_log: Log, without_truth: Callable[[Auctions], Auctions], by_user: bool | None
) -> None:
    log = without_truth(full_log(600, users=60))
    sums = np.array([
        sum(float(chunk.market_price.sum()) for chunk in resampled([log], seed, by_user))
        for seed in range(SEEDS)
    ])  # fmt: skip
    alone, together = (log.market_price**2).sum(), (np.bincount(log.user, log.market_price) ** 2).sum()
    assert together > 3 * alone
    near_moments(sums, log.market_price.sum(), alone if by_user is False else together)


@pytest.mark.parametrize("by_user", [False, True])
def test_auctions_come_a_poisson_number_of_times(full_log: Log, gathered: Gathered, by_user: bool) -> None:
    log = replace(full_log(50_000), user=np.arange(50_000))
    found = gathered(resampled([log], seed=1, by_user=by_user))
    place = np.searchsorted(log.timestamp, found.timestamp)
    assert (np.diff(place) >= 0).all()
    times = np.bincount(place, minlength=50_000)
    seen = np.bincount(np.minimum(times, 6), minlength=7)
    law = np.append(stats.poisson(1).pmf(np.arange(6)), stats.poisson(1).sf(5))
    assert stats.chisquare(seen, law * 50_000).pvalue > 1e-3


def test_each_repeat_is_a_user_with_all_auctions_of_one(full_log: Log, gathered: Gathered) -> None:
    log = full_log(2000, users=300)
    found = gathered(resampled([log], seed=2))
    codes = np.unique(found.user)
    np.testing.assert_array_equal(codes, np.arange(len(codes)))
    copies = np.zeros(300, int)
    for code in codes:
        rows = np.searchsorted(log.timestamp, found.timestamp[found.user == code])
        owner = log.user[rows[0]]
        np.testing.assert_array_equal(rows, np.flatnonzero(log.user == owner))
        copies[owner] += 1
    assert copies.max() > 2
    assert (copies == 0).any()


def test_clicks_of_known_truth_are_drawn_anew(full_log: Log) -> None:
    log = full_log(500, ads=1)
    sums = np.array([sum(float(c.click.sum()) for c in resampled([log], s, False)) for s in range(SEEDS)])
    # A Poisson number of coins of chance p is Poisson of mean p, and so is their sum.
    rate = log.true_click_probability.sum()
    near_moments(sums, rate, rate)


def test_clicks_of_unknown_truth_are_the_log_s(
    full_log: Log, without_truth: Callable[[Auctions], Auctions], gathered: Gathered
) -> None:
    log = without_truth(full_log(500))
    found = gathered(resampled([log], seed=3))
    place = np.searchsorted(log.timestamp, found.timestamp)
    for name in ("click", "conversion", "earned", "market_price", "hidden", "slot_price"):
        np.testing.assert_array_equal(getattr(found, name), getattr(log, name)[place])


def test_without_users_auctions_are_drawn_one_by_one(full_log: Log, gathered: Gathered) -> None:
    log = replace(full_log(200), user=None)
    assert gathered(resampled([log])).user is None
    with pytest.raises(DataError, match="Resample auctions, not users"):
        list(resampled([log], by_user=True))
