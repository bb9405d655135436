"""The hindsight optimum: the most value that any bidder could have bought, had it known all prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.errors import RunError

Floats: TypeAlias = NDArray[np.float64]

# So few are sorted outright; a sample this large, with pivots this far from its estimate, rarely misses.
_SORTED = 8192
_SAMPLE = 2048
_MARGIN = 64


@dataclass(frozen=True)
class Optimum:
    """Solution of  max v·x  subject to  c·x ≤ B,  0 ≤ x ≤ 1.

    Attributes:
        share: x [n], the part of each auction that is bought; at most one is a fraction.
        value: v·x.
        spend: c·x, in units of money.
        multiplier: value a unit of money of the marginal auction, the budget's dual variable: bidding
            value / multiplier buys the optimum. 0 where the budget does not bind.
    """

    share: Floats
    value: float
    spend: float
    multiplier: float


def hindsight_optimum(value: Floats, price: Floats, budget: float) -> Optimum:
    """The fractional knapsack in closed form: buy by value a unit of money until the budget is spent.

    The marginal ratio is found by selection, so time grows as n and not as n log n. Among auctions of that
    very ratio any split is optimal; they are bought in their order.

    Args:
        value: [n]; what is worth nothing, or less, is not bought.
        price: [n], at least 0; what is free is bought first.
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
    """The ratio at which the budget runs out: all above it fit, and with those at it they no longer do.

    Selection with two pivots from a sample: all but a few of the auctions are told to lie above or below
    by two comparisons, and the few between are looked at again. The sample is every so-manieth auction, so
    the answer and its time are the same each time.

    Args:
        ratio, price: [n], with Σ price above the budget.

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


def hindsight_optimum_cvxpy(value: Floats, price: Floats, budget: float) -> Optimum:
    """The same as a linear program: slower, and open to more constraints than one budget.

    Raises:
        RunError: when the solver finds no optimum.
    """
    import cvxpy as cp  # slow to import, and needed here alone

    # The solver's tolerances are absolute in part: it is given numbers around 1.
    unit_value, unit_price = float(value.max()) or 1.0, float(price.max()) or 1.0
    share = cp.Variable(len(value), bounds=[0, 1])
    within_budget: Any = price / unit_price @ share <= budget / unit_price
    problem: Any = cp.Problem(cp.Maximize(value / unit_value @ share), [within_budget])
    problem.solve(solver=cp.HIGHS)
    if share.value is None:
        raise RunError(f"the solver found no hindsight optimum ({problem.status})")
    bought = np.clip(np.asarray(share.value, np.float64), 0.0, 1.0)
    multiplier = float(within_budget.dual_value) * unit_value / unit_price
    return Optimum(bought, float(value @ bought), float(price @ bought), multiplier)
