"""Linear bidding (LIN): a base bid times the click probability divided by its average."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.bidding.pacing.dual import MOST
from ctrkit.bidding.strategies.base import AuctionHistory
from ctrkit.bidding.strategies.scaled import ScaledBidding, ScaledState
from ctrkit.settings import Positive, checked


@checked
class LinearBidding(ScaledBidding[ScaledState]):
    """b = base_bid · pCTR / average_ctr, with a base bid that stays fixed whatever the market does.

    Source: C. Perlich et al., Bid optimizing and inventory scoring in targeted online advertising, KDD 2012.
    """

    name = "linear"
    base_bid: Positive | None = Field(
        default=None,
        description="bid for an average impression, in units of money; by default found in the first tenth "
        "of the auctions, where bids are paced evenly, and then kept",
    )
    average_ctr: Positive | None = Field(
        default=None,
        description="average click probability; by default the mean of those seen so far",
    )

    def start(self, budget: float, auctions: int) -> ScaledState:
        return self.first_state(budget, auctions)

    def shape(self, click_probability: Floats, value: Floats) -> Floats:
        return click_probability

    def scale(self, state: ScaledState, shape: Floats) -> float | None:
        if self.base_bid is None:
            return None
        # The mean of the past and the present.
        seen = (state.shape_sum + float(shape.sum())) / (state.shape_count + len(shape))
        average = self.average_ctr or seen
        return min(self.base_bid / average, MOST) if average > 0 else 0.0

    def with_scale(self, scale: float, history: AuctionHistory) -> Self:
        average = self.average_ctr or float(history.click_probability.mean())
        return type(self)(scale * average, average)
