"""`ctrkit plan-budget`: divide one budget over campaigns and hours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from ctrkit.api.bidding.scored_auctions import opened_auctions, scored_auctions, unused_columns
from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.model import Model
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import DAY, HOUR
from ctrkit.bidding.market.coverage import HOURS, Coverage
from ctrkit.bidding.pacing import budget_plan as planning
from ctrkit.bidding.pacing.response import ResponseCurve, auction_curve, fit_curve, joined_curve
from ctrkit.config import Config, ConfigLike, settings_of
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Drawings, Report, Table
from ctrkit.reports.cells import share, text
from ctrkit.reports.plan_figures import DRAWN, allocation_figure, day_figure, response_figure
from ctrkit.schema import ClosedSchema, Column, LogSchema, near_misses
from ctrkit.tables import TableLike, write_table, write_text
from ctrkit.tables.cells import as_ids

if TYPE_CHECKING:
    import pandas as pd

CURVES = ClosedSchema(
    "table of response curves",
    (
        Column("campaign", "id", "the campaign", ("campaign_id",)),
        Column("hour", "integer", "the hour of the day, from 0 to 23", low=0.0),
        Column("spend", "number", "money spent", ("cost",), required=True, low=0.0),
        Column("value", "number", "what that spend brought", required=True, low=0.0),
    ),
)
# Where a log tells its campaigns apart, the first of these that it has does; of a list column, the entry of
# the candidate that is worth most.
CAMPAIGN_COLUMNS = (
    "campaign", "campaign_id", "candidate_campaign", "advertiser", "advertiser_id", "ad_advertiser",
    "candidate_advertiser", "candidate_ad_advertiser",
)  # fmt: skip
_ALL = "all"
# Columns of an auction log that a plan does not use, and why.
_UNUSED = {
    **dict.fromkeys(("click", "conversion"), "the plan is of expected values"),
    "episode": "the plan is for a day",
    "user_id": "the plan knows no frequency cap",
    "slot_prices": "the plan buys the best slot",
}
# A fitted curve this far from a given point, as a part of its largest value, is told of.
_MOVED = 1e-6
_BINDINGS = 12
# Campaigns in tables and figures, at most.
_SHOWN = 20


class PlanBudgetConfig(Config):
    """How to plan.

    Attributes:
        campaign: the log's column that tells campaigns apart; by default the first of `CAMPAIGN_COLUMNS`.
        knots: of each campaign's curve in an hour, at most.
        fit: how a table of curves is read: `concave` takes the nearest concave curve and says so where that
            moves a point, `log` and `hill` fit those forms, and `none` refuses what is not concave.
        value_per_click: worth of a click, as in `simulate-bidding`.
        time_zone: whose hours the plan is of, as in `simulate-bidding`.
        minimum, maximum, minimum_share, hour_maximum, evenness, ramp: see
            `ctrkit.bidding.pacing.budget_plan`.
    """

    campaign: str | None = None
    knots: int = Field(default=20, ge=2)
    fit: Literal["concave", "log", "hill", "none"] = "concave"
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
    """The plan, and the curves it was made with.

    Attributes:
        given: whether the curves are those of points, of which nothing is known beyond the last.
    """

    plan: planning.BudgetPlan
    lines: tuple[planning.PlanLine, ...]
    in_proportion: float
    notes: tuple[str, ...]
    given: bool = False

    def to_pandas(self) -> pd.DataFrame:
        """A row a campaign."""
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
            title += f", the {_SHOWN} of {every.height:,} that spend the most; all are in allocation.csv"
        tables = [
            Table(
                title,
                ("campaign", "spend", "share", "value", "value a unit", "next unit"),
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
            header = ("limit", "value of one unit of money looser")
            tables.append(Table("What holds the plan back, dearest first", header, rows))
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
        """Those that tables and figures show."""
        every = self.plan.by_campaign()
        return every if every.height <= _SHOWN else _by_spend(every).head(_SHOWN)

    def _answer(self) -> str:
        plan = self.plan
        answer = f"{text(plan.spend)} of {text(plan.budget)} buys a value of {text(plan.value)}"
        if self.in_proportion > 0:
            gain = plan.value / self.in_proportion - 1
            answer += f", {gain:+.1%} against spending in proportion to what there is to buy"
        if plan.budget_price > 0:
            return f"{answer}. One more unit of money would be worth {text(plan.budget_price)}."
        if self.given and _ends(plan, self.lines):
            return f"{answer}. What more budget would be worth is unknown: it is beyond the points given."
        return f"{answer}. More budget would be worth nothing."


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

    A run folder holds `plan.parquet` and `plan.csv`, the spend plan by hour (`hour`, `spend`, `share`,
    `value`), and `allocation.parquet` and `allocation.csv`, the same by campaign and hour.

    Args:
        budget: above 0, for one day, in the unit of the curves or of the market prices.
        curves: a table with columns `spend` and `value`, and `campaign` and `hour` where they differ. Where
            a curve has no point at a spend of 0, it brings nothing there, and beyond its last point nothing
            more.
        auctions: one or many auction logs, of which the curves are made; None for the sample log.
        model: scores the ads of the log, as in `simulate_bidding`; not used with `curves`.
        out: the run folder; None for none.
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
        raise ConfigError("a plan is made of curves or of auctions, and both are given", hint="Leave one out")
    if curves is not None and settings.time_zone is not None:
        raise ConfigError(
            "the hours of curves are what they are, and a time_zone is given", hint="Leave it out"
        )
    if curves is not None:
        lines, notes = _given_curves(curves, settings)
    else:
        lines, notes = _curves_of_auctions(auctions, model, settings, on_step)
    plan = planning.plan_budget(lines, limits)
    most = sum(line.curve.largest_spend for line in lines)
    if curves is not None:
        notes += _at_the_end(plan, lines)
    elif budget >= most:
        notes += (f"The budget does not bind: all there is to buy costs {most:g}.",)
    part = min(budget / most, 1.0) if most > 0 else 0.0
    in_proportion = sum(float(line.curve(part * line.curve.largest_spend)) for line in lines)
    return BudgetPlanResult(plan, tuple(lines), in_proportion, notes, given=curves is not None)


def _given_curves(
    source: TableLike, settings: PlanBudgetConfig
) -> tuple[list[planning.PlanLine], tuple[str, ...]]:
    """The user's points as curves, and what had to be changed."""
    table, file = CURVES.read(source)
    campaign = pl.col("campaign").cast(pl.String) if "campaign" in table.columns else pl.lit(_ALL)
    hour = pl.col("hour").cast(pl.Int64) if "hour" in table.columns else pl.lit(0, pl.Int64)
    if "hour" in table.columns and (late := table["hour"] >= HOURS).any():
        row = int(late.arg_max() or 0)
        raise DataError(
            f"a day has no hour {table['hour'][row]}",
            file=file,
            column="hour",
            row=row,
            hint="Give hours from 0 to 23",
        )
    lines: list[planning.PlanLine] = []
    from_nothing: list[str] = []
    moved: list[tuple[float, str]] = []
    points = table.select(campaign.alias("campaign"), hour.alias("hour"), "spend", "value")
    for (name, at), rows in points.group_by("campaign", "hour", maintain_order=True):
        rows = rows.sort("spend")
        spend, value = (rows[column].to_numpy().astype(np.float64) for column in ("spend", "value"))
        where = f"campaign {name}, hour {at}"
        try:
            curve = _curve(spend, value, settings)
        except DataError as error:
            raise DataError(f"{where}: {error.problem}", file=file, hint=_hint(settings, error)) from error
        lines.append(planning.PlanLine(str(name), int(str(at)), curve))
        if spend.min() > 0:
            from_nothing.append(where)
        if (largest := float(value.max())) > 0:
            moved.append((float(np.abs(curve(spend) - value).max()) / largest, where))
    notes: tuple[str, ...] = ()
    if "campaign" not in table.columns:
        notes += ("The table tells no campaigns apart: the plan is for one.",)
    if from_nothing:
        notes += (
            f"{len(from_nothing)} of {len(lines)} curves have no point at a spend of 0 and are taken to "
            f"bring nothing there ({from_nothing[0]}).",
        )
    changed = [one for one in moved if one[0] > _MOVED]
    if not changed:
        return lines, notes
    by, where = max(changed)
    what = (
        "not concave and were made so" if settings.fit == "concave" else f"fitted by the {settings.fit} form"
    )
    return lines, (
        f"{len(changed)} of {len(lines)} curves were {what}; the largest change is {by:.1%} ({where}).",
        *notes,
    )


