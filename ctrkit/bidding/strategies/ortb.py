"""Optimal real-time bidding (ORTB): non-linear bids from a simple model of the win rate."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from pydantic import Field
from scipy.special import expit

from ctrkit.arrays import Floats
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.strategies.base import AuctionHistory, TickResult, check_history
from ctrkit.bidding.strategies.scaled import ScaledBidding, ScaledState, Search
from ctrkit.bidding.strategies.tuning import highest_within
from ctrkit.settings import Positive, checked


@dataclass(frozen=True)
class OrtbState(ScaledState):
    """The search for λ, and what was learnt about prices.

    Attributes:
        median_price: c; None while it is unknown.
        seen: the ticks of the search, from which c is estimated.
    """

    median_price: float | None = None
    seen: tuple[AuctionHistory, ...] = ()


@checked
class OrtbBidding(ScaledBidding[OrtbState]):
    """The bids that maximise  Σ v·F(b)  subject to  Σ b·F(b) ≤ B,  for a win rate F of one parameter c.

    The cost is bounded as if bids were paid in full, which is exact for first prices and safe for second
    prices. The stationary point in b of  v·F(b) − λ·b·F(b)  gives b from v/λ and c alone. λ is the multiplier
    that spends the budget. It is found like the scale of linear bids: in the first tenth of the auctions, or
    on a history.

    Both win rates are log-logistic distributions of the market price with median c. c is estimated by maximum
    likelihood from known prices and from bids that lost.

    Source: W. Zhang, S. Yuan, J. Wang, Optimal real-time bidding for display advertising, KDD 2014.
    """

    multiplier: Positive | None = Field(
        default=None,
        description="λ, in units of value per unit of money; by default found in the first tenth of the "
        "auctions",
    )
    median_price: Positive | None = Field(
        default=None,
        description="c, in units of money, the bid that wins half of the auctions; by default estimated in "
        "the first tenth of them",
    )

    power: ClassVar[int]

    def win_rate(self, bid: Floats, median_price: float) -> Floats:
        """F(b) = b^k / (c^k + b^k)."""
        return bid**self.power / (median_price**self.power + bid**self.power)

    @abstractmethod
    def best_bid(self, worth: Floats, median_price: float) -> Floats:
        """The optimal bids, [n], in units of money, for v/λ [n]."""

    def start(self, budget: float, auctions: int) -> OrtbState:
        return OrtbState(Search.of(budget, auctions, self.in_all), median_price=self.median_price)

    def shape(self, click_probability: Floats, value: Floats) -> Floats:
        return value

    def scale(self, state: OrtbState, shape: Floats) -> float | None:
        return None if self.multiplier is None else 1.0 / self.multiplier

    def amount(self, state: OrtbState | None, scaled: Floats, rng: np.random.Generator) -> Floats:
        median_price = self.median_price if state is None else state.median_price
        # Before prices are known, bids are linear.
        return scaled if median_price is None else self.best_bid(scaled, median_price)

    def update(self, state: OrtbState, result: TickResult) -> OrtbState:
        after = super().update(state, result)
        if self.median_price is not None or not state.search.going_on:
            return after
        seen = (*state.seen, AuctionHistory.from_tick(result))
        after = replace(after, seen=seen)
        # Fit at every doubling of the ticks seen, and at the end, so that the work grows as the log of them.
        if len(seen) & (len(seen) - 1) and after.search.going_on:
            return after
        history = AuctionHistory.joined(seen)
        if not (history.known & (history.market_price > 0)).any():
            return after
        return replace(after, median_price=fit_median_price(history, self.power))

    def with_scale(self, scale: float, history: AuctionHistory) -> Self:
        return replace(self, multiplier=1.0 / scale)

    def tuned(self, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> Self:
        check_history(self.name, history, all_prices=True)
        median_price = self.median_price or fit_median_price(history.under(terms), self.power)
        known = replace(self, median_price=median_price)
        return super(OrtbBidding, known).tuned(history, terms, auctions)


@checked
class Ortb1Bidding(OrtbBidding):
    """ORTB1: F(b) = b/(c + b) and  b = √(c·v/λ + c²) − c."""

    name = "ortb1"
    power = 1

    def best_bid(self, worth: Floats, median_price: float) -> Floats:
        return np.sqrt(median_price * worth + median_price**2) - median_price


@checked
class Ortb2Bidding(OrtbBidding):
    """ORTB2: F(b) = b²/(c² + b²) and  b = c·(u^⅓ − u^−⅓)  with  u = (v/λ + √(c² + (v/λ)²)) / c."""

    name = "ortb2"
    power = 2

    def best_bid(self, worth: Floats, median_price: float) -> Floats:
        u = (worth + np.hypot(median_price, worth)) / median_price
        return median_price * (np.cbrt(u) - 1.0 / np.cbrt(u))


def fit_median_price(history: AuctionHistory, power: int) -> float:
    """The maximum-likelihood c of F(p) = p^k/(c^k + p^k).

    With F at the price if it is known, else at the bid that lost, the score in log c is 0 where
    Σ_known (2F − 1) + Σ_lost F = 0, and it falls with c.

    Args:
        history: known prices, and bids that lost.
        power: k, 1 or 2.
    """
    known = history.known
    with np.errstate(divide="ignore"):
        logs = np.log2(history.market_price)

    def score(median_price: float) -> float:
        chance = expit(power * np.log(2.0) * (logs - np.log2(median_price)))
        return float(np.where(known, 2.0 * chance - 1.0, chance).sum())

    return highest_within(lambda median_price: -score(median_price), 0.0)
