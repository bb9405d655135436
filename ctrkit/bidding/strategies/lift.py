"""Lift bidding: pay for what the ad changes, not for what happens under it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.pacing.dual import Pace
from ctrkit.bidding.strategies.base import AuctionHistory, Bids
from ctrkit.bidding.strategies.dual import DualBidding
from ctrkit.settings import NotNegative, checked


@checked
class LiftBidding(DualBidding):
    """b = (p − p₀)·w/μ: the increase of the probability by the ad, times the value of the event, paced.

    A bidder who bids p·w buys users who would act anyway, since their p is high. A bid on the increase buys
    more additional actions for the same money. If the ad has no effect, the bid is 0. The event may be any
    that can happen without the ad, for example a conversion; then the slots hold its probability in place of
    the click probability.

    Source: J. Xu, X. Shao, J. Ma, K. Lee, H. Qi, Q. Lu, Lift-based bidding in ad selection, AAAI 2016.

    Attributes:
        organic: p₀ by a model, a function from slots to [n, K]; it replaces `organic_probability`.
    """

    name = "lift"
    organic_probability: NotNegative = Field(
        default=0.0, description="p₀, the probability of the event without the ad, the same for every slot"
    )
    organic: Callable[[Slots], Floats] | None = Field(default=None, exclude=True)

    def worth(self, history: AuctionHistory) -> Floats | None:
        if self.organic is not None:
            return None
        p = history.click_probability
        return history.value * np.maximum(1.0 - self.organic_probability / np.where(p > 0, p, np.inf), 0.0)

    def bid(self, state: Pace, slots: Slots, rng: np.random.Generator) -> Bids:
        without = self.organic_probability if self.organic is None else self.organic(slots)
        return self.paced(state, slots, (slots.click_probability - without) * slots.value_of_click)
