"""Dual pacing: bid the value divided by the budget's multiplier, which is learnt during the run."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Self

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.pacing.dual import AdditivePacer, DualPacer, Pace
from ctrkit.bidding.strategies.base import AuctionHistory, Bids, TickResult, best_ad
from ctrkit.bidding.strategies.paced import PacedBidding
from ctrkit.bidding.strategies.tuning import budget_multiplier
from ctrkit.settings import Positive, checked


@checked
class DualBidding(PacedBidding[Pace]):
    """b = v/μ with the multiplicative Lagrangian pacing of `ctrkit.bidding.pacing.dual.DualPacer`.

    With a history, `tuned` sets the first μ to the one at which the bids spend exactly the budget.
    """

    name = "dual"

    def start(self, budget: float, auctions: int) -> Pace:
        return self.pacer.start(budget, auctions)

    def restart(self, state: Pace, budget: float, auctions: int) -> Pace:
        return self.pacer.restart(state, budget, auctions)

    def paced(self, state: Pace, slots: Slots, value: Floats) -> Bids:
        """Bids on the candidates with the highest value [n, K]; a value below 0 gives no bid."""
        ad, value = best_ad(np.where(slots.click_probability > 0, value, -np.inf))
        value = np.maximum(value, 0.0)
        amount = self.pacer.bid(state, value, slots.timestamp)
        return Bids(ad, amount, value, self.pacer.multiplier(state, value, slots.timestamp))

    def bid(self, state: Pace, slots: Slots, rng: np.random.Generator) -> Bids:
        return self.paced(state, slots, slots.value)

    def update(self, state: Pace, result: TickResult) -> Pace:
        spend, time = float(result.paid.sum()), result.slots.timestamp
        return self.pacer.update(state, result.bids.value, spend, time)

    def worth(self, history: AuctionHistory) -> Floats | None:
        """The value that it divides by μ in the auctions of a history, [n]; None if a history cannot tell."""
        return history.value

    def tuned(self, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> Self:
        worth = self.worth(history)
        multiplier = budget_multiplier(self.name, history, terms, auctions, worth)
        if worth is None:  # close enough to start from, but with no weight
            return replace(self, initial_multiplier=multiplier or self.initial_multiplier)
        return self.beginning_with(multiplier, terms.budget / auctions)


@checked
class AdditiveDualBidding(DualBidding):
    """b = v/μ with the additive pacing of `ctrkit.bidding.pacing.dual.AdditivePacer`."""

    name = "dual-additive"
    needs_multiplier = True
    step: Positive = Field(
        default=0.05,
        kw_only=True,
        description="step size of every update, as a share of the first multiplier; needs a good first one",
    )

    @cached_property
    def pacer(self) -> DualPacer:
        return AdditivePacer(self.step, self.initial_multiplier, self.plan)
