"""Truthful bidding: what the impression is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.strategies.base import Bids, BidStrategy, best_ad, check_positive, of_ad


@dataclass(frozen=True)
class TruthfulBidding(BidStrategy[None]):
    """b = v, the dominant strategy of a second-price auction without a budget.

    Attributes:
        value_per_click: b = pCTR · value_per_click, in units of money; by default the slots' own value of a
            click. Give it where that is unknown, for a bid of pCTR · 1 wins little.
    """

    name = "truthful"
    value_per_click: float | None = None

    def __post_init__(self) -> None:
        check_positive(self.name, "value_per_click", self.value_per_click)

    def start(self, budget: float, auctions: int) -> None:
        return None

    def bid(self, state: None, slots: Slots, rng: np.random.Generator) -> Bids:
        ad, value = best_ad(slots.value)
        if self.value_per_click is None:
            return Bids(ad, value, value)
        return Bids(ad, of_ad(slots.click_probability, ad) * self.value_per_click, value)
