"""Dual pacing with a step at every auction, as one compiled loop over arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.bidding.clearing import SECOND_PRICE, Cleared
from ctrkit.bidding.pacing import DualPacer, Pace
from ctrkit.bidding.rules import AuctionRule
from ctrkit.compiled import kernel
from ctrkit.errors import ConfigError

Floats: TypeAlias = NDArray[np.float64]

# Places in the state of the loop.
REMAINING, LEFT, MULTIPLIER, TICKS, SPENT, FIRST, WINS, VALUE = range(8)

# 1 / n! of the series of e^x.
C3, C4, C5, C6 = 1 / 6, 1 / 24, 1 / 120, 1 / 720


@dataclass(frozen=True)
class PacedReplay:
    """What a paced bidder did in n auctions.

    Attributes:
        pace: after the last of them.
        wins: how many were won. value: of them, as the bidder took it. spend: for them.
        cleared: auction by auction, where it was asked for.
        multiplier: [n] with which each was bid, NaN where none was, see `DualPacer.multiplier`; likewise.
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
    budget: float | None = None,
    spent: float = 0.0,
    max_bid: float = np.inf,
    integer_bids: bool = False,
    rule: AuctionRule = SECOND_PRICE,
    keep: bool = True,
) -> PacedReplay:
    """Bid value / μ in each auction and move μ after it: `DualPacer` and `clear` by ticks of one auction.

    It is the same up to rounding: a bid may differ from theirs in its last places, and so fall on the other
    side of an exact tie or of a whole unit.

    Args:
        value: [n], what the bidder takes each impression to be worth, at least 0.
        market_price: [n], the highest competing bid.
        pacer: a `DualPacer`, not one of another rule.
        pace: before the first of these auctions.
        budget, spent: of the episode, as for `clear`; by default what the pace has left.
        keep: whether to give what happened in each auction; without it a third of the memory is touched.

    Raises:
        ConfigError: for a pacer whose rule is another than the multiplicative one.
    """
    if type(pacer) is not DualPacer:
        raise ConfigError(f"a replay at every auction is not made for a {type(pacer).__name__}")
    n = len(value)
    kept = n if keep else 0
    bid, won, paid, multiplier = np.empty(kept), np.empty(kept, np.bool_), np.empty(kept), np.empty(kept)
    state = np.array(
        [pace.remaining, 0.0, pace.multiplier or 0.0, pace.ticks, spent, pace.first or 0.0, 0.0, 0.0]
    )
    value = np.ascontiguousarray(value, np.float64)
    market_price = np.ascontiguousarray(market_price, np.float64)
    for start, end, left in _parts(pacer, pace, n):
        rows = slice(start, end)
        state[LEFT] = left
        idle = left == np.inf  # what the plan gives nothing: no bid, and no step
        _replay(
            value[rows],
            market_price[rows],
            state,
            pace.remaining + spent if budget is None else float(budget),
            0.0 if idle else pacer.first_step(1),
            0.0 if idle else float(max_bid),
            integer_bids,
            rule.price == "first",
            rule.hard_floor,
            rule.soft_floor,
            rule.wins_ties,
            bid[rows],
            won[rows],
            paid[rows],
            multiplier[rows],
        )
        if idle:
            multiplier[rows] = np.nan
    after = replace(
        pace,
        remaining=float(state[REMAINING]),
        auctions_left=pace.auctions_left - n,
        multiplier=float(state[MULTIPLIER]) or None,
        ticks=pace.ticks + n,
        first=float(state[FIRST]) or None,
    )
    return PacedReplay(
        after,
        int(state[WINS]),
        float(state[VALUE]),
        float(state[SPENT]) - spent,
        Cleared(bid, won, paid, float(state[SPENT])) if keep else None,
        multiplier if keep else None,
    )


def _parts(pacer: DualPacer, pace: Pace, n: int) -> Iterator[tuple[int, int, float]]:
    """Runs of auctions within which the plan is even: start, end, and the auctions left at its pace.

    An auction that the plan cuts in two is a run of its own.
    """
    gone = pace.auctions - pace.auctions_left
    cuts = np.empty(0)
    if pacer.plan is not None:
        exact = pacer.plan.edges * pace.auctions - gone
        cuts = np.concatenate([np.floor(exact), np.ceil(exact)])
    edges = np.unique(np.concatenate([[0, n], cuts[(cuts > 0) & (cuts < n)]])).astype(int).tolist()
    for start, end in pairwise(edges):
        ahead = replace(pace, auctions_left=pace.auctions_left - start)
        yield start, end, pacer.auctions_ahead(ahead, 1)


def _types() -> object:
    from numba import types

    read = types.Array(types.float64, 1, "C", readonly=True)
    written, flags = types.Array(types.float64, 1, "C"), types.Array(types.boolean, 1, "C")
    number, flag = types.float64, types.boolean
    return types.void(
        read, read, written, number, number, number, flag, flag, number, number, flag,
        written, flags, written, written,
    )  # fmt: skip


@kernel(_types, "value: N; market_price: N; state: 8; bid: N|0; won: N|0; paid: N|0; multiplier: N|0")
def _replay(
    value: Floats,
    market_price: Floats,
    state: Floats,
    budget: float,
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
    remaining, left, ticks, spent = state[0], state[1], state[3], state[4]
    rate = 1.0 / state[2] if state[2] > 0.0 else 0.0
    if rate > 0.0 and remaining > 0.0 and state[5] == 0.0 and value.shape[0] and left < np.inf:
        state[5] = state[2]
    wins, bought = state[6], state[7]
    cap = min(max_bid, budget - spent)
    keep = bid.shape[0] > 0
    for i in range(value.shape[0]):
        v = value[i]
        if rate == 0.0 and v > 0.0 and remaining > 0.0 and left < np.inf:
            rate = remaining / max(left, 1.0) / v
            state[5] = 1.0 / rate
        own = min(v * rate, cap)
        if integer_bids:
            own = np.floor(own)
        price = market_price[i]
        beats = own > price or (wins_ties and own == price)
        wins_it = own > 0.0 and own >= hard_floor and beats
        cost = 0.0
        if wins_it:
            cost = own if first_price or own < soft_floor else max(price, hard_floor, soft_floor)
            if spent + cost > budget:  # by a unit in the last place
                wins_it, cost = False, 0.0
            else:
                wins += 1.0
                bought += v
        if keep:
            bid[i], won[i], paid[i] = own, wins_it, cost
            multiplier[i] = 1.0 / rate if rate > 0.0 else np.nan
        ticks += 1.0
        if rate > 0.0 and remaining > 0.0:
            x = step / np.sqrt(ticks)
            if cost > 0.0:
                x *= 1.0 - cost * (max(left, 1.0) / remaining)
                remaining -= cost
                spent += cost
                cap = min(max_bid, budget - spent)
            if abs(x) < 0.02:  # the seventh term is below the last place
                xx = x * x
                e = 1.0 + x * ((1.0 + x * 0.5) + xx * ((C3 + x * C4) + xx * (C5 + x * C6)))
            else:
                e = np.exp(max(min(x, 1.0), -1.0))
            moved = rate * e
            # Above this, the bid is above all that is left.
            if moved * v > remaining and remaining > 0.0:
                moved = min(moved, max(rate, remaining / v))
            rate = moved
        left -= 1.0
    state[0], state[2], state[3] = remaining, 1.0 / rate if rate > 0.0 else 0.0, ticks
    state[4], state[6], state[7] = spent, wins, bought
