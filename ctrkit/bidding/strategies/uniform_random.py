"""Random bidding: uniform between nothing and a highest bid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.bidding.strategies.base import History, check_positive
from ctrkit.bidding.strategies.scaled import ScaledBidding, ScaledState


@dataclass(frozen=True)
class UniformRandomBidding(ScaledBidding[ScaledState]):
    """b ~ U(0, c).

    Attributes:
        highest_bid: c, in units of money; by default found in the first tenth of the auctions.
    """

    name = "random"
    highest_bid: float | None = None

    def __post_init__(self) -> None:
        check_positive(self.name, "highest_bid", self.highest_bid)

    def start(self, budget: float, auctions: int) -> ScaledState:
        return self.first_state(budget, auctions)

    def shape(self, click_probability: Floats, value: Floats) -> Floats:
        return np.ones(len(value))

    def scale(self, state: ScaledState, shape: Floats) -> float | None:
        return self.highest_bid

    def with_scale(self, scale: float, history: History) -> Self:
        return type(self)(scale)

    def amount(self, state: ScaledState | None, scaled: Floats, rng: np.random.Generator) -> Floats:
        return scaled * rng.random(len(scaled))
