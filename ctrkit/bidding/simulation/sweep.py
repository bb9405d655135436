"""The same simulation at several budgets: what more money buys, for strategies and for the best bidder."""

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
        strategies: strategy -> KPI -> its value, None where undefined; one KPI is `value`.
        optimum: the value of the hindsight optimum.
    """

    budget: float
    strategies: Mapping[str, Mapping[str, float | None]]
    optimum: float


def sweep_table(runs: Sequence[BudgetRun], kpis: Sequence[str] = ("spend", "clicks")) -> pl.DataFrame:
    """Value by budget: one row per strategy and budget, then the rows of the hindsight optimum.

    The columns are strategy, budget, value, share_of_optimum (null where the optimum is worth 0),
    marginal_value, and the `kpis` (null for the optimum). The marginal value is the slope
    (V_k − V_{k−1}) / (B_k − B_{k−1}) from the next lower budget: the value of one more unit of money. It is
    null at the lowest budget. For the optimum it falls with the budget, since V*(B) is the concave value
    function of a linear program, and it lies between the multipliers μ at the two budgets. For a strategy it
    may rise or fall.

    Args:
        runs: the runs in any order, all on the same auctions.
        kpis: the KPIs to show besides value.

    Raises:
        ConfigError: no run, a repeated budget, or a budget not above 0.
        DataError: runs that differ in strategies.
    """
    ordered = sorted(runs, key=lambda run: run.budget)
    budgets = [run.budget for run in ordered]
    if not budgets or not budgets[0] > 0 or len(set(budgets)) < len(budgets):
        raise ConfigError("a sweep needs different budgets above 0", hint="Give for example 100, 200 and 400")
    names = list(ordered[0].strategies)
    if any(list(run.strategies) != names for run in ordered):
        raise DataError(
            "the budgets were not run with the same strategies", hint="Run all budgets with the same ones"
        )
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
