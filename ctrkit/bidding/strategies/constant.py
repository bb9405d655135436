"""Constant bidding: the same bid for every slot."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.bidding.strategies.base import AuctionHistory
from ctrkit.bidding.strategies.scaled import ScaledBidding, ScaledState
from ctrkit.settings import Positive, checked


@checked
class ConstantBidding(ScaledBidding[ScaledState]):
    """b = c, the same for every impression."""

    name = "constant"
    bid_amount: Positive | None = Field(
        default=None, description="c, in units of money; by default found in the first tenth of the auctions"
    )

    def start(self, budget: float, auctions: int) -> ScaledState:
        return self.first_state(budget, auctions)

    def shape(self, click_probability: Floats, value: Floats) -> Floats:
        return np.ones(len(value))

    def scale(self, state: ScaledState, shape: Floats) -> float | None:
        return self.bid_amount

    def with_scale(self, scale: float, history: AuctionHistory) -> Self:
        return type(self)(scale)
