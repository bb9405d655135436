"""Second-price clearing of a tick of auctions under a budget, exactly as if they came one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Cleared:
    """What became of n bids.

    Attributes:
        bid: [n], as submitted: capped by the largest bid and by what was left, rounded down where asked.
        won: [n], bool.
        paid: [n], the market price where won, else 0.
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
) -> Cleared:
    """Clear auctions in their order: a bid wins at or above the market price, and pays that price.

    A bid is capped by what is left of the budget, so the spend never exceeds it: an auction too dear for
    the remainder is lost, and a cheaper one after it can still be won.

    Args:
        amount: [n], what the strategy wants to bid, in units of money.
        budget, spent: of the episode, before the first of these auctions.
    """
    wanted = np.minimum(amount, max_bid)
    if integer_bids:
        wanted = np.floor(wanted)

    def left(before: Floats) -> Floats:
        return np.floor(budget - before) if integer_bids else budget - before

    won = np.zeros(len(amount), np.bool_)
    waiting = np.flatnonzero(wanted >= market_price)
    running = np.array([spent])
    while len(waiting):
        price = market_price[waiting]
        # Begun with the spend so far, the running sums are to the last bit those of a plain loop.
        running = np.cumsum(np.concatenate((running[-1:], price)))
        affordable = (running[1:] <= budget) & (price <= left(running[:-1]))
        if affordable.all():
            won[waiting] = True
            break
        first = int(np.argmin(affordable))
        won[waiting[:first]] = True
        running = running[: first + 1]
        # The first that is too dear now is so for good, and so are all others above what is left.
        price = market_price[waiting[first:]]
        waiting = waiting[first:][(running[-1] + price <= budget) & (price <= left(running[-1:]))]
    paid = np.where(won, market_price, 0.0)
    before = np.cumsum(np.concatenate(([spent], paid[:-1])))
    return Cleared(np.minimum(wanted, left(before)), won, paid, float(running[-1]))
