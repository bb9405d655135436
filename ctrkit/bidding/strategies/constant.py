"""Constant bidding: the same bid for every slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.bidding.strategies.base import History, check_positive
from ctrkit.bidding.strategies.scaled import ScaledBidding, ScaledState


@dataclass(frozen=True)
class ConstantBidding(ScaledBidding[ScaledState]):
    """b = c: what knowing nothing of the impression is worth.

    Attributes:
        bid_amount: c, in units of money; by default found in the first tenth of the auctions.
    """

    name = "constant"
    bid_amount: float | None = None

    def __post_init__(self) -> None:
        check_positive(self.name, "bid_amount", self.bid_amount)

    def start(self, budget: float, auctions: int) -> ScaledState:
        return self.first_state(budget, auctions)

    def shape(self, click_probability: Floats, value: Floats) -> Floats:
        return np.ones(len(value))

    def scale(self, state: ScaledState, shape: Floats) -> float | None:
        return self.bid_amount

    def with_scale(self, scale: float, history: History) -> Self:
        return type(self)(scale)