def _ends(plan: planning.BudgetPlan, lines: Sequence[planning.PlanLine]) -> list[planning.PlanLine]:
    """The lines that are planned at the last point of their curve."""
    spends = zip(plan.lines["spend"].to_list(), lines, strict=True)
    return [line for spend, line in spends if line.curve.largest_spend <= spend * (1 + _MOVED)]


def _at_the_end(plan: planning.BudgetPlan, lines: Sequence[planning.PlanLine]) -> tuple[str, ...]:
    """Which given curves are planned at their last point."""
    ends = [line for line in _ends(plan, lines) if line.curve.largest_spend > 0]
    if not ends:
        return ()
    return (
        f"{len(ends)} of {len(lines)} curves are planned at the largest spend that was given (campaign "
        f"{ends[0].campaign}, hour {ends[0].hour}): what more would bring is unknown and counts as nothing.",
    )


def _curve(spend: Floats, value: Floats, settings: PlanBudgetConfig) -> ResponseCurve:
    if settings.fit == "none":
        if len(spend) and spend[0] > 0:
            spend, value = np.append(0.0, spend), np.append(0.0, value)
        return ResponseCurve(spend, value)
    return fit_curve(spend, value, settings.fit, settings.knots)


def _hint(settings: PlanBudgetConfig, error: DataError) -> str | None:
    return (
        "Fix the table, or let it be made concave with fit=concave" if settings.fit == "none" else error.hint
    )


