"""Dual pacing with a step at every auction, as one compiled loop over arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.bidding.clearing import SECOND_PRICE, Cleared
from ctrkit.bidding.pacing import DualPacer, Pace
from ctrkit.bidding.rules import AuctionRule
from ctrkit.compiled import kernel

Floats: TypeAlias = NDArray[np.float64]

# Places in the state of the loop.
REMAINING, LEFT, MULTIPLIER, TICKS, WINS, SPEND, VALUE = range(7)

# 1 / n! of the series of e^x.
C3, C4, C5, C6 = 1 / 6, 1 / 24, 1 / 120, 1 / 720


@dataclass(frozen=True)
class PacedReplay:
    """What a paced bidder did in n auctions.

    Attributes:
        pace: after the last of them.
        wins: how many were won. value: of them, as the bidder took it. spend: for them.
        cleared: auction by auction, where it was asked for.
        multiplier: [n] with which each was bid, NaN before any value was seen; likewise.
    """

    pace: Pace
    wins: int
    value: float
    spend: float
    cleared: Cleared | None = None
    multiplier: Floats | None = None


def replay_paced(
    value: Floats,
    market_price: Floats,
    pacer: DualPacer,
    pace: Pace,
    *,
    max_bid: float = np.inf,
    integer_bids: bool = False,
    rule: AuctionRule = SECOND_PRICE,
    keep: bool = True,
) -> PacedReplay:
    """Bid value / μ in each auction and move μ after it: `DualPacer` and `clear` by ticks of one auction.

    Args:
        value: [n], what the bidder takes each impression to be worth.
        market_price: [n], the highest competing bid.
        pace: before the first of these auctions.
        keep: whether to give what happened in each auction; without it a third of the memory is touched.
    """
    n = len(value) if keep else 0
    bid, won, paid, multiplier = np.empty(n), np.empty(n, np.bool_), np.empty(n), np.empty(n)
    start = 0.0 if pace.multiplier is None else pace.multiplier
    state = np.array([pace.remaining, pace.auctions_left, start, pace.ticks, 0.0, 0.0, 0.0])
    _replay(
        np.ascontiguousarray(value, np.float64),
        np.ascontiguousarray(market_price, np.float64),
        state,
        float(pacer.step),
        float(max_bid),
        integer_bids,
        rule.price == "first",
        rule.hard_floor,
        rule.soft_floor,
        rule.wins_ties,
        bid,
        won,
        paid,
        multiplier,
    )
    after = replace(
        pace,
        remaining=float(state[REMAINING]),
        auctions_left=int(state[LEFT]),
        multiplier=float(state[MULTIPLIER]) or None,
        ticks=int(state[TICKS]),
    )
    spend = float(state[SPEND])
    return PacedReplay(
        after,
        int(state[WINS]),
        float(state[VALUE]),
        spend,
        Cleared(bid, won, paid, spend) if keep else None,
        multiplier if keep else None,
    )


def _types() -> object:
    from numba import types

    read = types.Array(types.float64, 1, "C", readonly=True)
    written, flags = types.Array(types.float64, 1, "C"), types.Array(types.boolean, 1, "C")
    number, flag = types.float64, types.boolean
    return types.void(
        read, read, written, number, number, flag, flag, number, number, flag,
        written, flags, written, written,
    )  # fmt: skip


@kernel(_types)
def _replay(
    value: Floats,
    market_price: Floats,
    state: Floats,
    step: float,
    max_bid: float,
    integer_bids: bool,
    first_price: bool,
    hard_floor: float,
    soft_floor: float,
    wins_ties: bool,
    bid: Floats,
    won: NDArray[np.bool_],
    paid: Floats,
    multiplier: Floats,
) -> None:
    """The loop of `replay_paced`; `state` holds the pace and the sums, before and after.

    What each auction waits for is the multiplier of the one before. So the loop keeps 1/μ, by which a bid is
    a product, divides where nothing waits, and takes e^x of the small steps from its series.
    """
    remaining, left, ticks = state[0], state[1], state[3]
    rate = 1.0 / state[2] if state[2] > 0.0 else 0.0
    wins, spend, bought = state[4], state[5], state[6]
    keep = bid.shape[0] > 0
    for i in range(value.shape[0]):
        v = value[i]
        if rate == 0.0 and v > 0.0:
            rate = remaining / max(left, 1.0) / v
        own = min(v * rate, max_bid, remaining)
        if integer_bids:
            own = np.floor(own)
        price = market_price[i]
        wins_it = own >= hard_floor and (own > price or (wins_ties and own == price))
        cost = 0.0
        if wins_it:
            cost = own if first_price or own < soft_floor else max(price, hard_floor, soft_floor)
            wins += 1.0
            bought += v
        if keep:
            bid[i], won[i], paid[i] = own, wins_it, cost
            multiplier[i] = 1.0 / rate if rate > 0.0 else np.nan
        ticks += 1.0
        if rate > 0.0 and remaining > 0.0:
            x = step / np.sqrt(ticks)
            if cost > 0.0:
                x *= 1.0 - cost * max(left, 1.0) / remaining
                remaining -= cost
                spend += cost
            x = max(min(x, 1.0), -1.0)
            if abs(x) < 0.02:  # the seventh term is below the last place
                e = 1.0 + x * (1.0 + x * (0.5 + x * (C3 + x * (C4 + x * (C5 + x * C6)))))
            else:
                e = np.exp(x)
            moved = rate * e
            # Above this, the bid is above all that is left.
            if moved * v > remaining and remaining > 0.0:
                moved = min(moved, max(rate, remaining / v))
            rate = moved
        left -= 1.0
    state[0], state[1], state[2], state[3] = remaining, left, 1.0 / rate if rate > 0.0 else 0.0, ticks
    state[4], state[5], state[6] = wins, spend, bought
