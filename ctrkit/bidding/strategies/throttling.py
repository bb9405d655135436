"""Probabilistic throttling: the bid stays as it is, and the budget is kept by sitting auctions out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.strategies.base import Bids, BidStrategy, TickResult, best_ad, of_ad
from ctrkit.settings import Positive, checked


@dataclass(frozen=True)
class ThrottlingState:
    """Spend and traffic of the episode so far.

    Attributes:
        budget, auctions: of the episode.
        rate: the probability with which the bidder takes part.
        spent, passed: money and auctions.
    """

    budget: float
    auctions: int
    rate: float
    spent: float = 0.0
    passed: int = 0


@checked
class ThrottlingBidding(BidStrategy[ThrottlingState]):
    """b = v with probability PTR, the pass-through rate, and no bid otherwise.

    After every tick PTR ← PTR·(1 + R) where the share of the budget that is spent lags behind the share of
    the expected traffic that has passed, and PTR·(1 − R) where it is ahead, never above 1. Even so it buys
    dear and cheap slots alike, which costs value; it leaves prices and the ranking of ads alone.

    Source: D. Agarwal, S. Ghosh, K. Wei, S. You, Budget pacing for targeted online advertisements at
    LinkedIn, KDD 2014.
    """

    name = "throttling"
    by_chance = True
    value_per_click: Positive | None = Field(
        default=None,
        description="b = pCTR · value_per_click, in units of money; by default the slots' own value of a "
        "click, as of truthful bidding",
    )
    step: Positive = Field(default=0.1, le=1, description="R")
    initial_rate: Positive = Field(default=0.1, le=1, description="the first PTR; a low one starts slowly")

    def start(self, budget: float, auctions: int) -> ThrottlingState:
        return ThrottlingState(budget, auctions, self.initial_rate)

    def restart(self, state: ThrottlingState, budget: float, auctions: int) -> ThrottlingState:
        return ThrottlingState(budget, auctions, state.rate)

    def bid(self, state: ThrottlingState, slots: Slots, rng: np.random.Generator) -> Bids:
        ad, value = best_ad(slots.value)
        amount = value
        if self.value_per_click is not None:
            amount = of_ad(slots.click_probability, ad) * self.value_per_click
        return Bids(ad, np.where(rng.random(len(slots)) < state.rate, amount, 0.0), value)

    def update(self, state: ThrottlingState, result: TickResult) -> ThrottlingState:
        spent, passed = state.spent + float(result.paid.sum()), state.passed + len(result.paid)
        behind = spent / state.budget <= passed / max(state.auctions, passed)
        rate = min(state.rate * (1.0 + self.step if behind else 1.0 - self.step), 1.0)
        return replace(state, rate=rate, spent=spent, passed=passed)
