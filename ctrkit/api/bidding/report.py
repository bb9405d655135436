"""The report of a bidding simulation: who bought most, at what cost, and where value was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from ctrkit.api.bidding.worth import ValueBasis
from ctrkit.bidding import SimulationResult, SpendPlan, StrategyResult
from ctrkit.bidding.simulation.regret import PARTS
from ctrkit.bidding.simulation.repeats import PairedDifference, Repeats
from ctrkit.bidding.simulation.sweep import OPTIMUM
from ctrkit.reports import DrawFigure, Drawings, Report, Table
from ctrkit.reports.bidding_figures import (
    exploration_figure,
    kpi_figure,
    landscape_figure,
    multiplier_paths,
    regret_figure,
    spend_curves,
    win_rate_figure,
)
from ctrkit.reports.cells import Ends, Value, share, text

_BOUGHT = ("wins", "clicks", "conversions", "spend", "value", "share_of_optimum")
_RATES = (
    "auctions", "bids", "win_rate", "budget_used", "cost_per_click", "cost_per_mille", "cost_per_action",
    "return_on_spend",
)  # fmt: skip
_TRADE = {
    "cost_per_click": "eCPC", "cost_per_mille": "eCPM", "cost_per_action": "CPA", "return_on_spend": "ROAS"
}  # fmt: skip
_SHARES = ("share_of_optimum", "win_rate", "bid_win_rate", "budget_used")
_OVER_SEEDS = ("value", "clicks", "spend", "share_of_optimum")
_PLAN_POINTS = 200


@dataclass(frozen=True)
class ModelRow:
    """What the same auctions bring to bidders with one model.

    Attributes:
        seen: the model, in words.
        strategies: the results of the strategies that bid with it.
        kpis: the KPIs to compare; value is among them only where the truth is known, since otherwise each
            model would be judged by its own predictions.
    """

    seen: str
    strategies: tuple[StrategyResult, ...]
    kpis: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        bought = [
            {"name": one.name, **{kpi: getattr(one, kpi) for kpi in self.kpis}} for one in self.strategies
        ]
        return {"seen": self.seen, "strategies": bought}


def bidding_report(
    simulation: SimulationResult,
    repeats: Repeats | None,
    models: Sequence[ModelRow],
    notes: Sequence[str],
    basis: ValueBasis,
) -> Report:
    """Who bought most first, then seeds and other models; costs and regret for those who look closer."""
    strategies = simulation.strategies
    tables = [_bought(simulation)]
    if repeats is not None:
        tables += [_over_seeds(repeats), _differences(repeats)]
    if models:
        tables.append(_models(models))
    details = [_rates(strategies)]
    if repeats is not None:
        details.append(_all_over_seeds(repeats))
    if any(one.regret_split is not None for one in strategies):
        details.append(_regret(simulation))
    return Report(
        f"Bidding with a budget of {simulation.budget:,g}",
        _answer(simulation, basis),
        tuple(tables),
        tuple(notes),
        details=tuple(details),
    )


def _answer(simulation: SimulationResult, basis: ValueBasis) -> str:
    """The best strategy, and by what; first comes what is wrong with the predictions."""
    name, earned = basis.best(simulation)
    if earned is not None:
        return f"{basis.warning} By the outcomes in the log, {name} earned the most: {earned}."
    best = next(one for one in simulation.strategies if one.name == name)
    answer = _best(best.name, best.value)
    if best.value > 0 and best.share_of_optimum is not None:
        part = text(share(best.share_of_optimum))
        answer += f", {part} of what a bidder who knew all prices could have bought"
    return f"{answer}. Value is counted {basis.says}."


def sweep_report(table: pl.DataFrame, notes: Sequence[str], basis: ValueBasis) -> Report:
    """Value by budget.

    Args:
        table: as `ctrkit.bidding.simulation.sweep.sweep_table` gives it.
        notes: shown below the tables.
        basis: what the values rest on.
    """
    names = table["strategy"].unique(maintain_order=True).to_list()
    budgets = table.filter(strategy=names[0])["budget"].to_list()

    def by_budget(title: str, column: str) -> Table:
        values = [table.filter(strategy=name)[column].to_list() for name in names]
        return Table(title, ("budget", *names), tuple(zip(budgets, *values, strict=True)))

    ran = table.filter(pl.col("strategy") != names[-1])
    best = ran.filter(pl.col("budget") == budgets[-1]).sort("value", descending=True)
    most = ran.group_by("strategy").agg(pl.col("share_of_optimum").mean()).sort("share_of_optimum")
    answer = f"At {budgets[-1]:,g} {_best(best['strategy'][0], best['value'][0])}."
    if most["share_of_optimum"][-1] is not None:
        answer += (
            f" Over all {len(budgets)} budgets {most['strategy'][-1]} is closest to the hindsight optimum:"
            f" it buys {text(share(most['share_of_optimum'][-1]))} of its value on average."
        )
    told = basis.warning or f"Value is counted {basis.says}."
    answer = f"{told} {answer}" if basis.warning else f"{answer} {told}"
    return Report(
        f"Budgets from {budgets[0]:,g} to {budgets[-1]:,g}",
        answer,
        (
            by_budget("Value by budget", "value"),
            by_budget("Value of one more unit of money", "marginal_value"),
        ),
        tuple(notes),
    )


def _bought(simulation: SimulationResult) -> Table:
    optimum: Mapping[str, Any] = {"share_of_optimum": 1.0, **vars(simulation.optimum)}
    rows = [
        *((one.name, *(_kpi(name, getattr(one, name)) for name in _BOUGHT)) for one in simulation.strategies),
        (OPTIMUM, *(_kpi(name, optimum.get(name)) for name in _BOUGHT)),
    ]
    return Table("Strategies", ("strategy", *map(_title, _BOUGHT)), tuple(rows))


def _rates(strategies: Sequence[StrategyResult]) -> Table:
    explored = ("exploration_spend",) if any(one.exploration_spend is not None for one in strategies) else ()
    shown = (*_RATES, *explored)
    rows = ((one.name, *(_kpi(name, getattr(one, name)) for name in shown)) for one in strategies)
    return Table("Rates and costs", ("strategy", *map(_title, shown)), tuple(rows))


def _regret(simulation: SimulationResult) -> Table:
    """What was lost, as shares of the optimum's value."""
    whole = simulation.optimum.value or 1.0
    rows = [
        (
            one.name,
            share(one.regret / whole),
            *(share(getattr(one.regret_split, part) / whole) for part in PARTS),
        )
        for one in simulation.strategies
        if one.regret_split is not None
    ]
    return Table("Value lost against the hindsight optimum", ("strategy", "regret", *PARTS), tuple(rows))


