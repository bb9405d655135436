"""Dual pacing with a step at every auction, as one compiled loop over arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from ctrkit.arrays import Booleans, Floats
from ctrkit.bidding.market.clearing import SECOND_PRICE, Cleared
from ctrkit.bidding.market.rules import AuctionRule
from ctrkit.bidding.pacing.dual import LEAST, MOST, SHORT_TICK, DualPacer, Pace
from ctrkit.bidding.pacing.spend_plan import Seen, SpendPlan
from ctrkit.compiled import kernel
from ctrkit.errors import ConfigError

# Places in the state of the loop.
REMAINING, LEFT, MULTIPLIER, TICKS, SPENT, FIRST, WINS, VALUE, LOG_SUM, COUNTED = range(10)

# 1 / n! of the series of e^x.
C3, C4, C5, C6 = 1 / 6, 1 / 24, 1 / 120, 1 / 720


@dataclass(frozen=True)
class PacedReplay:
    """What a paced bidder did in n auctions.

    Attributes:
        pace: the state after the last auction.
        wins: the number of auctions won.
        value: the value of the wins, by the bidder's own estimate.
        spend: the spend on these auctions.
        cleared: what became of each auction; None without `keep`.
        multiplier: [n], μ of each bid, NaN where there was no bid; None without `keep`.
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
    time: Floats | None = None,
    budget: float | None = None,
    spent: float = 0.0,
    max_bid: float = np.inf,
    integer_bids: bool = False,
    rule: AuctionRule = SECOND_PRICE,
    keep: bool = True,
) -> PacedReplay:
    """Bid value / μ in each auction and move μ after it: `DualPacer` and `clear` by ticks of one auction.

    The result is the same up to rounding: a bid may differ in its last digits, and so fall on the other side
    of an exact tie or of a whole unit.

    Args:
        value: [n], the bidder's estimate of the value of each impression, at least 0.
        market_price: [n], the highest competing bid.
        pacer: a `DualPacer`; no subclass of it.
        pace: the state before the first of these auctions.
        time: [n], the time of each auction in seconds since 1970; used by plans that have a clock.
        budget: the budget of the episode; by default the money that `pace` has left, plus `spent`.
        spent: the spend of the episode before the first of these auctions.
        max_bid: the largest bid, in units of money.
        integer_bids: whether bids are rounded down to whole units of money.
        rule: the rule of the exchange.
        keep: whether to return what happened in each auction; without it the loop uses a third of the memory.

    Raises:
        ConfigError: a pacer other than `DualPacer` itself.
    """
    if type(pacer) is not DualPacer:
        raise ConfigError(f"a replay with an update at every auction does not support {type(pacer).__name__}")
    n = len(value)
    kept = n if keep else 0
    bid, won, paid, multiplier = np.empty(kept), np.empty(kept, np.bool_), np.empty(kept), np.empty(kept)
    prior = pace.prior * SHORT_TICK
    state = np.array(
        [
            pace.remaining, 0.0, pace.multiplier or 0.0, pace.ticks + prior, spent, pace.first or 0.0,
            0.0, 0.0, pace.log_sum, pace.counted,
        ]
    )  # fmt: skip
    value = np.ascontiguousarray(value, np.float64)
    market_price = np.ascontiguousarray(market_price, np.float64)
    clock = pacer.plan if pacer.plan is not None and pacer.plan.goes_by(time) else None
    left_at, seen = None, pace.seen
    if clock is not None and time is not None and n:
        left_at, seen = _left(clock, time, seen)
    for start, end, left in _parts(pacer, pace, n, clock is not None):
        rows = slice(start, end)
        state[LEFT] = left
        idle = left == np.inf  # the plan gives these auctions nothing: no bid, and no step
        _COMPILED[clock is not None](
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
            2 * (pace.auctions_left - start) < pace.auctions,
            None if left_at is None else left_at[rows],
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
        ticks=round(state[TICKS] - prior),
        first=float(state[FIRST]) or None,
        seen=seen,
        log_sum=float(state[LOG_SUM]),
        counted=float(state[COUNTED]),
    )
    return PacedReplay(
        after,
        int(state[WINS]),
        float(state[VALUE]),
        float(state[SPENT]) - spent,
        Cleared(bid, won, paid, float(state[SPENT])) if keep else None,
        multiplier if keep else None,
    )


