"""The same simulation at several budgets: what more money buys, and what the best bidder would make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ctrkit.errors import ConfigError, DataError

OPTIMUM = "hindsight optimum"


@dataclass(frozen=True)
class BudgetRun:
    """The outcome of one budget.

    Attributes:
        budget: in units of money.
        strategies: strategy -> its KPIs, `value` among them; None where undefined.
        optimum: the value of the hindsight optimum.
    """

    budget: float
    strategies: Mapping[str, Mapping[str, float | None]]
    optimum: float


def sweep_table(runs: Sequence[BudgetRun], kpis: Sequence[str] = ("spend", "clicks")) -> pl.DataFrame:
    """Value by budget, a row a strategy and budget, and then those of the hindsight optimum.

    The columns are strategy, budget, value, share_of_optimum (null where that is worth nothing),
    marginal_value, and the `kpis` (null for the optimum). The marginal value is the slope
    (V_k − V_{k−1}) / (B_k − B_{k−1}) from the next lower budget, what a unit of money more has bought; null
    at the lowest. That of the optimum falls with the budget, V*(B) being the concave value function of a
    linear program, and lies between its multipliers μ at the two budgets. A strategy's may do as it likes.

    Args:
        runs: in any order, all of the same auctions.

    Raises:
        ConfigError: no run, a budget twice, or one not above 0.
        DataError: runs that differ in strategies.
    """
    ordered = sorted(runs, key=lambda run: run.budget)
    budgets = [run.budget for run in ordered]
    if not budgets or not budgets[0] > 0 or len(set(budgets)) < len(budgets):
        raise ConfigError(
            "a sweep needs budgets above 0, each once", hint="Give for example 100, 200 and 400"
        )
    names = list(ordered[0].strategies)
    if any(list(run.strategies) != names for run in ordered):
        raise DataError("the budgets were not run with the same strategies", hint="Run all budgets alike")
    bought = [(name, run, run.strategies[name]) for name in names for run in ordered]
    best = [(OPTIMUM, run, {"value": run.optimum}) for run in ordered]
    table = pl.DataFrame(
        [
            (name, run.budget, run.optimum, *(found.get(kpi) for kpi in ("value", *kpis)))
            for name, run, found in (*bought, *best)
        ],
        schema={"strategy": pl.String, **dict.fromkeys(("budget", "optimum", "value", *kpis), pl.Float64)},
        orient="row",
        strict=False,
    )
    value, budget, optimum = (pl.col(name) for name in ("value", "budget", "optimum"))
    return table.select(
        "strategy",
        "budget",
        "value",
        share_of_optimum=pl.when(optimum > 0).then(value / optimum),
        marginal_value=(value.diff() / budget.diff()).over("strategy"),
        **{kpi: pl.col(kpi) for kpi in kpis},
    )
