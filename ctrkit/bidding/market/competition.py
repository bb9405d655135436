"""Several agents in one market, each with its own budget, auction by auction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Booleans, Floats
from ctrkit.bidding.market.clearing import SECOND_PRICE, Cleared
from ctrkit.bidding.market.rules import AuctionRule
from ctrkit.compiled import kernel
from ctrkit.errors import ConfigError


@dataclass(frozen=True)
class Contest:
    """What became of the bids of A agents in n auctions.

    Attributes:
        cleared: what each agent won and paid.
        met: [A, n], the highest competing bid that each agent met: that of another agent, as submitted, or of
            the outside. It is to an agent what the market price is to a bidder alone, except that agents
            with equal bids win in turn.
    """

    cleared: list[Cleared]
    met: Floats


def clear_together(
    amounts: Floats,
    market_price: Floats,
    budgets: ArrayLike,
    spent: ArrayLike,
    max_bid: ArrayLike = np.inf,
    integer_bids: bool = False,
    rule: AuctionRule = SECOND_PRICE,
    *,
    first: int = 0,
) -> Contest:
    """Clear auctions in their order, each sold to the highest of all bids; with one agent, as `clear` does.

    Each bid is capped by the agent's own largest bid and by what is left of its own budget. The highest bid
    wins if it also beats the outside and reaches the hard floor. At second prices the winner pays the highest
    competing bid, of agents or the outside, or a floor above that; at first prices it pays its own bid. If T
    agents tie for the highest bid, agent number i mod T of them wins auction i, so that ties are shared
    equally. The rule says whether a tie with the outside is won. An auction that the winner cannot pay,
    because of rounding, goes to the outside.

    Args:
        amounts: [A, n], what the agents want to bid, in units of money.
        market_price: [n], the highest bid of the outside, that is of all bidders who are not agents.
        budgets: [A] or one number for all; the budget of the episode.
        spent: [A] or one number for all; the spend of the episode before the first of these auctions.
        max_bid: [A] or one number for all; the largest bid.
        integer_bids: whether bids are rounded down to whole units of money.
        rule: the rule of the exchange, with one slot.
        first: i of the first of these auctions, so that chunks of a stream give the same as the whole.

    Raises:
        ConfigError: a rule with several slots.
    """
    if rule.slots > 1:
        raise ConfigError(
            f"several agents compete for one slot per page, but the rule has {rule.slots}",
            hint="Give one slot effect, or let each agent bid alone",
        )
    agents, n = amounts.shape
    budget, largest = (np.broadcast_to(np.asarray(x, np.float64), agents).copy() for x in (budgets, max_bid))
    after = np.broadcast_to(np.asarray(spent, np.float64), agents).copy()
    bid, won, paid, met = (np.empty((agents, n), kind) for kind in (float, np.bool_, float, float))
    _clear_together(
        np.ascontiguousarray(amounts, np.float64),
        np.ascontiguousarray(np.broadcast_to(market_price, n), np.float64),
        budget,
        after,
        largest,
        integer_bids,
        rule.price == "first",
        rule.hard_floor,
        rule.soft_floor,
        rule.wins_ties,
        first,
        bid,
        won,
        paid,
        met,
    )
    return Contest([Cleared(bid[a], won[a], paid[a], float(after[a])) for a in range(agents)], met)


def _types() -> object:
    from numba import types

    read, table = (types.Array(types.float64, axes, "C", readonly=True) for axes in (1, 2))
    moved, written = (types.Array(types.float64, axes, "C") for axes in (1, 2))
    number, flag, flags = types.float64, types.boolean, types.Array(types.boolean, 2, "C")
    return types.void(
        table, read, read, moved, read, flag, flag, number, number, flag, types.int64,
        written, flags, written, written,
    )  # fmt: skip


@kernel(
    _types,
    "amount: A N; outside: N; budget: A; spent: A; max_bid: A; bid: A N; won: A N; paid: A N; met: A N",
)
def _clear_together(
    amount: Floats,
    outside: Floats,
    budget: Floats,
    spent: Floats,
    max_bid: Floats,
    integer_bids: bool,
    first_price: bool,
    hard_floor: float,
    soft_floor: float,
    wins_ties: bool,
    first: int,
    bid: Floats,
    won: Booleans,
    paid: Floats,
    met: Floats,
) -> None:
    """Fill `bid`, `won`, `paid` and `met`, and update `spent`, one auction after another."""
    agents, n = amount.shape
    for i in range(n):
        highest = second = -np.inf
        tied = 0
        for a in range(agents):
            own = min(amount[a, i], max_bid[a], budget[a] - spent[a])
            if integer_bids:
                own = np.floor(own)
            bid[a, i], won[a, i], paid[a, i] = own, False, 0.0
            if own > highest:
                second, highest, tied = highest, own, 1
            elif own == highest:
                second, tied = own, tied + 1
            elif own > second:
                second = own
        price = outside[i]
        beats = highest > price or (wins_ties and highest == price)
        sold = highest > 0.0 and highest >= hard_floor and beats
        turn = (first + i) % tied if sold else -1
        for a in range(agents):
            own = bid[a, i]
            other = max(price, second if own == highest else highest)
            met[a, i] = other
            if not sold or own != highest:
                continue
            if turn == 0:
                cost = own if first_price or own < soft_floor else max(other, hard_floor, soft_floor)
                # The money left and the sum are rounded: never above the budget, even by rounding.
                if spent[a] + cost <= budget[a]:
                    won[a, i], paid[a, i] = True, cost
                    spent[a] += cost
            turn -= 1
