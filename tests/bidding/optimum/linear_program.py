"""The constrained optimum as one linear program (HiGHS): slower, and independent of ctrkit's search."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
from scipy import sparse

from ctrkit.arrays import Floats
from ctrkit.bidding.optimum.lp import Limits, Purchase


def solved(value: Floats, price: Floats, limits: Limits) -> Purchase:
    """The purchase of most value within the limits, and their multipliers."""
    outcome = value if limits.outcome is None else limits.outcome
    # The solver's tolerances are absolute in part: it is given numbers around 1.
    unit_value, unit_price = float(value.max()) or 1.0, float(price.max()) or 1.0
    share = cp.Variable(len(value), bounds=[0, 1])
    constraints: list[Any] = []
    groups, finite, unit_short = np.zeros(0), np.zeros(0, np.intp), 1.0

    def limit(left: Any, right: Any) -> Any:
        constraints.append(left <= right)
        return constraints[-1]

    def multiplier(constraint: Any, unit: float) -> Any:
        return 0.0 if constraint is None else constraint.dual_value * unit_value / unit

    # An infinite limit is none: it has no multiplier, and solvers refuse it.
    budget = target = group = None
    if np.isfinite(limits.budget):
        budget = limit(price / unit_price @ share, limits.budget / unit_price)
    if limits.target is not None:
        short = limits.target * price - outcome
        unit_short = float(np.abs(short).max()) or 1.0
        target = limit(short / unit_short @ share, 0.0)
    if limits.group is not None and limits.group_budget is not None:
        groups = np.zeros(len(limits.group_budget))
        finite = np.flatnonzero(np.isfinite(limits.group_budget))
        shape = (len(groups), len(value))
        of_group = sparse.csr_array((price / unit_price, (limits.group, np.arange(len(value)))), shape=shape)
        if len(finite):
            group = limit(of_group[finite] @ share, limits.group_budget[finite] / unit_price)
    problem: Any = cp.Problem(cp.Maximize(value / unit_value @ share), constraints)
    problem.solve(solver=cp.HIGHS)
    assert share.value is not None, problem.status
    groups[finite] = multiplier(group, unit_price)
    bought = np.clip(np.asarray(share.value, np.float64), 0.0, 1.0)
    of_target, of_budget = float(multiplier(target, unit_short)), float(multiplier(budget, unit_price))
    bought_of = (float(worth @ bought) for worth in (value, price, outcome))
    return Purchase(bought, *bought_of, of_budget, of_target, groups)
