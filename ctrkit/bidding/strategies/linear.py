"""Linear bidding (LIN): a base bid, scaled by how the click probability compares with its average."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ctrkit.bidding.auctions import Floats, Slots
from ctrkit.bidding.pacing import DualPacer, Pace
from ctrkit.bidding.strategies.base import Bids, BidStrategy, TickResult, best_ad, check_positive, of_ad

SEARCH_SHARE = 0.1
_PACER = DualPacer()


@dataclass(frozen=True)
class LinearState:
    """The search for a base bid, and the sum and number of the click probabilities that were bid on.

    Attributes:
        pace: of the search; its multiplier is average click probability over base bid.
        search_ends: the search is over when so many auctions are left.
    """

    pace: Pace
    search_ends: int
    ctr_sum: float = 0.0
    ctr_count: int = 0

    @property
    def searching(self) -> bool:
        return self.pace.auctions_left > self.search_ends


@dataclass(frozen=True)
class LinearBidding(BidStrategy[LinearState]):
    """b = base_bid · pCTR / average_ctr, with a base bid that stays as it is, whatever the market does.

    Source: C. Perlich et al., Bid optimizing and inventory scoring in targeted online advertising, KDD 2012.

    Attributes:
        base_bid: the bid for an average impression, in units of money. By default it is found in the first
            tenth of the first episode, where bids are paced to spend evenly, and then kept.
        average_ctr: by default the mean of the click probabilities seen so far.
    """

    name = "linear"
    base_bid: float | None = None
    average_ctr: float | None = None

    def __post_init__(self) -> None:
        check_positive(self.name, "base_bid", self.base_bid)
        check_positive(self.name, "average_ctr", self.average_ctr)

    def start(self, budget: float, auctions: int) -> LinearState:
        return LinearState(_PACER.start(budget, auctions), int(auctions * (1 - SEARCH_SHARE)))

    def restart(self, state: LinearState, budget: float, auctions: int) -> LinearState:
        return self.start(budget, auctions) if state.searching else state

    def bid(self, state: LinearState, slots: Slots, rng: np.random.Generator) -> Bids:
        ad, value = best_ad(slots.value)
        ctr = of_ad(slots.click_probability, ad)
        if self.base_bid is None:
            return Bids(ad, _PACER.bid(state.pace, ctr), value)
        average = self.average_ctr or self._average(state, ctr)
        return Bids(ad, ctr * self.base_bid / average if average > 0 else np.zeros(len(ctr)), value)

    def update(self, state: LinearState, result: TickResult) -> LinearState:
        ctr = of_ad(result.slots.click_probability, result.bids.ad)
        pace = _PACER.update(state.pace, ctr, float(result.paid.sum())) if state.searching else state.pace
        return replace(
            state, pace=pace, ctr_sum=state.ctr_sum + float(ctr.sum()), ctr_count=state.ctr_count + len(ctr)
        )

    @staticmethod
    def _average(state: LinearState, ctr: Floats) -> float:
        """Mean of the past and the present."""
        return (state.ctr_sum + float(ctr.sum())) / (state.ctr_count + len(ctr))
