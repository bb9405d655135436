"""Derives columns: carries out a plan on the tables of a log."""

from __future__ import annotations

import polars as pl

from ctrkit.data.derive.base import Step
from ctrkit.data.derive.known import KnownEvents
from ctrkit.data.derive.part import Part
from ctrkit.data.derive.plan import Plan
from ctrkit.data.derive.stage import ids_as_text, staged
from ctrkit.data.sources.base import SourceTables
from ctrkit.errors import ConfigError, DataError, nearest


def derive(plan: Plan, tables: SourceTables, file: str | None = None) -> pl.DataFrame:
    """The rows with all columns that a plan makes, in their order.

    Args:
        plan: the steps.
        tables: the rows and the tables of events.
        file: name of the table of rows, for messages.

    Raises:
        ConfigError: there is no table of events of a name.
        DataError: a table lacks a column, has one that is to be made, or has a column of wrong values.
    """
    rows = tables.rows.collect()
    if taken := [name for name in plan.new_columns if name in rows.columns]:
        raise DataError(
            "the table has this column, which is to be derived",
            file=file,
            column=taken[0],
            hint="Rename it, or leave it out of the table or of `derive`",
        )
    of_events = {name: _events(tables, name) for name in plan.reads_of_events}
    schemas = [rows.schema, *(table.collect_schema() for table in of_events.values())]
    text = ids_as_text(plan.ids, schemas)
    events = {
        name: staged(of_events[name], *read, text, name).collect()
        for name, read in plan.reads_of_events.items()
    }
    opened: dict[str, KnownEvents] = {}
    for step in plan.steps:
        seen = staged(rows.lazy(), plan.reads(step), plan.times(step), text, file).collect()
        part = Part(seen, events, plan.histories, plan.content, opened)
        rows = rows.with_columns(_made(step, part))
    return rows


def _made(step: Step, part: Part) -> list[pl.Series]:
    return [column.alias(name) for name, column in zip(step.new_columns, step.derive(part), strict=True)]


def _events(tables: SourceTables, name: str) -> pl.LazyFrame:
    if name not in tables.events:
        known = [*tables.events, "rows"]
        raise ConfigError(f"there is no table of events '{name}'", hint=nearest(name, known))
    return tables.events[name]
