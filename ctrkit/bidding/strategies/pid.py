"""PID control of the spend: bids react to the difference between spend and plan in the last ticks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.pacing.dual import bids_of, within
from ctrkit.bidding.strategies.base import AuctionHistory, Bids, BidStrategy, TickResult, best_ad
from ctrkit.bidding.strategies.tuning import budget_multiplier
from ctrkit.settings import NotNegative, Positive, checked

# Control raises or lowers a bid by at most exp of this.
_LIMIT = 10.0


@dataclass(frozen=True)
class PidState:
    """The state of the controller in an episode.

    Attributes:
        remaining: the part of the budget that is left.
        auctions_left: expected auctions that are left.
        auctions: expected auctions of the episode.
        multiplier: the first μ, in units of value per unit of money; None before any value was seen.
        signal: φ, the logarithm of the factor on bids.
        error: the error of the last tick.
        error_sum: the sum of all errors so far.
    """

    remaining: float
    auctions_left: int
    auctions: int
    multiplier: float | None
    signal: float = 0.0
    error: float = 0.0
    error_sum: float = 0.0


@checked
class PidBidding(BidStrategy[PidState]):
    """b = v/μ₀ · exp(φ_k),  φ_k = P·e_k + I·Σ_{j ≤ k} e_j + D·(e_k − e_{k−1}).

    The error of tick k is e_k = 1 − spend/planned, at least −1. The plan spreads the money left evenly over
    the auctions left. As in dual pacing, the first multiplier μ₀ is the mean value of the first tick divided
    by its planned spend per auction, with which bids cannot overspend.

    Source: W. Zhang, Y. Rong, J. Wang, T. Zhu, X. Wang, Feedback control of real-time display advertising,
    WSDM 2016, whose actuator is the exponential; the reference here is the spend.
    """

    name = "pid"
    proportional: NotNegative = Field(default=0.15, description="P, the gain of the error")
    integral: NotNegative = Field(default=0.15, description="I, the gain of the sum of all errors")
    derivative: NotNegative = Field(default=0.02, description="D, the gain of the error's change")
    initial_multiplier: Positive | None = Field(
        default=None,
        description="μ₀; by default from the first tick, or the one that spends a history's budget",
    )

    def start(self, budget: float, auctions: int) -> PidState:
        return PidState(budget, auctions, auctions, self.initial_multiplier)

    def given(self, state: PidState, n: int, time: Floats | None) -> Floats:
        """The share of the money left that each of the next n auctions gets, [n], at these moments [n]."""
        return np.full(n, 1.0 / max(state.auctions_left, n))

    def error(self, spend: float, planned: float) -> float:
        """The error of a tick: above 0 where it spent less than planned."""
        return max(1.0 - spend / planned, -1.0)

    def bid(self, state: PidState, slots: Slots, rng: np.random.Generator) -> Bids:
        ad, value = best_ad(slots.value)
        given = self.given(state, len(value), slots.timestamp)
        offered = np.where(given > 0, value, 0.0)
        first, planned = self._first_multiplier(state, offered, given), _planned(state, given)
        if first is None or planned <= 0:
            return Bids(ad, np.zeros(len(value)), value)
        multiplier = within(first * float(np.exp(-state.signal)))
        return Bids(ad, bids_of(offered, multiplier), value, multiplier)

    def update(self, state: PidState, result: TickResult) -> PidState:
        n, spend = len(result.paid), float(result.paid.sum())
        given = self.given(state, n, result.slots.timestamp)
        value = np.where(given > 0, result.bids.value, 0.0)
        first, planned = self._first_multiplier(state, value, given), _planned(state, given)
        after = replace(
            state, remaining=state.remaining - spend, auctions_left=state.auctions_left - n, multiplier=first
        )
        if first is None or planned <= 0 or not value.any():  # no bid, and no error
            return after
        error = self.error(spend, planned)
        # The sum is capped where it alone would take the signal to its limit, so that it can recover soon.
        bound = _LIMIT / self.integral if self.integral else np.inf
        error_sum = float(np.clip(state.error_sum + error, -bound, bound))
        signal = (
            self.proportional * error + self.integral * error_sum + self.derivative * (error - state.error)
        )
        return replace(
            after, signal=float(np.clip(signal, -_LIMIT, _LIMIT)), error=error, error_sum=error_sum
        )

    def tuned(self, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> Self:
        multiplier = budget_multiplier(self.name, history, terms, auctions)
        return replace(self, initial_multiplier=multiplier or self.initial_multiplier)

    def _first_multiplier(self, state: PidState, value: Floats, given: Floats) -> float | None:
        if state.multiplier is not None:
            return state.multiplier
        total, planned = float(value.sum()), _planned(state, given)
        return within(total / planned) if total > 0 and planned > 0 else None


def _planned(state: PidState, given: Floats) -> float:
    """The planned spend of auctions that get these shares of the money left."""
    return state.remaining * min(float(given.sum()), 1.0)
