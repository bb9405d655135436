"""`ctrkit plan-budget`: divide one budget over campaigns and hours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import Field

from ctrkit.api.bidding.plan_curves import MOVED, CurveFit, curves_of_auctions, given_curves
from ctrkit.api.keywords import takes_settings
from ctrkit.api.log_columns import LogColumns
from ctrkit.api.models.model import Model
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.bidding.pacing import budget_plan as planning
from ctrkit.bidding.pacing.response import joined_curve
from ctrkit.config import ConfigLike, settings_of
from ctrkit.errors import ConfigError
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Drawings, Report, Table
from ctrkit.reports.cells import share, text
from ctrkit.reports.plan_figures import DRAWN, allocation_figure, day_figure, response_figure
from ctrkit.tables import TableLike, write_table, write_text

if TYPE_CHECKING:
    import pandas as pd

# The largest number of binding limits in a table.
_BINDINGS = 12
# The largest number of campaigns in tables and figures.
_SHOWN = 20


class PlanBudgetConfig(LogColumns):
    """How to plan.

    Attributes:
        campaign: the log's column that names the campaign; by default the first that the log has of
            `ctrkit.api.bidding.plan_curves.CAMPAIGN_COLUMNS`.
        knots: largest number of knots of a curve, which is that of one campaign in one hour.
        fit: how a table of curves is read: `concave` takes the nearest concave curve, with a note if that
            moves a point, `log` and `hill` fit those forms, and `none` refuses a curve that is not concave.
        value_per_click: value of a click, as in `simulate-bidding`.
        time_zone: time zone of the plan's hours, as in `simulate-bidding`.
        minimum: campaign -> its smallest spend.
        maximum: campaign -> its largest spend.
        minimum_share: campaign -> its smallest share of the total spend.
        hour_maximum: largest spend of every hour, or hour -> its largest spend.
        evenness: the spend of each hour stays within (1 ± evenness) times the mean spend of an hour.
        ramp: largest change of spend from hour to hour, in multiples of the mean spend of an hour.
    """

    campaign: str | None = None
    knots: int = Field(default=20, ge=2)
    fit: CurveFit = "concave"
    value_per_click: float | None = Field(default=None, gt=0.0)
    time_zone: str | None = None
    minimum: dict[str, float] = Field(default_factory=dict)
    maximum: dict[str, float] = Field(default_factory=dict)
    minimum_share: dict[str, float] = Field(default_factory=dict)
    hour_maximum: float | dict[int, float] | None = None
    evenness: float | None = None
    ramp: float | None = None


@dataclass(frozen=True)
class BudgetPlanResult(Result):
    """The plan, and the curves that it was made from.

    Attributes:
        plan: the plan itself.
        lines: the curve of each campaign in each hour.
        in_proportion: the value of spending the same share of every curve's largest spend.
        notes: notes on the curves.
        given: whether the curves come from a table of points; their value beyond the last point is unknown.
    """

    plan: planning.BudgetPlan
    lines: tuple[planning.PlanLine, ...]
    in_proportion: float
    notes: tuple[str, ...]
    given: bool = False

    def to_pandas(self) -> pd.DataFrame:
        """One row per campaign."""
        return self.plan.by_campaign().to_pandas()

    def to_dict(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "budget": plan.budget,
            "spend": plan.spend,
            "value": plan.value,
            "budget_price": plan.budget_price,
            "value_in_proportion": self.in_proportion,
            "campaigns": plan.by_campaign().to_dicts(),
            "hours": plan.by_hour().to_dicts(),
            "lines": plan.lines.to_dicts(),
            "bindings": [{"limit": one.limit, "price": one.price} for one in plan.bindings],
            "notes": list(self.notes),
        }

    def report(self) -> Report:
        plan, every, campaigns = self.plan, self.plan.by_campaign(), self._campaigns
        title = "Campaigns"
        if every.height > _SHOWN:
            title += f": the {_SHOWN} of {every.height:,} that spend the most; allocation.csv has all"
        tables = [
            Table(
                title,
                ("campaign", "spend", "share", "value", "value per unit", "value of the next unit"),
                tuple(
                    (
                        name,
                        spend,
                        share(spend / (plan.spend or 1.0)),
                        value,
                        value / spend if spend > 0 else None,
                        marginal,
                    )
                    for name, spend, value, marginal in campaigns.rows()
                ),
            ),
            Table(
                "Plan by hour",
                ("hour", "spend", "share", "value"),
                tuple(
                    (hour, spend, share(part), value) for hour, spend, part, value in plan.by_hour().rows()
                ),
            ),
        ]
        if plan.bindings:
            rows = tuple((one.limit, one.price) for one in plan.bindings[:_BINDINGS])
            header = ("limit", "value of loosening it by one unit of money")
            tables.append(Table("Binding limits, the most valuable first", header, rows))
        return Report(f"A plan for a budget of {plan.budget:,g}", self._answer(), tuple(tables), self.notes)

    def figures(self) -> Drawings:
        every = self.plan.by_campaign()
        names = _by_spend(every)["campaign"].to_list()
        curves = {
            name: joined_curve([line.curve for line in self.lines if line.campaign == name])
            for name in names[:DRAWN]
        }
        return {
            "allocation": partial(allocation_figure, self._campaigns),
            "response": partial(response_figure, curves, every),
            "day": partial(day_figure, self.plan.lines, names),
        }

    @property
    def _campaigns(self) -> pl.DataFrame:
        """The campaigns that tables and figures show."""
        every = self.plan.by_campaign()
        return every if every.height <= _SHOWN else _by_spend(every).head(_SHOWN)

    def _answer(self) -> str:
        plan = self.plan
        answer = f"Spending {text(plan.spend)} of {text(plan.budget)} buys a value of {text(plan.value)}"
        if self.in_proportion > 0:
            gain = plan.value / self.in_proportion - 1
            answer += f", {gain:+.1%} compared with spending in proportion to what there is to buy"
        if plan.budget_price > 0:
            return f"{answer}. One more unit of money would be worth {text(plan.budget_price)}."
        if self.given and _ends(plan, self.lines):
            return f"{answer}. The value of more budget is unknown: it lies beyond the given points."
        return f"{answer}. More budget would add no value."


def _by_spend(campaigns: pl.DataFrame) -> pl.DataFrame:
    return campaigns.sort("spend", descending=True, maintain_order=True)


@takes_settings(PlanBudgetConfig)
def plan_budget(
    budget: float,
    *,
    curves: TableLike | None = None,
    auctions: TableLike | None = None,
    model: str | os.PathLike[str] | Model | None = None,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep = silent,
    **keywords: Any,
) -> BudgetPlanResult:
    """Divide a day's budget over campaigns and hours so that it buys the most value.

    The run folder holds `plan.parquet` and `plan.csv`, the spend plan by hour (`hour`, `spend`, `share`,
    `value`), and `allocation.parquet` and `allocation.csv`, the plan by campaign and hour.

    Args:
        budget: above 0, for one day, in the unit of the curves or of the market prices.
        curves: a table with columns `spend` and `value`, and `campaign` and `hour` where there are several.
            The value at a spend of 0 is 0 unless a point there says otherwise. More spend than at the last
            point adds no value.
        auctions: one or many auction logs, from which the curves are made; None for the sample log.
        model: the model that scores the ads of the log, as in `simulate_bidding`; not used with `curves`.
        out: the run folder; with None nothing is written.
        on_step: called with (steps done, steps in all, what is going on).

    Raises:
        ConfigError: a setting out of range, both curves and auctions, or limits that contradict each other.
        DataError: a table that cannot be read, or curves that are not concave, with `fit` none.

    Example:
        >>> import ctrkit, polars
        >>> curves = polars.DataFrame({"campaign": ["a", "b"], "spend": [8.0, 8.0], "value": [2.0, 4.0]})
        >>> result = ctrkit.plan_budget(10, curves=curves, minimum={"a": 1})
        >>> result.plan.by_campaign()["spend"].round(2).to_list()
        [2.0, 8.0]
    """
    settings = settings_of(PlanBudgetConfig, config, overrides, keywords)
    with run_folder(out, "plan-budget") as run:
        result = _planned(budget, curves, auctions, model, settings, on_step)
        if (home := run.begin()) is not None:
            for name, frame in (("plan", result.plan.by_hour()), ("allocation", result.plan.lines)):
                write_table(frame, home / f"{name}.parquet")
                write_text(frame.write_csv(), home / f"{name}.csv")
        run.write(settings, result, budget=budget)
    return result


def _planned(
    budget: float,
    curves: TableLike | None,
    auctions: TableLike | None,
    model: str | os.PathLike[str] | Model | None,
    settings: PlanBudgetConfig,
    on_step: OnStep,
) -> BudgetPlanResult:
    kept = ("minimum", "maximum", "minimum_share", "hour_maximum", "evenness", "ramp")
    limits = planning.PlanLimits(budget, **{name: getattr(settings, name) for name in kept})
    if curves is not None and auctions is not None:
        raise ConfigError("a plan needs curves or auctions, but both are given", hint="Leave one out")
    if curves is not None and settings.time_zone is not None:
        raise ConfigError(
            "a time_zone is given, but a table of curves has its own hours", hint="Leave the time_zone out"
        )
    if curves is not None and settings.map:
        raise ConfigError("`map` names columns of auctions, but curves are given", hint="Leave it out")
    if curves is not None:
        lines, notes = given_curves(curves, settings.fit, settings.knots)
    else:
        lines, notes = curves_of_auctions(
            auctions, model, on_step, knots=settings.knots, campaign=settings.campaign,
            value_per_click=settings.value_per_click, time_zone=settings.time_zone,
            names=settings.map,
        )  # fmt: skip
    plan = planning.plan_budget(lines, limits)
    most = sum(line.curve.largest_spend for line in lines)
    if curves is not None:
        notes += _at_the_end(plan, lines)
    elif budget >= most:
        notes += (f"The budget does not bind: everything there is to buy costs {most:g}.",)
    part = min(budget / most, 1.0) if most > 0 else 0.0
    in_proportion = sum(float(line.curve(part * line.curve.largest_spend)) for line in lines)
    return BudgetPlanResult(plan, tuple(lines), in_proportion, notes, given=curves is not None)


def _ends(plan: planning.BudgetPlan, lines: Sequence[planning.PlanLine]) -> list[planning.PlanLine]:
    """The lines whose planned spend is at the last point of their curve."""
    spends = zip(plan.lines["spend"].to_list(), lines, strict=True)
    return [line for spend, line in spends if line.curve.largest_spend <= spend * (1 + MOVED)]


def _at_the_end(plan: planning.BudgetPlan, lines: Sequence[planning.PlanLine]) -> tuple[str, ...]:
    """A note on the given curves whose planned spend is at their last point."""
    ends = [line for line in _ends(plan, lines) if line.curve.largest_spend > 0]
    if not ends:
        return ()
    return (
        f"{len(ends)} of {len(lines)} curves are planned at their largest given spend (the first: campaign "
        f"{ends[0].campaign}, hour {ends[0].hour}). The value of more spend is unknown and counts as 0.",
    )
