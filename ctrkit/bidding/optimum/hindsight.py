"""The hindsight optimum: the most value that a bidder who knew all prices could have bought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Floats, Indices
from ctrkit.bidding.market.frequency import best_of_each
from ctrkit.errors import RunError

# This many are sorted at once; a sample this large, with pivots this far from its estimate, rarely misses.
_SORTED = 8192
_SAMPLE = 2048
_MARGIN = 64
# The search stops when lines of the dual function meet within this share of its value, or of the rounding of
# sums; that takes about twenty lines.
_MET, _ROUNDING = 1e-12, 1e-14
_LINES = 200


@dataclass(frozen=True)
class Optimum:
    """The solution of  max v·x  subject to  c·x ≤ B,  0 ≤ x ≤ 1, and to slots and caps where there are any.

    Attributes:
        share: x [n], the share of each auction that is bought; without slots and caps at most one is a
            fraction.
        value: v·x.
        spend: c·x, in units of money.
        multiplier: the dual variable of the budget: value per unit of money of the marginal auction. Without
            slots and caps, bids of value / multiplier buy the optimum. 0 where the budget does not bind.
        slot_share: [n, S], with several slots the share of each slot that is bought; `share` is their sum.
    """

    share: Floats
    value: float
    spend: float
    multiplier: float
    slot_share: Floats | None = None


def hindsight_optimum(value: Floats, price: Floats, budget: float) -> Optimum:
    """The fractional knapsack in closed form: buy by value per unit of money until the budget is spent.

    It is the same for first and second prices, since a bidder who knows the price can bid exactly that. The
    marginal ratio is found by selection, so time grows as n and not as n log n. Among auctions of exactly
    that ratio any split is optimal; they are bought in their order.

    Args:
        value: [n]; auctions with a value of 0 or below are not bought.
        price: [n], at least 0; free auctions are bought first.
        budget: at least 0.

    Source: G. B. Dantzig, Discrete-variable extremum problems, Operations Research 5 (1957).
    """
    if (wanted := value > 0).all():
        share, spend, multiplier = _bought(value, price, budget)
        return Optimum(share, float(value @ share), spend, multiplier)
    worth = np.flatnonzero(wanted)
    share = np.zeros(len(value))
    share[worth], spend, multiplier = _bought(value[worth], price[worth], budget)
    return Optimum(share, float(value @ share), spend, multiplier)


def _bought(value: Floats, price: Floats, budget: float) -> tuple[Floats, float, float]:
    """Shares, spend and multiplier where every value is above 0."""
    if (total := float(price.sum())) <= budget:
        return np.ones(len(value)), total, 0.0
    with np.errstate(over="ignore"):  # next to free is free
        ratio = np.divide(value, price, out=np.full(len(value), np.inf), where=price > 0)
    multiplier = marginal_ratio(ratio, price, budget)
    whole = ratio > multiplier
    share = whole.astype(np.float64)
    spent = float(price @ share)
    tied = np.flatnonzero(ratio == multiplier)
    running = spent + np.cumsum(price[tied])
    fit = int(np.searchsorted(running, budget, side="right"))
    share[tied[:fit]] = 1.0
    if fit:
        spent = float(running[fit - 1])
    if fit < len(tied):
        share[tied[fit]] = np.clip((budget - spent) / price[tied[fit]], 0.0, 1.0)
    return share, float(price @ share), multiplier


def marginal_ratio(ratio: Floats, price: Floats, budget: float) -> float:
    """The ratio at which the budget runs out: it pays for all auctions above, but not also for those at it.

    Selection with two pivots from a sample: two comparisons find most auctions to lie above or below, and
    only the few between are looked at again. The sample takes auctions at a fixed stride, so the answer and
    its time are the same each time.

    Args:
        ratio: [n], value per unit of money of each auction.
        price: [n], with Σ price above the budget.
        budget: at least 0.

    Source: R. W. Floyd, R. L. Rivest, Expected time bounds for selection, Communications of the ACM 18
    (1975), here with prices for weights.
    """
    left = budget
    while len(ratio) > _SORTED:
        stride = len(ratio) // _SAMPLE
        sampled, weight = ratio[::stride], price[::stride]
        order = np.argsort(-sampled, kind="stable")
        running = np.cumsum(weight[order])
        place = int(np.searchsorted(running, left / float(price.sum()) * running[-1]))
        high = float(sampled[order[max(place - _MARGIN, 0)]])
        low = float(sampled[order[min(place + _MARGIN, len(order) - 1)]])
        above, below = ratio > high, ratio < low
        dearest = float(price @ above)
        if dearest > left:
            keep = above
        elif (upper := float(price @ ~below)) <= left and below.any():
            keep, left = below, left - upper
        else:
            keep, left = ~(above | below), left - dearest
        before = len(ratio)
        ratio, price = ratio[keep], price[keep]
        if 2 * len(ratio) > before:  # many of one ratio, or a sample that told little
            break
    order = np.argsort(-ratio, kind="stable")
    running = np.cumsum(price[order])
    place = int(np.searchsorted(running, left, side="right"))
    return float(ratio[order[min(place, len(order) - 1)]])


def hindsight_optimum_shown(
    value: Floats,
    price: Floats,
    budget: float,
    *,
    slot_effects: Sequence[float] = (1.0,),
    group: NDArray[np.integer[Any]] | None = None,
    most: int = 1,
) -> Optimum:
    """The optimum over pages with several slots, under a frequency cap, or both, as a linear program.

        max Σ e_s v_i x_is   subject to   Σ e_s z_is x_is ≤ B,   Σ_s x_is ≤ 1,   Σ_{i in g, s} x_is ≤ N

    For a multiplier μ each auction takes the slot with the largest e_s (v_i − μ z_is) above 0, and each group
    its N auctions where this is largest. This gives the dual function, which is convex and piecewise linear
    in μ. The search holds one purchase above the budget and one within it. The next μ is where their two
    lines meet, until no purchase lies above that point. A mix of the last two purchases that just spends the
    budget is optimal.

    Args:
        value: v [n], the value of an impression in the best slot; auctions with a value of 0 or below are not
            bought.
        price: z [n, S] or, with one slot, [n], the price of slot s for an impression in the best slot, of
            which e_s times is paid. At least 0; infinite for a slot that cannot be bought.
        budget: B, at least 0.
        slot_effects: e [S], falling from 1.
        group: [n], the auctions that count together (see `FrequencyCap.groups`); None without a cap.
        most: N, the largest number of auctions of a group.

    Raises:
        RunError: the search does not end, which only rounding could cause.

    Source: the dual of the multiple-choice knapsack, P. Sinha, A. A. Zoltners, Operations Research 27 (1979);
    the search, G. Y. Handler, I. Zang, Networks 10 (1980).
    """
    price = price[:, None] if price.ndim == 1 else price
    effects, offered = np.asarray(slot_effects, np.float64), np.isfinite(price) & (value[:, None] > 0)
    gain = np.where(offered, effects * value[:, None], 0.0)
    cost = np.where(offered, effects * np.where(offered, price, 0.0), 0.0)
    cost = np.where(cost < 1e-200 * gain, 0.0, cost)  # next to free is free, so that no multiplier overflows

    def bought(multiplier: float) -> _Purchase:
        """The best purchase at a multiplier; with an infinite one, the best purchase of free slots."""
        net = np.where(cost == 0, gain, 0.0) if multiplier == np.inf else gain - multiplier * cost
        slot = net.shape[1] - 1 - net[:, ::-1].argmax(axis=1)  # of equals the last one, which costs no more
        best = np.take_along_axis(net, slot[:, None], 1)[:, 0]
        rows = np.flatnonzero(best > 0)
        if group is not None:
            rows = rows[best_of_each(group[rows], best[rows], cost[rows, slot[rows]], most)]
        slot = slot[rows]
        return _Purchase(rows, slot, float(gain[rows, slot].sum()), float(cost[rows, slot].sum()))

    def mixed(part: float, first: _Purchase, second: _Purchase, multiplier: float) -> Optimum:
        share = np.zeros(gain.shape)
        share[first.rows, first.slot] += part
        share[second.rows, second.slot] += 1.0 - part
        total, spend = float((gain * share).sum()), float((cost * share).sum())
        return Optimum(share.sum(axis=1), total, spend, multiplier, share if len(effects) > 1 else None)

    dear, within = bought(0.0), bought(np.inf)
    if dear.spend <= budget:
        return mixed(1.0, dear, dear, 0.0)
    for _ in range(_LINES):
        multiplier = (dear.value - within.value) / (dear.spend - within.spend)
        met = within.value + multiplier * (budget - within.spend)
        found = bought(multiplier)
        above = found.value + multiplier * (budget - found.spend) - met
        if above <= max(_MET * met, _ROUNDING * found.value):
            return mixed((budget - within.spend) / (dear.spend - within.spend), dear, within, multiplier)
        dear, within = (found, within) if found.spend > budget else (dear, found)
    raise RunError("the search for the budget's multiplier did not end")


@dataclass(frozen=True)
class _Purchase:
    """A purchase of whole auctions: their rows and slots, and their total value and spend."""

    rows: Indices
    slot: Indices
    value: float
    spend: float
