"""What a bid landscape is: the distribution of the market price, which gives a bid's chance to win."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes.bounds import PriceBounds


class Landscape(ABC):
    """The distribution of the market price z, the highest competing bid, in units of money an impression.

    A bid wins at or above the market price, as everywhere in ctrkit: F(b) = P(z ≤ b), ties included. Prices
    are at least 0; one may be infinite with some probability where the data do not reach that far.

    Attributes:
        name: of the kind, in `ctrkit.bidding.landscapes.LANDSCAPES`.
    """

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(cls, bounds: PriceBounds) -> Self:
        """The landscape of most likelihood.

        Raises:
            DataError: when the rows do not determine one.
        """

    @abstractmethod
    def win_probability(self, bid: ArrayLike) -> Floats:
        """F(b) = P(z ≤ b) of bids of any shape."""

    @abstractmethod
    def quantile(self, probability: ArrayLike) -> Floats:
        """The lowest price z with F(z) ≥ probability, of the same shape; infinite where there is none."""

    @abstractmethod
    def log_likelihood(self, bounds: PriceBounds) -> float:
        """Σ weight · log P(what is known of the price); a smooth landscape takes the density of a price."""

    def sample(self, rng: np.random.Generator, size: int) -> Floats:
        """Market prices [size], one drawn for each auction."""
        return self.quantile(rng.random(size))
