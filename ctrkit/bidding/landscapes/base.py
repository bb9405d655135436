"""What a bid landscape is: the distribution of the market price, which gives a bid's chance to win."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes.bounds import PriceBounds
from ctrkit.errors import ArtifactError


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
    def expected_payment(self, bid: ArrayLike) -> Floats:
        """E[z; z ≤ b], what a bid pays on average in a second-price auction, won or not."""

    @abstractmethod
    def first_price_bid(self, worth: ArrayLike) -> Floats:
        """argmax over b ≥ 0 of (worth - b) F(b), rising with the worth; 0 for a worth up to 0.

        Args:
            worth: the most that one would pay, in units of money: v, v / μ or v / (1 + λ), of any shape.
        """

    @abstractmethod
    def log_likelihood(self, bounds: PriceBounds) -> float:
        """Σ weight · log P(what is known of the price); a smooth landscape takes the density of a price."""

    def sample(self, rng: np.random.Generator, size: int) -> Floats:
        """Market prices [size], one drawn for each auction."""
        return self.quantile(rng.random(size))

    def state(self) -> dict[str, Any]:
        """The name of the kind, and plain arrays by name."""
        return {"name": self.name, **arrays_of(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of `state`.

        Raises:
            ArtifactError: the state is of another kind, or lacks a part.
        """
        return cls(**arrays_in(state, cls))


def arrays_of(landscape: Any) -> dict[str, Floats]:
    """Attributes that are numbers or arrays, as arrays."""
    given = {one.name: getattr(landscape, one.name) for one in fields(landscape)}
    return {
        name: np.asarray(value, np.float64)
        for name, value in given.items()
        if isinstance(value, (int, float, np.ndarray))
    }


def arrays_in(state: Mapping[str, Any], cls: Any, but: Collection[str] = ()) -> dict[str, Any]:
    """The numbers and arrays of a state of this kind.

    Args:
        but: attributes that are neither.

    Raises:
        ArtifactError: the state is of another kind, or its parts are not those of this one.
    """
    if state.get("name") != cls.name:
        raise ArtifactError(f"the state of landscape '{state.get('name')}' was read as '{cls.name}'")
    known = {one.name: one.default is MISSING for one in fields(cls) if one.name not in but}
    parts = {name: np.asarray(value, np.float64)[()] for name, value in state.items() if name in known}
    if lacks := [name for name, needed in known.items() if needed and name not in parts]:
        raise ArtifactError(f"the state of a {cls.name} landscape has no {lacks[0]}")
    return parts
