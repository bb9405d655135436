"""The hindsight optimum: the most value that any bidder could have bought, had it known all prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.errors import RunError

Floats: TypeAlias = NDArray[np.float64]


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

    Args:
        value: [n], at least 0; what is worth nothing is not bought.
        price: [n], at least 0; what is free is bought first.
        budget: at least 0.

    Source: G. B. Dantzig, Discrete-variable extremum problems, Operations Research 5 (1957).
    """
    worth = np.flatnonzero(value > 0)
    v, c = value[worth], price[worth]
    ratio = np.divide(v, c, out=np.full(len(v), np.inf), where=c > 0)
    order = np.argsort(-ratio, kind="stable")
    running = np.cumsum(c[order])
    whole = int(np.searchsorted(running, budget, side="right"))
    share = np.zeros(len(value))
    share[worth[order[:whole]]] = 1.0
    multiplier = 0.0
    if whole < len(order):
        marginal = order[whole]
        spent = running[whole - 1] if whole else 0.0
        share[worth[marginal]] = (budget - spent) / c[marginal]
        multiplier = float(ratio[marginal])
    return Optimum(share, float(value @ share), float(price @ share), multiplier)


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
