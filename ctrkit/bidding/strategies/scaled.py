"""Bids of a fixed shape times one number, the scale, which is found once and then kept."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from math import exp, log
from typing import Generic, Self, TypeVar

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.pacing.dual import MOST, DualPacer, Pace
from ctrkit.bidding.strategies.base import (
    AuctionHistory,
    Bids,
    BidStrategy,
    TickResult,
    best_ad,
    check_history,
    of_ad,
)
from ctrkit.bidding.strategies.tuning import best_scale
from ctrkit.settings import checked

SEARCH_SHARE = 0.1
PACER = DualPacer()


@dataclass(frozen=True)
class Search:
    """The search for a scale in the first tenth of all auctions, where bids are paced evenly.

    Attributes:
        pace: the state of the pacer; its multiplier is 1 / scale, and after the search the geometric mean
            over its second half.
        left: auctions of the search that are left.
        half: the number of auctions left at which the second half begins.
        log_sum: Σ log μ over the auctions of the second half so far.
        counted: the number of these auctions.
    """

    pace: Pace
    left: int
    half: int
    log_sum: float = 0.0
    counted: int = 0

    @classmethod
    def of(cls, budget: float, auctions: int, in_all: int | None) -> Self:
        """The search before an episode of `auctions` auctions, of `in_all` in all episodes."""
        left = auctions - int(auctions * (1 - SEARCH_SHARE))
        if in_all is not None:
            left = in_all - int(in_all * (1 - SEARCH_SHARE))
        return cls(PACER.start(budget, auctions), left, left // 2)

    @property
    def going_on(self) -> bool:
        return self.left > 0

    def restart(self, budget: float, auctions: int) -> Self:
        """The search in the next episode."""
        pace = PACER.restart(self.pace, budget, auctions) if self.going_on else self.pace
        return replace(self, pace=pace)

    def after(self, shape: Floats, spend: float) -> Self:
        """The search after a tick with this shape [n] and spend."""
        if not self.going_on:
            return self
        n, before = len(shape), self.left
        after = replace(self, pace=PACER.update(self.pace, shape, spend), left=before - n)
        if before <= self.half and after.pace.multiplier is not None:
            after = replace(
                after, log_sum=after.log_sum + n * log(after.pace.multiplier), counted=after.counted + n
            )
        if after.going_on or not after.counted:
            return after
        return replace(after, pace=replace(after.pace, multiplier=exp(after.log_sum / after.counted)))


@dataclass(frozen=True)
class ScaledState:
    """The state of a strategy with a scale.

    Attributes:
        search: the search for the scale.
        shape_sum: the sum of the shapes that were bid on.
        shape_count: their number.
    """

    search: Search
    shape_sum: float = 0.0
    shape_count: int = 0


ScaledT = TypeVar("ScaledT", bound=ScaledState)


@checked
class ScaledBidding(BidStrategy[ScaledT], Generic[ScaledT]):
    """b = scale · shape, with a scale that stays fixed whatever the market does.

    A scale that is not given is found in the first tenth of the auctions of all episodes, where bids are
    paced evenly: it is the geometric mean over the second half of that tenth. With a history, `tuned` finds
    it before the run.

    Attributes:
        in_all: number of auctions of all episodes together; by default the first episode has them all.
    """

    in_all: int | None = Field(default=None, kw_only=True, exclude=True)

    def expecting(self, auctions: int) -> Self:
        return replace(self, in_all=auctions)

    @abstractmethod
    def shape(self, click_probability: Floats, value: Floats) -> Floats:
        """The shape [n] that is scaled, of slots with these click probabilities and values [n]."""

    @abstractmethod
    def scale(self, state: ScaledT, shape: Floats) -> float | None:
        """The scale of bids on slots of this shape; None during the search."""

    @abstractmethod
    def with_scale(self, scale: float, history: AuctionHistory) -> Self:
        """This strategy with a scale that was found on a history."""

    def amount(self, state: ScaledT | None, scaled: Floats, rng: np.random.Generator) -> Floats:
        """The bids, [n], from scale · shape [n]; with no state, by the strategy's settings alone."""
        return scaled

    def restart(self, state: ScaledT, budget: float, auctions: int) -> ScaledT:
        return replace(state, search=state.search.restart(budget, auctions))

    def bid(self, state: ScaledT, slots: Slots, rng: np.random.Generator) -> Bids:
        ad, value = best_ad(slots.value)
        shape = self.shape(of_ad(slots.click_probability, ad), value)
        scale = self.scale(state, shape)
        if scale is None:
            scaled = PACER.bid(state.search.pace, shape)
        else:
            with np.errstate(over="ignore"):
                scaled = np.minimum(min(scale, MOST) * shape, MOST)
        return Bids(ad, np.minimum(self.amount(state, scaled, rng), MOST), value)

    def update(self, state: ScaledT, result: TickResult) -> ScaledT:
        shape = self.shape(of_ad(result.slots.click_probability, result.bids.ad), result.bids.value)
        return replace(
            state,
            search=state.search.after(shape, float(result.paid.sum())),
            shape_sum=state.shape_sum + float(shape.sum()),
            shape_count=state.shape_count + len(shape),
        )

    def tuned(self, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> Self:
        check_history(self.name, history, all_prices=True)
        shape = self.shape(history.click_probability, history.value)

        def amount(scale: float) -> Floats:
            return self.amount(None, scale * shape, np.random.default_rng(0))

        return self.with_scale(best_scale(amount, history, terms, auctions), history)

    def first_state(self, budget: float, auctions: int) -> ScaledState:
        """The state before the search."""
        return ScaledState(Search.of(budget, auctions, self.in_all))
