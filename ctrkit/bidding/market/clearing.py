"""Clearing of a tick of auctions under a budget: one after another, each with the money that is left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.bidding.market.frequency import Audience
from ctrkit.bidding.market.rules import AuctionRule
from ctrkit.bidding.market.slots import page_prices
from ctrkit.compiled import kernel

SECOND_PRICE = AuctionRule()


@dataclass(frozen=True)
class Cleared:
    """What became of n bids.

    Attributes:
        bid: [n], as submitted: capped by the largest bid and by the money left, rounded down where the terms
            say so; 0 where the user has reached the frequency cap.
        won: [n], bool.
        paid: [n], the price where won, else 0.
        spent: the episode's spend after the last auction.
        slot: [n], the slot that was won, from 0, −1 where none was; None where a page has one slot.
    """

    bid: Floats
    won: Booleans
    paid: Floats
    spent: float
    slot: Integers | None = None


def clear(
    amount: Floats,
    market_price: Floats,
    budget: float,
    spent: float,
    max_bid: float = np.inf,
    integer_bids: bool = False,
    rule: AuctionRule = SECOND_PRICE,
    *,
    slot_price: Floats | None = None,
    audience: Audience | None = None,
) -> Cleared:
    """Clear auctions in their order.

    A bid is capped by what is left of the budget, so the spend never exceeds it. An auction that costs more
    than that is lost, and a cheaper one after it can still be won. A bid of 0 never wins, not even a free
    impression. On a page with several slots, a bid gets the best slot whose price it reaches.

    Args:
        amount: [n], what the strategy wants to bid, in units of money.
        market_price: [n], the highest competing bid.
        budget: the budget of the episode, in units of money.
        spent: the spend of the episode before the first of these auctions.
        max_bid: the largest bid, in units of money.
        integer_bids: whether bids are rounded down to whole units of money.
        rule: the rule of the exchange.
        slot_price: [n, S], the bid to be beaten for each slot, in descending order; only read by rules with
            several slots.
        audience: with a frequency cap, who sees the auctions; its counts are updated in place.

    Raises:
        DataError: the price of a slot is unknown.
    """
    n, page, capped = len(amount), rule.slots > 1, audience is not None
    bid, won, paid = np.empty(n), np.empty(n, np.bool_), np.empty(n)
    slot = np.empty(n, np.int64) if page else None
    after = _COMPILED[page, capped](
        np.ascontiguousarray(amount, np.float64),
        np.ascontiguousarray(page_prices(market_price, slot_price, rule), np.float64),
        np.array(rule.slot_effects) if page else None,
        float(budget),
        float(spent),
        float(max_bid),
        integer_bids,
        rule.price == "first",
        rule.hard_floor,
        rule.soft_floor,
        rule.wins_ties,
        audience.limit if audience is not None else 0,
        np.ascontiguousarray(audience.user) if audience is not None else None,
        np.ascontiguousarray(audience.period) if audience is not None else None,
        audience.count if audience is not None else None,
        audience.counted if audience is not None else None,
        bid,
        won,
        paid,
        slot,
    )
    return Cleared(bid, won, paid, after, slot)


def _types(page: bool, capped: bool) -> object:
    from numba import types

    read, prices = (types.Array(types.float64, axes, "C", readonly=True) for axes in (1, 2))
    codes, counts = types.Array(types.int64, 1, "C", readonly=True), types.Array(types.int64, 1, "C")
    written, flags = types.Array(types.float64, 1, "C"), types.Array(types.boolean, 1, "C")
    number, flag = types.float64, types.boolean
    audience = (codes, codes, counts, counts) if capped else (types.none,) * 4
    return number(
        read, prices, read if page else types.none, number, number, number, flag, flag, number, number, flag,
        types.int64, *audience, written, flags, written, counts if page else types.none,
    )  # fmt: skip


def _clear(
    amount: Floats,
    price: Floats,
    effect: Floats | None,
    budget: float,
    spent: float,
    max_bid: float,
    integer_bids: bool,
    first_price: bool,
    hard_floor: float,
    soft_floor: float,
    wins_ties: bool,
    limit: int,
    user: Integers | None,
    period: Integers | None,
    count: Integers | None,
    counted: Integers | None,
    bid: Floats,
    won: Booleans,
    paid: Floats,
    slot: Integers | None,
) -> float:
    """Fill `bid`, `won`, `paid` and `slot`, one auction after another; gives the spend after the last one.

    Branches on an argument that is None are removed at compile time, and cost nothing.
    """
    for i in range(amount.shape[0]):
        own = min(amount[i], max_bid, budget - spent)
        if integer_bids:
            own = np.floor(own)
        if user is not None and period is not None and count is not None and counted is not None:
            if counted[user[i]] != period[i]:
                counted[user[i]], count[user[i]] = period[i], 0
            if count[user[i]] >= limit:
                own = 0.0
        place = 0
        if slot is not None:
            while place + 1 < price.shape[1] and not (
                own > price[i, place] or (wins_ties and own == price[i, place])
            ):
                place += 1
        other = price[i, place]
        beats = own > other or (wins_ties and own == other)
        wins = own > 0.0 and own >= hard_floor and beats
        cost = 0.0
        if wins:
            cost = own if first_price or own < soft_floor else max(other, hard_floor, soft_floor)
            if effect is not None:
                cost *= effect[place]
            # The money left and the sum are rounded: the spend must not exceed the budget even by rounding.
            if spent + cost > budget:
                wins, cost = False, 0.0
        bid[i], won[i], paid[i] = own, wins, cost
        if slot is not None:
            slot[i] = place if wins else -1
        if user is not None and count is not None and wins:
            count[user[i]] += 1
        spent += cost
    return spent


_SHAPES = (
    "amount: N; price: N S; effect: S; user: N; period: N; count: U; counted: U; bid: N; won: N; paid: N; "
    "slot: N"
)
# One for each combination of several slots and a frequency cap.
_COMPILED = {
    (page, capped): kernel(partial(_types, page, capped), _SHAPES)(_clear)
    for page in (False, True)
    for capped in (False, True)
}