def _over_seeds(repeats: Repeats) -> Table:
    shown = [name for name in _OVER_SEEDS if any(name in means for means in repeats.means.values())]
    rows = (
        (strategy, *(_kpi(name, means.get(name)) for name in shown))
        for strategy, means in repeats.means.items()
    )
    what = "markets" if repeats.kind == "markets" else "resamples of the log"
    title = f"Over {repeats.seeds} {what}, with {repeats.confidence:.0%} intervals"
    return Table(title, ("strategy", *map(_title, shown)), tuple(rows))


def _all_over_seeds(repeats: Repeats) -> Table:
    kpis = dict.fromkeys(kpi for means in repeats.means.values() for kpi in means)
    rows = ((_title(kpi), *(_kpi(kpi, means.get(kpi)) for means in repeats.means.values())) for kpi in kpis)
    return Table(f"All KPIs over the {repeats.seeds} seeds", ("KPI", *repeats.means), tuple(rows))


def _differences(repeats: Repeats) -> Table:
    by_strategy: dict[str, dict[str, PairedDifference]] = {}
    for one in repeats.differences:
        by_strategy.setdefault(one.strategy, {})[one.kpi] = one
    rows = [
        (strategy, found["value"], found.get("clicks"), found["value"].adjusted_p_value)
        for strategy, found in by_strategy.items()
    ]
    return Table(
        f"Difference from {repeats.reference}, seed by seed",
        ("strategy", "value", "clicks", "p-value (value)"),
        tuple(rows),
    )


def _models(models: Sequence[ModelRow]) -> Table:
    kpis = models[0].kpis
    header = ("bidding with", *(f"{one.name}: {kpi}" for one in models[0].strategies for kpi in kpis))
    rows = ((row.seen, *(getattr(one, kpi) for one in row.strategies for kpi in kpis)) for row in models)
    return Table("What another model would be worth at this budget", header, tuple(rows))


def bidding_figures(
    simulation: SimulationResult, repeats: Repeats | None, plan: SpendPlan | None
) -> Drawings:
    """The figures for which the auctions and strategies give something to draw."""
    events, path = simulation.events, simulation.trajectory
    drawn: dict[str, DrawFigure] = {}
    if simulation.episodes == 1:  # one curve per episode would say nothing
        runs = {name: path.filter(strategy=name) for name in path["strategy"].unique(maintain_order=True)}
        curves = {name: run["spend"].to_numpy() for name, run in runs.items()}
        paths = {name: run["multiplier"].drop_nulls().to_numpy() for name, run in runs.items()}
        shares = None
        if plan is not None:
            shares = np.diff([plan.spent(gone) for gone in np.linspace(0.0, 1.0, _PLAN_POINTS + 1)])
        drawn["spend"] = partial(spend_curves, curves, simulation.budget, shares)
        if any(one.size for one in paths.values()):
            best = simulation.optimum.multiplier or None
            drawn["multiplier"] = partial(multiplier_paths, paths, best)
    drawn["win_rate"] = partial(win_rate_figure, events)
    drawn["landscape"] = partial(landscape_figure, events)
    if "explored" in events.columns:
        drawn["exploration"] = partial(exploration_figure, events)
    splits = {one.name: one.regret_split for one in simulation.strategies if one.regret_split is not None}
    if splits and simulation.optimum.value > 0:
        drawn["regret"] = partial(regret_figure, splits, simulation.optimum.value)
    if repeats is not None:
        shown = [name for name in _OVER_SEEDS if any(name in means for means in repeats.means.values())]
        drawn["kpis"] = partial(kpi_figure, repeats, shown)
    return drawn


def _best(name: str, value: float) -> str:
    """Who bought the most value, and how much."""
    if value <= 0:
        return "no strategy bought anything of value"
    return f"{name} bought the most value: {text(value)}"


def _kpi(name: str, value: float | Ends | None) -> Value:
    return share(value) if name in _SHARES else value


def _title(kpi: str) -> str:
    return _TRADE.get(kpi, kpi.replace("_", " "))
