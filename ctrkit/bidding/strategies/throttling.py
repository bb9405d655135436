"""Probabilistic throttling: bids are not changed, and the budget is kept by skipping auctions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.strategies.base import Bids, BidStrategy, TickResult, best_ad, of_ad
from ctrkit.settings import Positive, checked


@dataclass(frozen=True)
class ThrottlingState:
    """The spend and traffic of the episode so far.

    Attributes:
        budget: the budget of the episode.
        auctions: expected auctions of the episode.
        rate: the probability with which the bidder bids.
        spent: money spent so far.
        passed: auctions so far.
    """

    budget: float
    auctions: int
    rate: float
    spent: float = 0.0
    passed: int = 0


@checked
class ThrottlingBidding(BidStrategy[ThrottlingState]):
    """b = v with probability PTR, the pass-through rate, and no bid otherwise.

    After every tick, PTR ← PTR·(1 + R) if the share of the budget spent is at most the share of the expected
    traffic that is over, else PTR·(1 − R); PTR is at most 1. It buys expensive and cheap slots alike, which
    costs value; but it does not change bids or the ranking of ads.

    Source: D. Agarwal, S. Ghosh, K. Wei, S. You, Budget pacing for targeted online advertisements at
    LinkedIn, KDD 2014.
    """

    name = "throttling"
    by_chance = True
    value_per_click: Positive | None = Field(
        default=None,
        description="value of a click in units of money, for b = pCTR · value_per_click; by default the "
        "slot's own value of a click",
    )
    step: Positive = Field(default=0.1, le=1, description="R, the relative change of the rate after a tick")
    initial_rate: Positive = Field(
        default=0.1, le=1, description="the first pass-through rate; a low one starts slowly"
    )

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