def _curves_of_auctions(
    auctions: TableLike | None,
    model: str | os.PathLike[str] | Model | None,
    settings: PlanBudgetConfig,
    on_step: OnStep,
) -> tuple[list[planning.PlanLine], tuple[str, ...]]:
    """What the log's auctions could have brought on a day, by campaign and hour of the day (UTC)."""
    table, file, scorer, notes = opened_auctions(auctions, model, settings.time_zone)
    source = "the model" if scorer is not None else "the log's pctr"
    notes += (f"Values are those that {source} expects, not what was earned.",)
    values = [
        chunk.slots.value for chunk in scored_auctions(table, scorer, settings.value_per_click, file, on_step)
    ]
    value = np.concatenate(values)
    best = value.argmax(axis=1)
    campaign, column = _campaign_of(table, best, settings.campaign, file)
    unused = {name: why for name, why in _UNUSED.items() if name != column}
    notes += unused_columns(table, scorer, settings.value_per_click, unused)
    if column is None:
        notes += (_no_campaigns(table.columns),)
    hour, times = np.zeros(table.height, np.int64), np.ones(HOURS)
    if "timestamp" in table.columns:
        time = table["timestamp"].to_numpy().astype(np.float64)
        hour, coverage = (time % DAY // HOUR).astype(np.int64), Coverage.of(time)
        # An hour of the day that the log never covers whole is planned as it was logged.
        times = np.maximum(coverage.times(coverage.hour % HOURS, HOURS), 1.0)
        notes += coverage.notes()
        if never := HOURS - len(np.unique(hour)):
            notes += (f"The log has no auctions in {never} of the {HOURS} hours of a day: they get nothing.",)
        if coverage.days > 1:
            notes += (f"The log is of {coverage.days} days; the plan is for the average one.",)
    else:
        notes += ("The log has no times: the plan is for one hour, 0, that stands for all.",)
    worth, price = value[np.arange(len(best)), best], table["market_price"].to_numpy().astype(np.float64)
    places = pl.DataFrame({"campaign": campaign, "hour": hour}).with_row_index("row")
    lines = [
        planning.PlanLine(
            name, at, auction_curve(worth[rows], price[rows], settings.knots).scaled(1 / times[at])
        )
        for name, at, rows in (
            (str(key[0]), int(str(key[1])), part["row"].to_numpy())
            for key, part in places.sort("campaign", "hour").group_by("campaign", "hour", maintain_order=True)
        )
    ]
    return lines, notes


def _no_campaigns(names: Sequence[str]) -> str:
    """That the log has none of the columns that tell campaigns apart, and which it may have meant."""
    said = "The log tells no campaigns apart: the plan is for one"
    schema = LogSchema("auction log", tuple(Column(name, "id", "") for name in CAMPAIGN_COLUMNS))
    near = list(near_misses(schema, names))
    return f"{said}. If column '{near[0]}' does, give --campaign {near[0]}." if near else f"{said}."


def _campaign_of(
    table: pl.DataFrame, best: Any, wanted: str | None, file: str | None
) -> tuple[pl.Series, str | None]:
    """Each auction's campaign as text, and the column that told it."""
    if wanted is not None and wanted not in table.columns:
        raise DataError(
            "no such column to tell campaigns apart by",
            file=file,
            column=wanted,
            hint=nearest(wanted, table.columns),
        )
    column = wanted or next((name for name in CAMPAIGN_COLUMNS if name in table.columns), None)
    if column is None:
        return pl.Series([_ALL] * table.height, dtype=pl.String), None
    told = table[column]
    if isinstance(told.dtype, pl.List):
        both = pl.DataFrame({"told": told, "best": best})
        told = both.select(pl.col("told").list.get(pl.col("best"), null_on_oob=True))["told"]
    told = as_ids(told, file, column)
    if told.null_count():
        row = int(np.argmax(told.is_null().to_numpy()))
        raise DataError(
            "an auction has no campaign",
            file=file,
            column=column,
            row=row,
            hint="Fill it in, or drop the row",
        )
    return told, column
