"""Landscapes of steps: the empirical distribution of prices, and the best one for win notices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes.base import Landscape
from ctrkit.bidding.landscapes.bounds import PriceBounds
from ctrkit.calibration.pooling import rising_shares
from ctrkit.errors import ConfigError, DataError


@dataclass(frozen=True)
class Histogram(Landscape):
    """Prices that occur and how probable they are; `fit` takes the shares among observed prices.

    Attributes:
        price: [K], rising, at least 0.
        cumulative: F at these prices, [K], rising, above 0 and at most 1. What is missing to 1 in the end is
            the probability of a price above all that the data reach; `quantile` calls such a price infinite.
    """

    price: Floats
    cumulative: Floats

    name: ClassVar[str] = "histogram"

    def __post_init__(self) -> None:
        price, share = self.price, self.cumulative
        if price.ndim != 1 or not len(price) or price.shape != share.shape:
            raise ConfigError("a histogram needs prices and as many cumulative probabilities, at least one")
        # Written so that NaN fails.
        rises = price[0] >= 0 and share[0] > 0 and (np.diff(price) > 0).all() and (np.diff(share) > 0).all()
        if not (rises and share[-1] <= 1 and price[-1] < np.inf):
            raise ConfigError(
                "the prices and probabilities of a histogram rise, from 0 on and up to at most 1"
            )

    @classmethod
    def fit(cls, bounds: PriceBounds) -> Self:
        rows = bounds.merged()
        if not len(rows) or not rows.known.all():
            raise DataError(
                "a histogram is made of known prices, and some auctions tell only bounds",
                mend="Fit kaplan-meier to second-price bids, win-notice to win notices, or a smooth kind",
            )
        running = np.cumsum(rows.weight)
        return cls(rows.low, running / running[-1])

    @property
    def probability(self) -> Floats:
        """Of each price, [K]."""
        return np.diff(self.cumulative, prepend=0.0)

    def win_probability(self, bid: ArrayLike) -> Floats:
        return self._at(bid, self.cumulative)

    def expected_payment(self, bid: ArrayLike) -> Floats:
        return self._at(bid, np.cumsum(self.price * self.probability))

    def quantile(self, probability: ArrayLike) -> Floats:
        return np.append(self.price, np.inf)[np.searchsorted(self.cumulative, probability, side="left")]

    def first_price_bid(self, worth: ArrayLike) -> Floats:
        bids, limits = self._best_bids
        return bids[np.searchsorted(limits, worth, side="left")]

    def log_likelihood(self, bounds: PriceBounds) -> float:
        below = np.where(bounds.known, np.nextafter(bounds.low, -np.inf), bounds.low)
        up_to = np.where(bounds.high == np.inf, 1.0, self.win_probability(bounds.high))
        rows = bounds.weight > 0
        with np.errstate(divide="ignore"):
            return float(bounds.weight[rows] @ np.log(up_to - self.win_probability(below))[rows])

    @cached_property
    def _best_bids(self) -> tuple[Floats, Floats]:
        """Bids that are best for some worth, rising [M], and the worths between each and the next, [M - 1].

        To bid the k-th price earns worth · F_k - b_k F_k: the best points (F, b F) are the lower convex hull,
        and a worth between the slopes of two edges chooses the corner between them.
        """
        price, share = np.append(0.0, self.price), np.append(0.0, self.cumulative)
        corners, limits = [0], [-np.inf]
        for new in range(1, len(price)):
            # The worth from which on the new bid is better than the last corner. A corner that is best for no
            # worth is none.
            while (limit := _limit(price, share, corners[-1], new)) <= limits[-1]:
                corners.pop()
                limits.pop()
            corners.append(new)
            limits.append(limit)
        return price[corners], np.array(limits[1:])

    def _at(self, bid: ArrayLike, running: Floats) -> Floats:
        return np.append(0.0, running)[np.searchsorted(self.price, bid, side="right")]


def _limit(price: Floats, share: Floats, low: int, high: int) -> float:
    """The worth at which two bids earn the same: worth · F - b F is a line of slope F."""
    cost = price[high] * share[high] - price[low] * share[low]
    return float(cost / (share[high] - share[low]))


class WinNotice(Histogram):
    """F from nothing but won or lost: the rising curve of most likelihood, by pooling adjacent violators.

    It is known only at the bids that were made; between two of them it keeps the value of the lower one.

    Source: M. Ayer, H. D. Brunk, G. M. Ewing, W. T. Reid, E. Silverman, An empirical distribution function
    for sampling with incomplete information, Annals of Mathematical Statistics 26 (1955).
    """

    name: ClassVar[str] = "win-notice"

    @classmethod
    def fit(cls, bounds: PriceBounds) -> Self:
        rows = bounds.merged()
        won = (rows.low == -np.inf) & (rows.high < np.inf)
        lost = (rows.low >= 0) & (rows.high == np.inf)
        if not won.any() or not (won | lost).all():
            raise DataError(
                "this landscape is made of win notices, some of them of a win",
                mend="Give bids that won and lost without their prices, or fit another kind",
            )
        bid, place = np.unique(np.where(won, rows.high, rows.low), return_inverse=True)
        wins, all_bids = np.zeros(len(bid)), np.zeros(len(bid))
        np.add.at(wins, place, rows.weight * won)
        np.add.at(all_bids, place, rows.weight)
        starts, shares = rising_shares(wins, all_bids)
        steps = np.diff(shares, prepend=0.0) > 0
        return cls(bid[starts[steps]], shares[steps])
