"""What a bid landscape is: the distribution of the market price, which gives a bid's win probability."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes.bounds import PriceBounds


class Landscape(ABC):
    """The distribution of the market price z, the highest competing bid, in units of money per impression.

    A bid wins at or above the market price, as everywhere in ctrkit: F(b) = P(z ≤ b), ties included. Prices
    are at least 0. A price may be infinite with some probability if the data do not reach that far.

    Attributes:
        name: the name of the kind in `ctrkit.bidding.landscapes.LANDSCAPES`.
    """

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(cls, bounds: PriceBounds) -> Self:
        """The landscape of maximum likelihood.

        Raises:
            DataError: the rows do not determine a landscape.
        """

    @abstractmethod
    def win_probability(self, bid: ArrayLike) -> Floats:
        """F(b) = P(z ≤ b) of bids of any shape."""

    @abstractmethod
    def quantile(self, probability: ArrayLike) -> Floats:
        """The lowest price z with F(z) ≥ probability, of the same shape; infinite if there is none."""

    @abstractmethod
    def log_likelihood(self, bounds: PriceBounds) -> float:
        """Σ weight · log P(what is known of the price); smooth landscapes take densities of known prices."""

    def sample(self, rng: np.random.Generator, size: int) -> Floats:
        """Market prices [size], one drawn for each auction."""
        return self.quantile(rng.random(size))
