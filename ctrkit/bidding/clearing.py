"""Clearing of a tick of auctions under a budget: one after another, each with what is left by then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.bidding.rules import AuctionRule
from ctrkit.compiled import kernel

Floats: TypeAlias = NDArray[np.float64]

SECOND_PRICE = AuctionRule()


@dataclass(frozen=True)
class Cleared:
    """What became of n bids.

    Attributes:
        bid: [n], as submitted: capped by the largest bid and by what was left, rounded down where asked.
        won: [n], bool.
        paid: [n], the price where won, else 0.
        spent: the episode's spend after the last auction.
    """

    bid: Floats
    won: NDArray[np.bool_]
    paid: Floats
    spent: float


def clear(
    amount: Floats,
    market_price: Floats,
    budget: float,
    spent: float,
    max_bid: float = np.inf,
    integer_bids: bool = False,
    rule: AuctionRule = SECOND_PRICE,
) -> Cleared:
    """Clear auctions in their order.

    A bid is capped by what is left of the budget, so the spend never exceeds it: an auction too dear for
    the remainder is lost, and a cheaper one after it can still be won.

    Args:
        amount: [n], what the strategy wants to bid, in units of money.
        market_price: [n], the highest competing bid.
        budget, spent: of the episode, before the first of these auctions.
        rule: of the exchange.
    """
    bid, won, paid = np.empty(len(amount)), np.empty(len(amount), np.bool_), np.empty(len(amount))
    after = _clear(
        np.ascontiguousarray(amount, np.float64),
        np.ascontiguousarray(market_price, np.float64),
        float(budget),
        float(spent),
        float(max_bid),
        integer_bids,
        rule.price == "first",
        rule.hard_floor,
        rule.soft_floor,
        rule.wins_ties,
        bid,
        won,
        paid,
    )
    return Cleared(bid, won, paid, after)


def _types() -> object:
    from numba import types

    read = types.Array(types.float64, 1, "C", readonly=True)
    written, flags = types.Array(types.float64, 1, "C"), types.Array(types.boolean, 1, "C")
    number, flag = types.float64, types.boolean
    return number(
        read, read, number, number, number, flag, flag, number, number, flag, written, flags, written
    )


@kernel(_types)
def _clear(
    amount: Floats,
    market_price: Floats,
    budget: float,
    spent: float,
    max_bid: float,
    integer_bids: bool,
    first_price: bool,
    hard_floor: float,
    soft_floor: float,
    wins_ties: bool,
    bid: Floats,
    won: NDArray[np.bool_],
    paid: Floats,
) -> float:
    """Fill `bid`, `won` and `paid`; gives the spend after the last auction. As it reads, one by one."""
    for i in range(amount.shape[0]):
        own = min(amount[i], max_bid, budget - spent)
        if integer_bids:
            own = np.floor(own)
        price = market_price[i]
        wins = own >= hard_floor and (own > price or (wins_ties and own == price))
        cost = 0.0
        if wins:
            cost = own if first_price or own < soft_floor else max(price, hard_floor, soft_floor)
            # What is left was rounded, and so is the sum: not a unit in the last place above the budget.
            if spent + cost > budget:
                wins, cost = False, 0.0
        bid[i], won[i], paid[i] = own, wins, cost
        spent += cost
    return spent
