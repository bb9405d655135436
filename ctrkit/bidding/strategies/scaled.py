"""Bids of a fixed shape and one number, their scale, that is found once and then kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Self, TypeVar

import numpy as np

from ctrkit.bidding.auctions import Slots
from ctrkit.bidding.clearing import clear
from ctrkit.bidding.pacing import DualPacer, Pace
from ctrkit.bidding.strategies.base import (
    Bids,
    BidStrategy,
    Floats,
    History,
    TickResult,
    best_ad,
    check_history,
    of_ad,
)

SEARCH_SHARE = 0.1
PACER = DualPacer()
# Of the scale that spends the budget without a cut-off: what episodes and their chances make of it.
_TRIED = np.geomspace(0.5, 4.0, 31)
_HUGE = 2.0**200


@dataclass(frozen=True)
class ScaledState:
    """The search for a scale.

    Attributes:
        pace: of the search; its multiplier is 1 over the scale.
        search_ends: the search is over when so many auctions are left.
        shape_sum, shape_count: sum and number of the shapes that were bid on.
    """

    pace: Pace
    search_ends: int
    shape_sum: float = 0.0
    shape_count: int = 0

    @property
    def searching(self) -> bool:
        return self.pace.auctions_left > self.search_ends


ScaledT = TypeVar("ScaledT", bound=ScaledState)


class ScaledBidding(BidStrategy[ScaledT], Generic[ScaledT]):
    """b = scale · shape, with a scale that stays as it is, whatever the market does.

    A scale that is not given is found in the first tenth of the first episode, where bids are paced to
    spend evenly, and then kept; or before that on a history, by `tuned`.
    """

    @abstractmethod
    def shape(self, click_probability: Floats, value: Floats) -> Floats:
        """What is scaled, [n], of slots with these click probabilities and values [n]."""

    @abstractmethod
    def scale(self, state: ScaledT, shape: Floats) -> float | None:
        """The scale of bids on slots of this shape; None while it is searched for."""

    @abstractmethod
    def with_scale(self, scale: float, history: History) -> Self:
        """This strategy with a scale that was found on a history."""

    def amount(self, state: ScaledT | None, scaled: Floats, rng: np.random.Generator) -> Floats:
        """The bids, from scale · shape [n]; without a state, by what the strategy's own parameters say."""
        return scaled

    def restart(self, state: ScaledT, budget: float, auctions: int) -> ScaledT:
        return self.start(budget, auctions) if state.searching else state

    def bid(self, state: ScaledT, slots: Slots, rng: np.random.Generator) -> Bids:
        ad, value = best_ad(slots.value)
        shape = self.shape(of_ad(slots.click_probability, ad), value)
        scale = self.scale(state, shape)
        scaled = PACER.bid(state.pace, shape) if scale is None else scale * shape
        return Bids(ad, self.amount(state, scaled, rng), value)

    def update(self, state: ScaledT, result: TickResult) -> ScaledT:
        shape = self.shape(of_ad(result.slots.click_probability, result.bids.ad), result.bids.value)
        spend = float(result.paid.sum())
        return replace(
            state,
            pace=PACER.update(state.pace, shape, spend) if state.searching else state.pace,
            shape_sum=state.shape_sum + float(shape.sum()),
            shape_count=state.shape_count + len(shape),
        )

    def tuned(self, history: History, budget_per_auction: float, episode_length: int | None = None) -> Self:
        check_history(self.name, history, all_prices=True)
        shape = self.shape(history.click_probability, history.value)

        def amount(scale: float) -> Floats:
            return self.amount(None, scale * shape, np.random.default_rng(0))

        return self.with_scale(best_scale(amount, history, budget_per_auction, episode_length), history)


def first_state(budget: float, auctions: int) -> ScaledState:
    """The state before the search."""
    return ScaledState(PACER.start(budget, auctions), search_end(auctions))


def search_end(auctions: int) -> int:
    """With how many auctions left the search is over."""
    return int(auctions * (1 - SEARCH_SHARE))


def best_scale(
    amount: Callable[[float], Floats],
    history: History,
    budget_per_auction: float,
    episode_length: int | None = None,
) -> float:
    """The scale whose bids buy the most expected value of a history under the budget.

    First the one that would just spend the budget if no bid were ever cut off, by bisection; then the best
    of a grid around it, each replayed episode by episode. Of equals the lowest is taken.

    Args:
        amount: the bids [n] of a scale, which grow with it.
        history: with all prices.
    """
    price, n = history.market_price, len(history)
    length = min(episode_length or n, n)

    def spend(scale: float) -> float:
        return float(price[amount(scale) >= price].sum())

    def value(scale: float) -> float:
        bids, bought = amount(scale), 0.0
        for first in range(0, n, length):
            rows = slice(first, first + length)
            won = clear(bids[rows], price[rows], budget_per_auction * length, 0.0).won
            bought += float(history.value[rows][won].sum())
        return bought

    # Where the budget does not bind, the scale at which the last auction is about to be won.
    target = min(budget_per_auction * n, float(np.nextafter(spend(_HUGE), 0.0)))
    tried = highest_within(spend, target) * _TRIED
    return float(tried[int(np.argmax([value(scale) for scale in tried]))])


def highest_within(increasing: Callable[[float], float], target: float) -> float:
    """The highest x whose value is at most a target that is passed somewhere, to 50 bits.

    All bounds are 1 times powers of two, so that such a change of units changes nothing but the unit.
    """
    high = 1.0
    while increasing(high) <= target and high < _HUGE:
        high *= 2.0
    while increasing(high) > target and high > 1.0 / _HUGE:
        high /= 2.0
    low, high = high, 2.0 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) <= target else (low, middle)
    return low
