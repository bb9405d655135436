"""The histogram landscape: the empirical distribution of prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes.base import Landscape
from ctrkit.bidding.landscapes.bounds import PriceBounds
from ctrkit.errors import ConfigError, DataError


@dataclass(frozen=True)
class Histogram(Landscape):
    """Prices and their probabilities; `fit` takes their shares among the observed prices.

    Attributes:
        price: [K], rising, at least 0.
        cumulative: F at these prices, [K], rising, above 0 and at most 1. If the last is below 1, the rest is
            the probability of a price above the data; `quantile` gives infinity for it.
    """

    price: Floats
    cumulative: Floats

    name: ClassVar[str] = "histogram"

    def __post_init__(self) -> None:
        price, share = self.price, self.cumulative
        if price.ndim != 1 or not len(price) or price.shape != share.shape:
            raise ConfigError(
                "a histogram needs at least one price, and one cumulative probability per price"
            )
        # Written so that NaN fails.
        rises = price[0] >= 0 and share[0] > 0 and (np.diff(price) > 0).all() and (np.diff(share) > 0).all()
        if not (rises and share[-1] <= 1 and price[-1] < np.inf):
            raise ConfigError(
                "the prices of a histogram must rise from at least 0, and its probabilities up to at most 1"
            )

    @classmethod
    def fit(cls, bounds: PriceBounds) -> Self:
        rows = bounds.merged()
        if not len(rows) or not rows.known.all():
            raise DataError(
                "a histogram needs known prices, but of some auctions only bounds are known",
                hint="Fit a smooth landscape",
            )
        running = np.cumsum(rows.weight)
        return cls(rows.low, running / running[-1])

    @property
    def probability(self) -> Floats:
        """The probability of each price, [K]."""
        return np.diff(self.cumulative, prepend=0.0)

    def win_probability(self, bid: ArrayLike) -> Floats:
        return np.append(0.0, self.cumulative)[np.searchsorted(self.price, bid, side="right")]

    def quantile(self, probability: ArrayLike) -> Floats:
        return np.append(self.price, np.inf)[np.searchsorted(self.cumulative, probability, side="left")]

    def log_likelihood(self, bounds: PriceBounds) -> float:
        below = np.where(bounds.known, np.nextafter(bounds.low, -np.inf), bounds.low)
        up_to = np.where(bounds.high == np.inf, 1.0, self.win_probability(bounds.high))
        rows = bounds.weight > 0
        with np.errstate(divide="ignore"):
            return float(bounds.weight[rows] @ np.log(up_to - self.win_probability(below))[rows])
