"""A history replayed on the terms of a run: what bids would have bought and paid, and their best scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.bidding.market.clearing import Cleared, clear
from ctrkit.bidding.market.frequency import TimesShown
from ctrkit.bidding.market.slots import effect_of
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.strategies.base import AuctionHistory, check_history
from ctrkit.errors import DataError

# Bids [n] of a scale, which grow with it.
Amount: TypeAlias = Callable[[float], Floats]

# Of the scale that spends the budget without a cut-off: what episodes and their chances make of it.
_TRIED = np.geomspace(0.5, 4.0, 31)
HUGE = 2.0**200


def replayed(
    bids: Floats, history: AuctionHistory, terms: CampaignTerms, budget: float, auctions: int
) -> tuple[float, float]:
    """The expected value of what bids [n] win of a history, and what they pay, on the terms of a run.

    Args:
        budget: of an episode.
        auctions: of one; the last may be shorter, and its budget is so too.

    Raises:
        DataError: a history that lacks what the terms need: prices of all slots, or users for a cap.
    """
    shown = None if terms.frequency_cap is None else TimesShown(terms.frequency_cap)
    value = spend = 0.0
    for first in range(0, len(history), auctions):
        rows = slice(first, min(first + auctions, len(history)))
        now = history[rows]
        cleared = clear(
            bids[rows], now.market_price, budget * (len(now) / auctions), 0.0, terms.largest_bid,
            terms.integer_bids, terms.rule, slot_price=now.slot_price,
            audience=None if shown is None else shown.meet(now.user, now.timestamp),
        )  # fmt: skip
        value += float(now.value[cleared.won] @ _effect(cleared, terms))
        spend += cleared.spent
    return value, spend


def _effect(cleared: Cleared, terms: CampaignTerms) -> Floats:
    """Of the slots that were won, [wins]."""
    if cleared.slot is None:
        return np.ones(int(cleared.won.sum()))
    return effect_of(cleared.slot[cleared.won], terms.rule)


def spending_scale(
    amount: Amount, history: AuctionHistory, terms: CampaignTerms, auctions: int
) -> tuple[float, bool]:
    """The highest scale whose bids spend no more than the budget if none is ever cut off; and whether that
    binds. Where it does not, it is the scale at which the last auction is about to be won.

    Raises:
        DataError: a history in which no bid pays anything.
    """

    def spend(scale: float) -> float:
        return replayed(amount(scale), history, terms, np.inf, len(history))[1]

    most, budget = spend(HUGE), terms.budget * len(history) / auctions
    if most <= 0:
        raise DataError(
            "no bid on the history pays anything, so that none is too high",
            column="market_price",
            hint="Give a log with prices above 0, some of them within the largest bid",
        )
    return highest_within(spend, min(budget, float(np.nextafter(most, 0.0)))), most > budget


def best_scale(amount: Amount, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> float:
    """The scale whose bids buy the most expected value of a history on the terms of the run.

    First the one that would just spend the budget if no bid were ever cut off, by bisection; then the best
    of a grid around it, each replayed episode by episode. Of equals the lowest is taken.

    Args:
        history: with all prices.
        terms: of an episode.
        auctions: of one.
    """
    tried = spending_scale(amount, history, terms, auctions)[0] * _TRIED
    values = [replayed(amount(scale), history, terms, terms.budget, auctions)[0] for scale in tried]
    return float(tried[int(np.argmax(values))])


def budget_multiplier(
    strategy: str, history: AuctionHistory, terms: CampaignTerms, auctions: int, worth: Floats | None = None
) -> float:
    """The μ at which bids v/μ just spend the budget of a history; 0 where that does not bind.

    In second-price auctions it is the multiplier of the history's hindsight optimum.

    Args:
        worth: v [n], by default the values of the history.

    Raises:
        DataError: a history without all prices, or without what the terms need.
    """
    check_history(strategy, history, all_prices=True)
    value = history.value if worth is None else worth
    scale, binds = spending_scale(lambda scale: scale * value, history, terms, auctions)
    return 1.0 / scale if binds else 0.0


def highest_within(increasing: Callable[[float], float], target: float) -> float:
    """The highest x whose value is at most a target that is passed somewhere, to 50 bits.

    All bounds are 1 times powers of two, so that such a change of units changes nothing but the unit.
    """
    high = 1.0
    while increasing(high) <= target and high < HUGE:
        high *= 2.0
    while increasing(high) > target and high > 1.0 / HUGE:
        high /= 2.0
    low, high = high, 2.0 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) <= target else (low, middle)
    return low
