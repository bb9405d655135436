"""Dual pacing: bid the value divided by the budget's multiplier, which is learnt on the way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np

from ctrkit.bidding.auctions import Slots
from ctrkit.bidding.hindsight import hindsight_optimum
from ctrkit.bidding.pacing import AdditivePacer, DualPacer, Pace
from ctrkit.bidding.strategies.base import Bids, Floats, History, TickResult, best_ad, check_history
from ctrkit.bidding.strategies.paced import PacedBidding


@dataclass(frozen=True)
class DualBidding(PacedBidding[Pace]):
    """b = v/μ with the multiplicative Lagrangian pacing of `ctrkit.bidding.pacing.DualPacer`.

    On a history, by `tuned`, the first μ is that of the history's hindsight optimum.
    """

    name = "dual"

    def start(self, budget: float, auctions: int) -> Pace:
        return self.pacer.start(budget, auctions)

    def restart(self, state: Pace, budget: float, auctions: int) -> Pace:
        return self.pacer.restart(state, budget, auctions)

    def paced(self, state: Pace, slots: Slots, value: Floats) -> Bids:
        """Bids on the candidates that are worth most [n, K], which may be below 0, and then is no bid."""
        ad, value = best_ad(np.where(slots.click_probability > 0, value, -np.inf))
        value = np.maximum(value, 0.0)
        amount = self.pacer.bid(state, value, slots.timestamp)
        return Bids(ad, amount, value, self.pacer.multiplier(state, value, slots.timestamp))

    def bid(self, state: Pace, slots: Slots, rng: np.random.Generator) -> Bids:
        return self.paced(state, slots, slots.value)

    def update(self, state: Pace, result: TickResult) -> Pace:
        spend, time = float(result.paid.sum()), result.slots.timestamp
        return self.pacer.update(state, result.bids.value, spend, time)

    def tuned(self, history: History, budget_per_auction: float, episode_length: int | None = None) -> Self:
        multiplier = hindsight_multiplier(self.name, history, budget_per_auction)
        return replace(self, initial_multiplier=multiplier or self.initial_multiplier)


@dataclass(frozen=True)
class AdditiveDualBidding(DualBidding):
    """b = v/μ with the additive pacing of `ctrkit.bidding.pacing.AdditivePacer`.

    Attributes:
        step: of every update, as a share of the first multiplier; give a good first one.
    """

    name = "dual-additive"
    step: float = field(default=0.05, kw_only=True)

    @cached_property
    def pacer(self) -> DualPacer:
        return AdditivePacer(self.step, self.initial_multiplier, self.plan)


def hindsight_multiplier(strategy: str, history: History, budget_per_auction: float) -> float:
    """μ of a history's hindsight optimum; 0 where the budget does not bind.

    Raises:
        DataError: a history without all prices.
    """
    check_history(strategy, history, all_prices=True)
    return hindsight_optimum(
        history.value, history.market_price, budget_per_auction * len(history)
    ).multiplier
