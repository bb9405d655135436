"""Dual pacing: bid the value divided by the budget's multiplier, which is learnt on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.bidding.auctions import Slots
from ctrkit.bidding.pacing import DualPacer, Pace
from ctrkit.bidding.strategies.base import Bids, BidStrategy, TickResult, best_ad, check_positive


@dataclass(frozen=True)
class DualBidding(BidStrategy[Pace]):
    """b = v/μ with the multiplicative Lagrangian pacing of `ctrkit.bidding.pacing.DualPacer`.

    Attributes:
        step: of the multiplier's first update.
        initial_multiplier: the first μ, in units of value a unit of money; by default from the first tick.
    """

    name = "dual"
    step: float = 1.0
    initial_multiplier: float | None = None

    def __post_init__(self) -> None:
        check_positive(self.name, "step", self.step)
        check_positive(self.name, "initial_multiplier", self.initial_multiplier)

    @property
    def pacer(self) -> DualPacer:
        return DualPacer(self.step, self.initial_multiplier)

    def start(self, budget: float, auctions: int) -> Pace:
        return self.pacer.start(budget, auctions)

    def bid(self, state: Pace, slots: Slots, rng: np.random.Generator) -> Bids:
        ad, value = best_ad(slots.value)
        return Bids(ad, self.pacer.bid(state, value), value, self.pacer.multiplier(state, value))

    def update(self, state: Pace, result: TickResult) -> Pace:
        return self.pacer.update(state, result.bids.value, float(result.paid.sum()))
