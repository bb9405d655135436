"""Random bidding: uniform between 0 and a highest bid."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.bidding.strategies.base import AuctionHistory
from ctrkit.bidding.strategies.scaled import ScaledBidding, ScaledState
from ctrkit.settings import Positive, checked


@checked
class UniformRandomBidding(ScaledBidding[ScaledState]):
    """b ~ U(0, c): a random bid, the same distribution for every impression."""

    name = "random"
    by_chance = True
    highest_bid: Positive | None = Field(
        default=None, description="c, in units of money; by default found in the first tenth of the auctions"
    )

    def start(self, budget: float, auctions: int) -> ScaledState:
        return self.first_state(budget, auctions)

    def shape(self, click_probability: Floats, value: Floats) -> Floats:
        return np.ones(len(value))

    def scale(self, state: ScaledState, shape: Floats) -> float | None:
        return self.highest_bid

    def with_scale(self, scale: float, history: AuctionHistory) -> Self:
        return type(self)(scale)

    def amount(self, state: ScaledState | None, scaled: Floats, rng: np.random.Generator) -> Floats:
        return scaled * rng.random(len(scaled))
