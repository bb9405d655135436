"""A history replayed on the terms of a run: what bids would have bought and paid, and the best scale."""

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

# Gives the bids [n] of a scale; they rise with it.
Amount: TypeAlias = Callable[[float], Floats]

# Tried multiples of the scale that spends the budget if episodes never run out of money.
_TRIED = np.geomspace(0.5, 4.0, 31)
HUGE = 2.0**200


def replayed(
    bids: Floats, history: AuctionHistory, terms: CampaignTerms, budget: float, auctions: int
) -> tuple[float, float]:
    """The expected value of what bids [n] win in a history, and what they pay, on the terms of a run.

    Args:
        bids: [n].
        history: n auctions.
        terms: the terms of the run.
        budget: the budget of an episode.
        auctions: number of auctions of an episode; a shorter last episode has a smaller budget.

    Raises:
        DataError: a history without what the terms need: prices of all slots, or users for a cap.
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
    """The effects of the slots that were won, [wins]."""
    if cleared.slot is None:
        return np.ones(int(cleared.won.sum()))
    return effect_of(cleared.slot[cleared.won], terms.rule)


def spending_scale(
    amount: Amount, history: AuctionHistory, terms: CampaignTerms, auctions: int
) -> tuple[float, bool]:
    """The highest scale whose bids would spend at most the budget if no bid were ever capped by it, and
    whether the budget binds. If it does not, it is the scale just below that of winning everything.

    Raises:
        DataError: a history in which no bid pays anything.
    """

    def spend(scale: float) -> float:
        return replayed(amount(scale), history, terms, np.inf, len(history))[1]

    most, budget = spend(HUGE), terms.budget * len(history) / auctions
    if most <= 0:
        raise DataError(
            "no bid on the history pays anything, so no bid is too high",
            column="market_price",
            hint="Give a log with prices above 0, some of them at most the largest bid",
        )
    return highest_within(spend, min(budget, float(np.nextafter(most, 0.0)))), most > budget


def best_scale(amount: Amount, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> float:
    """The scale whose bids buy the most expected value of a history on the terms of the run.

    Bisection finds the scale that would spend exactly the budget if no bid were ever capped by it. Then a
    grid around it is replayed episode by episode, and the best is taken; the lowest among equals.

    Args:
        amount: gives the bids of a scale.
        history: the history, with all prices.
        terms: the terms of an episode.
        auctions: number of auctions of an episode.
    """
    tried = spending_scale(amount, history, terms, auctions)[0] * _TRIED
    values = [replayed(amount(scale), history, terms, terms.budget, auctions)[0] for scale in tried]
    return float(tried[int(np.argmax(values))])


def budget_multiplier(
    strategy: str, history: AuctionHistory, terms: CampaignTerms, auctions: int, worth: Floats | None = None
) -> float:
    """The μ at which bids v/μ spend exactly the budget of a history; 0 if the budget does not bind.

    In second-price auctions it is the multiplier of the history's hindsight optimum.

    Args:
        strategy: name of the strategy, for messages.
        history: the history, with all prices.
        terms: the terms of an episode.
        auctions: number of auctions of an episode.
        worth: v [n], by default the values of the history.

    Raises:
        DataError: a history without all prices, or without what the terms need.
    """
    check_history(strategy, history, all_prices=True)
    value = history.value if worth is None else worth
    scale, binds = spending_scale(lambda scale: scale * value, history, terms, auctions)
    return 1.0 / scale if binds else 0.0


def highest_within(increasing: Callable[[float], float], target: float) -> float:
    """The highest x whose value is at most a target, to 50 bits; some x must exceed the target.

    All bounds are powers of two, so that a change of units by a power of two only changes the unit.
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
