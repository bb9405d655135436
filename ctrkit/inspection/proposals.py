"""What a first config proposes to derive: earlier clicks of users, rates of the past, ranks in lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ctrkit.inspection.columns import ADS, ROWS, InspectedColumn
from ctrkit.inspection.outcomes import first_named

MOST_EVENTS = 50
# Ranks of more numbers would make a first config long.
_MOST_RANKS = 5
_LISTS = (*ROWS, "list_id", "page_id", "search_id", "query_id", "auction_id")
# Share of the lists in which a number that is ranked has several values.
_DIFFER = 0.5
# A column tells lists apart if they have this many rows or more on average.
_LEAST_ROWS = 2.0


@dataclass(frozen=True)
class Proposals:
    """Steps of `derive`, and the features that they make, as settings of a config.

    Attributes:
        steps: the steps.
        numeric: the numeric features.
        sequences: the histories.
    """

    steps: tuple[dict[str, Any], ...] = ()
    numeric: tuple[dict[str, Any], ...] = ()
    sequences: tuple[dict[str, Any], ...] = ()

    def __add__(self, other: Proposals) -> Proposals:
        return Proposals(
            self.steps + other.steps, self.numeric + other.numeric, self.sequences + other.sequences
        )


def item_of(columns: Sequence[InspectedColumn]) -> str | None:
    """The column of what is shown, by its name; None if there is none."""
    ids = [one.name for one in columns if one.role == "feature" and one.kind in ("id", "category")]
    return first_named(ids, ADS)


def proposed(columns: Sequence[InspectedColumn], table: pl.DataFrame, rate: float) -> Proposals:
    """What to derive of a table.

    Args:
        columns: its columns.
        table: some of its rows, spread over all.
        rate: rate of the first label.
    """
    roles = {one.role: one.name for one in columns}
    if "impressions" in roles:
        return Proposals()
    found = _past(columns, roles, round(rate, 6)) + _ranks(columns, roles, table)
    made = {name for step in found.steps for key in ("makes", "columns") for name in step.get(key, ())}
    return Proposals() if made & {*table.columns} else found


def _past(columns: Sequence[InspectedColumn], roles: dict[str, str], rate: float) -> Proposals:
    """Earlier click rates of user and item, and the items that the user clicked where no list tells them."""
    user, time, item = roles.get("group"), roles.get("time"), item_of(columns)
    if user is None or time is None or item is None:
        return Proposals()
    label = roles["label 1"]
    rates = [
        {
            "name": "rate", "by": key, "label": label, "time": time, "prior": rate,
            "makes": {f"{key}_past_rate": "rate", f"{key}_past_rows": "count"},
        }
        for key in (item, user)
    ]  # fmt: skip
    numbers = [
        one
        for key in (item, user)
        for one in ({"name": f"{key}_past_rate"}, {"name": f"{key}_past_rows", "transform": "log1p"})
    ]
    if any(one.role == "feature" and one.kind == "list" for one in columns):
        return Proposals(tuple(rates), tuple(numbers))
    clicks = f"clicked_{item}"
    history = {
        "name": "history", "history": "clicks", "by": user, "time": time, "where": {label: 1},
        "columns": {clicks: item}, "length": MOST_EVENTS,
    }  # fmt: skip
    since = {
        "name": "since",
        "history": "clicks",
        "makes": {"past_clicks": "count", "last_click": "freshness"},
    }
    return Proposals(
        (*rates, history, since),
        (*numbers, {"name": "past_clicks", "transform": "log1p"}, {"name": "last_click"}),
        ({"name": clicks, "shares": item, "max_length": MOST_EVENTS},),
    )


def _ranks(columns: Sequence[InspectedColumn], roles: dict[str, str], table: pl.DataFrame) -> Proposals:
    """Ranks of numbers within the lists in which rows were shown."""
    key = _list_key(columns, roles, table)
    if key is None:
        return Proposals()
    numbers = [one.name for one in columns if one.role == "feature" and one.kind == "number"]
    differ = table.group_by(key).agg(pl.col(numbers).n_unique() > 1)
    ranked = [name for name in numbers if int(differ[name].sum()) > _DIFFER * differ.height][:_MOST_RANKS]
    return Proposals(
        tuple({"name": "within", "by": key, "of": one, "makes": {f"{one}_rank": "rank"}} for one in ranked),
        tuple({"name": f"{one}_rank"} for one in ranked),
    )


def _list_key(columns: Sequence[InspectedColumn], roles: dict[str, str], table: pl.DataFrame) -> str | None:
    """The column that names lists: several rows have each of its values, all of one user and one time."""
    several = [one.name for one in columns if one.distinct * _LEAST_ROWS <= table.height and one.missing == 0]
    key = first_named(several, _LISTS)
    if key is None:
        return None
    same = [roles[role] for role in ("group", "time") if role in roles]
    alone = table.group_by(key).agg(pl.col(same).n_unique() == 1)
    return key if all(alone[name].all() for name in same) else None
