"""The hindsight optimum under more than a budget: a target return, and budgets of groups below the whole.

    max v·x   subject to   c·x ≤ B,   w·x ≥ τ c·x,   Σ_{i in g} c_i x_i ≤ B_g,   0 ≤ x ≤ 1

v is the value of an auction, c its price, and w the outcome that the target counts: the value itself for a
return on spend of at least τ, conversions for a cost per conversion of at most 1/τ. A group is a campaign
that shares the budget, or an hour with its own budget. With multipliers μ of the budget, λ of the target and
ν_g of the groups, an auction is bought where  v + λ w > (μ + ν_g + λ τ) c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Floats
from ctrkit.bidding.optimum.hindsight import hindsight_optimum
from ctrkit.errors import ConfigError, RunError

# The search stops when lines of the dual function meet within this share of its value, after about ten lines.
_MET = 1e-12
_LINES = 200


@dataclass(frozen=True)
class Limits:
    """The limits of a purchase of n auctions.

    Attributes:
        budget: B, at least 0, in units of money.
        target: τ above 0, the least outcome per unit of money; for a cost per conversion of at most C it is
            1/C. None sets no target.
        outcome: w [n], at least 0, what the target counts; None for the value itself.
        group: [n], the group of each auction, from 0; None where there are none.
        group_budget: B_g [G], at least 0; infinite where a group has no limit of its own.

    Raises:
        ConfigError: a budget below 0, a target not above 0, or groups without budgets.
    """

    budget: float = np.inf
    target: float | None = None
    outcome: Floats | None = None
    group: NDArray[np.integer[Any]] | None = None
    group_budget: Floats | None = None

    def __post_init__(self) -> None:
        if not self.budget >= 0:
            raise ConfigError(f"the budget is {self.budget:g} and must be at least 0")
        if self.target is not None and not (np.isfinite(self.target) and self.target > 0):
            raise ConfigError(
                f"the target return is {self.target:g} and must be above 0",
                hint="Give the least outcome per unit of money, or leave the target out",
            )
        if (self.group is None) != (self.group_budget is None):
            raise ConfigError("groups need budgets, and budgets need groups", hint="Give both or neither")
        if self.group is not None and self.group_budget is not None and len(self.group):
            outside = self.group.min() < 0 or self.group.max() >= len(self.group_budget)
            if outside or not (self.group_budget >= 0).all():
                raise ConfigError(
                    "a group lacks a budget of at least 0",
                    hint="Give each group a budget, which may be infinite",
                )


@dataclass(frozen=True)
class Purchase:
    """A solution, and the multipliers of its limits.

    Attributes:
        share: x [n].
        value: v·x.
        spend: c·x.
        outcome: w·x; equal to `value` if the target counts value, or without a target.
        budget_multiplier: μ, the value of one more unit of money.
        target_multiplier: λ, the value of lowering the target's outcome by one unit.
        group_multiplier: ν_g [G], the value of one more unit of money for the group, in addition to μ.
    """

    share: Floats
    value: float
    spend: float
    outcome: float
    budget_multiplier: float
    target_multiplier: float
    group_multiplier: Floats


def constrained_optimum(value: Floats, price: Floats, limits: Limits) -> Purchase:
    """The optimum by dual search: one dimension for λ, and a knapsack in closed form within.

    For a given λ a knapsack with the values v + λ(w − τc) is left. The dual function is convex and piecewise
    linear in λ. The search holds one purchase that misses the target and one that keeps it. The next λ is
    where their two lines meet, until no purchase lies below that point. A mix of the last two purchases that
    just meets the target is optimal.

    Args:
        value: [n], at least 0.
        price: [n], at least 0.
        limits: the budget, target and group budgets.

    Raises:
        RunError: the search does not end, which only rounding could cause.

    Source: G. Y. Handler, I. Zang, A dual algorithm for the constrained shortest path problem, Networks 10
    (1980), whose search for the multiplier of one hard constraint this is.
    """
    free = _capped_knapsack(value, price, limits)
    if limits.target is None:
        return _purchase(free[0], value, price, limits, 0.0, *free[1:])
    slack = _outcome(value, limits) - limits.target * price
    missing, keeping = free, _capped_knapsack(slack, price, limits)
    if slack @ free[0] >= 0:
        return _purchase(free[0], value, price, limits, 0.0, *free[1:])
    for _ in range(_LINES):
        low, high = (value @ missing[0], slack @ missing[0]), (value @ keeping[0], slack @ keeping[0])
        multiplier = float((low[0] - high[0]) / (high[1] - low[1]))
        met = float(low[0] + multiplier * low[1])
        found = _capped_knapsack(value + multiplier * slack, price, limits)
        gap = float((value + multiplier * slack) @ found[0]) - met
        if gap <= _MET * (low[0] + high[0] + multiplier * (high[1] - low[1])):
            part = low[1] / (low[1] - high[1])
            mixed = missing[0] + part * (keeping[0] - missing[0])
            return _purchase(mixed, value, price, limits, multiplier, *found[1:])
        if slack @ found[0] < 0:
            missing = found
        else:
            keeping = found
    raise RunError("the search for the target's multiplier did not end")


def min_rule(
    value: Floats,
    budget_multiplier: float,
    target_multiplier: float,
    target: float,
    outcome: Floats | None = None,
) -> Floats:
    """Bids [n] of two pacers, one for the budget and one for the target, each as if the other were not there:

        b = min( v/μ,  (v + λ w)/(λ τ) ),   which is  v · min( 1/μ,  (1 + λ)/(λ τ) )  where w = v.

    If the target counts value, the rule is optimal for the right multipliers: both limits prefer the best
    ratios v/c, and the stricter limit decides. If it counts another outcome, the limits prefer different
    auctions; then the rule buys less than `joint_rule` and can miss the target. A multiplier of 0 sets no
    limit; with both 0, bids are infinite.

    Args:
        value: v [n].
        budget_multiplier: μ.
        target_multiplier: λ.
        target: τ.
        outcome: w [n]; None for the value itself.

    Source: S. Balseiro, K. Bhawalkar, Z. Feng, H. Lu, V. Mirrokni, B. Sivan, D. Wang, A field guide for
    pacing budget and ROS constraints, arXiv 2302.08530, for τ = 1; in general from the Lagrangian of the
    module's program with either limit alone.
    """
    counted = value if outcome is None else outcome
    return np.minimum(
        _ratio(value, budget_multiplier),
        _ratio(value + target_multiplier * counted, target_multiplier * target),
    )


def joint_rule(
    value: Floats,
    budget_multiplier: float,
    target_multiplier: float,
    target: float,
    outcome: Floats | None = None,
) -> Floats:
    """Bids [n] by both multipliers of one program,  b = (v + λ w)/(μ + λ τ).

    They buy the optimum in second-price auctions, where the Lagrangian has the factor
    (v + λ w) − (μ + λ τ) c.

    Args:
        value: v [n].
        budget_multiplier: μ.
        target_multiplier: λ.
        target: τ.
        outcome: w [n]; None for the value itself.
    """
    counted = value if outcome is None else outcome
    return _ratio(value + target_multiplier * counted, budget_multiplier + target_multiplier * target)


def _ratio(numerator: Floats, denominator: float) -> Floats:
    if denominator > 0:
        return numerator / denominator
    return np.where(numerator > 0, np.inf, 0.0)


def _outcome(value: Floats, limits: Limits) -> Floats:
    return value if limits.outcome is None else limits.outcome


def _capped_knapsack(value: Floats, price: Floats, limits: Limits) -> tuple[Floats, float, Floats]:
    """Share, μ and ν_g of the knapsack with a budget, and group budgets within it.

    Nested limits make a polymatroid, on which it is optimal to buy by the best ratio: first what each group
    would buy with its own budget, then the best of that for the whole budget.
    """
    if limits.group is None or limits.group_budget is None:
        whole = hindsight_optimum(value, price, limits.budget)
        return whole.share, whole.multiplier, np.zeros(0)
    share, own = np.zeros(len(value)), np.zeros(len(limits.group_budget))
    by_group = np.argsort(limits.group, kind="stable")
    ends = np.cumsum(np.bincount(limits.group, minlength=len(own)))
    for g, rows in enumerate(np.split(by_group, ends[:-1])):
        part = hindsight_optimum(value[rows], price[rows], float(limits.group_budget[g]))
        share[rows], own[g] = part.share, part.multiplier
    total = hindsight_optimum(value * share, price * share, limits.budget)
    return share * total.share, total.multiplier, np.maximum(own - total.multiplier, 0.0)


def _purchase(
    share: Floats, value: Floats, price: Floats, limits: Limits, target: float, budget: float, groups: Floats
) -> Purchase:
    outcome = float(_outcome(value, limits) @ share)
    return Purchase(share, float(value @ share), float(price @ share), outcome, budget, target, groups)
