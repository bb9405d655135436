"""A fixed multiplier: the best possible pacing, if it is the right one, which only hindsight knows."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.strategies.base import AuctionHistory
from ctrkit.bidding.strategies.scaled import ScaledBidding, ScaledState
from ctrkit.bidding.strategies.tuning import budget_multiplier
from ctrkit.settings import Positive, checked


@checked
class FixedMultiplierBidding(ScaledBidding[ScaledState]):
    """b = v/μ with one μ for all auctions.

    With μ = `hindsight_optimum(...).multiplier` of the same auctions this is the oracle: it buys the
    hindsight optimum except for the one auction at the margin. With a history, `tuned` takes the μ at which
    bids spend exactly the budget.
    """

    name = "fixed-multiplier"
    multiplier: Positive | None = Field(
        default=None,
        description="μ, the value that a unit of money must buy; by default found in the first tenth of the "
        "auctions",
    )

    def start(self, budget: float, auctions: int) -> ScaledState:
        return self.first_state(budget, auctions)

    def shape(self, click_probability: Floats, value: Floats) -> Floats:
        return value

    def scale(self, state: ScaledState, shape: Floats) -> float | None:
        return None if self.multiplier is None else 1.0 / self.multiplier

    def with_scale(self, scale: float, history: AuctionHistory) -> Self:
        return type(self)(1.0 / scale)

    def tuned(self, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> Self:
        return type(self)(budget_multiplier(self.name, history, terms, auctions) or self.multiplier)
