"""The response curves of a budget plan: from a table of points, or from an auction log."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl

from ctrkit.api.bidding.scored_auctions import opened_auctions, scored_auctions, unused_columns, value_notes
from ctrkit.api.models.model import Model
from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import DAY, HOUR
from ctrkit.bidding.market.coverage import HOURS, Coverage
from ctrkit.bidding.pacing.budget_plan import PlanLine
from ctrkit.bidding.pacing.response import ResponseCurve, auction_curve, fit_curve
from ctrkit.errors import DataError, nearest
from ctrkit.progress import OnStep
from ctrkit.schema import ClosedSchema, Column, LogSchema, near_misses
from ctrkit.tables import TableLike
from ctrkit.tables.cells import as_ids

CurveFit: TypeAlias = Literal["concave", "log", "hill", "none"]

CURVES = ClosedSchema(
    "table of response curves",
    (
        Column("campaign", "id", "the campaign", ("campaign_id",)),
        Column("hour", "integer", "the hour of the day, from 0 to 23", low=0.0),
        Column("spend", "number", "money spent", ("cost",), required=True, low=0.0),
        Column("value", "number", "what that spend brought", required=True, low=0.0),
    ),
)
# The first of these columns that a log has names its campaigns; of a list, the entry of the candidate with
# the highest value.
CAMPAIGN_COLUMNS = (
    "campaign", "campaign_id", "candidate_campaign", "advertiser", "advertiser_id", "ad_advertiser",
    "candidate_advertiser", "candidate_ad_advertiser",
)  # fmt: skip
_ALL = "all"
# Columns of an auction log that a plan does not use, and why.
_UNUSED = {
    **dict.fromkeys(("click", "conversion"), "a plan uses expected values"),
    "episode": "a plan is for a day",
    "user_id": "a plan has no frequency cap",
    "slot_prices": "a plan buys the best slot",
}
# A fitted curve that is further than this from a given point gets a note; as a share of its largest value.
MOVED = 1e-6


def given_curves(source: TableLike, fit: CurveFit, knots: int) -> tuple[list[PlanLine], tuple[str, ...]]:
    """The curves of a table of points, and notes on what was assumed or changed.

    Args:
        source: a table with the columns of `CURVES`.
        fit: how points become a curve, as in `ctrkit.plan_budget`.
        knots: largest number of knots of a fitted curve.

    Raises:
        DataError: a table that cannot be read, an hour above 23, or a curve that cannot be made.
    """
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
    lines: list[PlanLine] = []
    from_nothing: list[str] = []
    moved: list[tuple[float, str]] = []
    points = table.select(campaign.alias("campaign"), hour.alias("hour"), "spend", "value")
    for (name, at), rows in points.group_by("campaign", "hour", maintain_order=True):
        rows = rows.sort("spend")
        spend, value = (rows[column].to_numpy().astype(np.float64) for column in ("spend", "value"))
        where = f"campaign {name}, hour {at}"
        try:
            curve = _curve(spend, value, fit, knots)
        except DataError as error:
            hint = "Fix the table, or make it concave with fit=concave" if fit == "none" else error.hint
            raise DataError(f"{where}: {error.problem}", file=file, hint=hint) from error
        lines.append(PlanLine(str(name), int(str(at)), curve))
        if spend.min() > 0:
            from_nothing.append(where)
        if (largest := float(value.max())) > 0:
            moved.append((float(np.abs(curve(spend) - value).max()) / largest, where))
    notes: tuple[str, ...] = ()
    if "campaign" not in table.columns:
        notes += ("The table has no column of campaigns: the plan is for one campaign.",)
    if from_nothing:
        notes += (
            f"{len(from_nothing)} of {len(lines)} curves have no point at a spend of 0; their value there "
            f"is taken as 0 (the first: {from_nothing[0]}).",
        )
    changed = [one for one in moved if one[0] > MOVED]
    if not changed:
        return lines, notes
    by, where = max(changed)
    what = "not concave and were made concave" if fit == "concave" else f"fitted by the {fit} form"
    return lines, (
        f"{len(changed)} of {len(lines)} curves were {what}; the largest change is {by:.1%} of the largest "
        f"value ({where}).",
        *notes,
    )


def _curve(spend: Floats, value: Floats, fit: CurveFit, knots: int) -> ResponseCurve:
    if fit == "none":
        if len(spend) and spend[0] > 0:
            spend, value = np.append(0.0, spend), np.append(0.0, value)
        return ResponseCurve(spend, value)
    return fit_curve(spend, value, fit, knots)


def curves_of_auctions(
    auctions: TableLike | None,
    model: str | os.PathLike[str] | Model | None,
    on_step: OnStep,
    *,
    knots: int,
    campaign: str | None,
    value_per_click: float | None,
    time_zone: str | None,
    names: Mapping[str, str],
) -> tuple[list[PlanLine], tuple[str, ...]]:
    """What an average day of a log could have brought, by campaign and hour of the day, and notes on it.

    The arguments are those of `ctrkit.plan_budget`.

    Raises:
        DataError: a log that cannot be read, or an auction without a campaign.
    """
    table, file, scorer, notes = opened_auctions(auctions, model, time_zone, names)
    source = "the model" if scorer is not None else "the log's pctr"
    notes += (f"Values are what {source} expects, not what was earned.",)
    values = [chunk.slots.value for chunk in scored_auctions(table, scorer, value_per_click, file, on_step)]
    value = np.concatenate(values)
    best = value.argmax(axis=1)
    campaigns, column = _campaign_of(table, best, campaign, file)
    unused = {name: why for name, why in _UNUSED.items() if name != column}
    notes += (
        *value_notes(table, scorer, value_per_click),
        *unused_columns(table, scorer, value_per_click, unused),
    )
    if column is None:
        notes += (_no_campaigns(table.columns),)
    hour, times = np.zeros(table.height, np.int64), np.ones(HOURS)
    if "timestamp" in table.columns:
        time = table["timestamp"].to_numpy().astype(np.float64)
        hour, coverage = (time % DAY // HOUR).astype(np.int64), Coverage.of(time)
        # An hour of the day that the log never covers completely is planned as it was logged.
        times = np.maximum(coverage.times(coverage.hour % HOURS, HOURS), 1.0)
        notes += coverage.notes()
        if never := HOURS - len(np.unique(hour)):
            notes += (
                f"The log has no auctions in {never} of the {HOURS} hours of a day: they get no budget.",
            )
        if coverage.days > 1:
            notes += (f"The log covers {coverage.days} days; the plan is for an average day.",)
    else:
        notes += ("The log has no timestamps: the plan has one hour, 0, for the whole day.",)
    worth, price = value[np.arange(len(best)), best], table["market_price"].to_numpy().astype(np.float64)
    places = pl.DataFrame({"campaign": campaigns, "hour": hour}).with_row_index("row")
    lines = [
        PlanLine(name, at, auction_curve(worth[rows], price[rows], knots).scaled(1 / times[at]))
        for name, at, rows in (
            (str(key[0]), int(str(key[1])), part["row"].to_numpy())
            for key, part in places.sort("campaign", "hour").group_by("campaign", "hour", maintain_order=True)
        )
    ]
    return lines, notes


def _no_campaigns(names: Sequence[str]) -> str:
    """A note that the log has no column of campaigns, and which column may be meant as one."""
    said = "The log has no column of campaigns: the plan is for one campaign"
    schema = LogSchema("auction log", tuple(Column(name, "id", "") for name in CAMPAIGN_COLUMNS))
    near = list(near_misses(schema, names))
    return f"{said}. If column '{near[0]}' names it, give --campaign {near[0]}." if near else f"{said}."


def _campaign_of(
    table: pl.DataFrame, best: Any, wanted: str | None, file: str | None
) -> tuple[pl.Series, str | None]:
    """Each auction's campaign as text, and the column that it was read from."""
    if wanted is not None and wanted not in table.columns:
        raise DataError(
            "there is no such column of campaigns",
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
            hint="Fill in the campaign, or drop the row",
        )
    return told, column
