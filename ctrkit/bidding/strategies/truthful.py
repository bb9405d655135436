"""Truthful bidding: bid the value of the impression."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.strategies.base import Bids, BidStrategy, best_ad, of_ad
from ctrkit.settings import Positive, checked


@checked
class TruthfulBidding(BidStrategy[None]):
    """b = v, the dominant strategy of a second-price auction without a budget."""

    name = "truthful"
    value_per_click: Positive | None = Field(
        default=None,
        description="value of a click in units of money, for b = pCTR · value_per_click; by default the "
        "slot's own value of a click; give it if that is unknown, since a bid of pCTR · 1 wins little",
    )

    def start(self, budget: float, auctions: int) -> None:
        return None

    def bid(self, state: None, slots: Slots, rng: np.random.Generator) -> Bids:
        ad, value = best_ad(slots.value)
        if self.value_per_click is None:
            return Bids(ad, value, value)
        return Bids(ad, of_ad(slots.click_probability, ad) * self.value_per_click, value)