def _parts(pacer: DualPacer, pace: Pace, n: int, by_clock: bool) -> Iterator[tuple[int, int, float]]:
    """Runs of auctions within which the plan is even: start, end, and the auctions left at its pace.

    An auction that an edge of the plan cuts in two is its own run. A run also ends at half of the episode.
    """
    gone, plan = pace.auctions - pace.auctions_left, pacer.plan
    cuts = np.array([pace.auctions // 2 + 1.0 - gone])
    if plan is not None and not by_clock:
        exact = plan.edges * pace.auctions - gone
        cuts = np.concatenate([cuts, np.floor(exact), np.ceil(exact)])
    edges = np.unique(np.concatenate([[0, n], cuts[(cuts > 0) & (cuts < n)]])).astype(int).tolist()
    for start, end in pairwise(edges):
        left = max(pace.auctions_left - start, 1)
        if plan is None or by_clock or pace.auctions_left <= start:
            yield start, end, left
        else:
            now, next_ = (gone + start) / pace.auctions, (gone + start + 1) / pace.auctions
            yield start, end, plan.left_over_next(now, next_)


def _left(plan: SpendPlan, time: Floats, seen: Seen) -> tuple[Floats, Seen]:
    """The auctions left at the plan's pace at each moment [n], at least 1, infinite where the plan gives
    nothing; and what was seen by the end."""
    left, each, seen = plan.by_clock(time, seen)
    ahead: Floats = np.full(len(time), np.inf)
    return np.divide(np.maximum(left, each), each, out=ahead, where=each > 0), seen


def _types(by_clock: bool) -> object:
    from numba import types

    read = types.Array(types.float64, 1, "C", readonly=True)
    written, flags = types.Array(types.float64, 1, "C"), types.Array(types.boolean, 1, "C")
    number, flag = types.float64, types.boolean
    return types.void(
        read, read, written, number, number, number, flag, flag, number, number, flag, flag,
        written if by_clock else types.none, written, flags, written, written,
    )  # fmt: skip


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
    second_half: bool,
    left_at: Floats | None,
    bid: Floats,
    won: Booleans,
    paid: Floats,
    multiplier: Floats,
) -> None:
    """The loop of `replay_paced`; `state` holds the pace and the sums, before and after.

    Each auction waits for the multiplier of the one before. So the loop keeps 1/μ, with which a bid is a
    product, divides only where nothing waits, and computes e^x of small steps from its series. Branches on a
    `left_at` that is None are removed at compile time.
    """
    remaining, left, ticks, spent = state[0], state[1], state[3], state[4]
    rate = 1.0 / state[2] if state[2] > 0.0 else 0.0
    wins, bought = state[6], state[7]
    log_rate, log_sum = np.log(rate) if rate > 0.0 else 0.0, 0.0
    first = state[5]
    if first == 0.0 and rate > 0.0 and remaining > 0.0 and step > 0.0:
        for i in range(value.shape[0]):
            if value[i] > 0.0 and (left_at is None or left_at[i] < np.inf):
                first = state[2]
                break
    cap = min(max_bid, budget - spent)
    keep = bid.shape[0] > 0
    for i in range(value.shape[0]):
        v = value[i]
        if left_at is not None:
            left = left_at[i]
        if rate == 0.0 and v > 0.0 and remaining > 0.0 and left < np.inf:
            rate = min(max(remaining / max(left, 1.0) / v, LEAST), MOST)
            log_rate = np.log(rate)
            first = 1.0 / rate
        idle = left_at is not None and left == np.inf
        own = 0.0 if idle else min(v * rate, cap)
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
            multiplier[i] = 1.0 / rate if rate > 0.0 and not idle else np.nan
        if v > 0.0 and rate > 0.0 and remaining > 0.0 and not idle:
            ticks += 1.0
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
                x = max(min(x, 1.0), -1.0)
                e = np.exp(x)
            moved = rate * e
            # Above this, the bid exceeds the money left.
            if moved * v > remaining and remaining > 0.0:
                moved = min(moved, max(rate, remaining / v), MOST)
                x = np.log(moved / rate)
            rate = moved
            if second_half:
                log_rate += x
                log_sum += log_rate
        left -= 1.0
    state[0], state[2] = remaining, 1.0 / rate if rate > 0.0 else 0.0
    if step > 0.0:  # else nothing was offered
        if second_half:
            state[8], state[9] = state[8] - log_sum, state[9] + ticks - state[3]
        state[3], state[5] = ticks, first
    state[4], state[6], state[7] = spent, wins, bought


# One for plans with a clock, and one for others.
_SHAPES = "value: N; market_price: N; state: 10; left_at: N; bid: N|0; won: N|0; paid: N|0; multiplier: N|0"
_COMPILED = {by_clock: kernel(partial(_types, by_clock), _SHAPES)(_replay) for by_clock in (False, True)}
