"""Carries out a plan on the tables of a log, in memory, or part by part in bounded memory.

A part is all rows whose keys have the same hash, with the events of these keys. Steps see nothing else of
other rows than their number, so the results are the same bits for any number of parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ctrkit.data.derive.base import Column, Names
from ctrkit.data.derive.known import KnownEvents
from ctrkit.data.derive.part import Part
from ctrkit.data.derive.plan import Plan, Stage
from ctrkit.data.derive.stage import comparable, ids_as_text, staged
from ctrkit.data.derive.windows import EventFiles
from ctrkit.data.sources.base import SourceTables
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.tables import plain_errors

# Rows and events of a part, by which the number of parts is chosen.
OF_A_PART = 1_000_000
# Rows that are put in order at a time.
_CHUNK = 1 << 17
# How files are written that are soon read once.
_SCRATCH: dict[str, Any] = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}
# The number of a row in its table, where rows are divided.
_ROW = "number of the row"


@plain_errors()
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
    run = _Run(plan, SourceTables(rows.lazy(), tables.events), file)
    whole = Stage((), plan.steps)
    events = {name: table.collect() for name, table in run.events(whole).items()}
    return rows.with_columns(run.made(whole, run.rows(whole, rows.lazy()).collect(), events))


@plain_errors()
def derive_in_parts(
    plan: Plan,
    tables: SourceTables,
    scratch: Path,
    file: str | None = None,
    parts: int | None = None,
    events_once: EventFiles | None = None,
) -> pl.LazyFrame:
    """What `derive` gives, bit by bit, in memory that grows with the largest part.

    Args:
        plan: the steps.
        tables: the rows and the tables of events; each is read once for every stage of the plan.
        scratch: an empty folder, which must exist until the rows are read.
        file: name of the table of rows, for messages.
        parts: number of parts; by default one for each million rows and events.
        events_once: takes the events of columns of lists, of which the rows then have pointers. By default
            all have lists.

    Returns:
        The rows, to be read lazily: the new columns come from files in `scratch`.
    """
    run = _Run(plan, tables, file, events_once)
    rows = tables.rows
    height = _height(rows)
    if not height:
        return derive(plan, tables, file).lazy()
    parts = parts or (height + sum(map(_height, tables.events.values()))) // OF_A_PART + 1
    for index, stage in enumerate(plan.stages):
        folder = scratch / f"stage {index}"
        seen_rows = run.rows(stage, rows).with_row_index(_ROW)
        divided = _divided(seen_rows, stage.keys or (_ROW,), folder / "rows", parts)
        seen_events = run.events(stage)
        of_events = {
            name: _divided(table, stage.keys, folder / f"events {number}", parts)
            for number, (name, table) in enumerate(seen_events.items())
        }
        made = []
        for part, place in divided.items():
            seen = pl.read_parquet(place).sort(_ROW)
            events = {
                name: pl.read_parquet(places[part]) if part in places else seen_events[name].clear().collect()
                for name, places in of_events.items()
            }
            columns = run.made(stage, seen.drop(_ROW), events)
            made.append(folder / f"made {part}.parquet")
            _write_by_chunk(pl.DataFrame([seen[_ROW], *columns]), height, made[-1])
        joined = folder / "made.parquet"
        _join_chunks(made, joined)
        rows = pl.concat([rows, pl.scan_parquet(joined)], how="horizontal")
    return rows


@dataclass(frozen=True)
class _Run:
    """A plan and the tables that it is carried out on."""

    plan: Plan
    tables: SourceTables
    file: str | None
    events_once: EventFiles | None = None

    def __post_init__(self) -> None:
        there = self.tables.rows.collect_schema().names()
        if taken := [name for name in self.plan.new_columns if name in there]:
            raise DataError(
                "the table has this column, which is to be derived",
                file=self.file,
                column=taken[0],
                hint="Rename it, or leave it out of the table or of `derive`",
            )
        for name in self.plan.reads_of_events:
            if name not in self.tables.events:
                known = [*self.tables.events, "rows"]
                raise ConfigError(f"there is no table of events '{name}'", hint=nearest(name, known))

    @cached_property
    def text(self) -> Mapping[str, bool]:
        """Column of ids -> whether it is compared as text."""
        used = [self.tables.rows, *(self.tables.events[name] for name in self.plan.reads_of_events)]
        return ids_as_text(self.plan.ids, [table.collect_schema() for table in used])

    @cached_property
    def read(self) -> set[str]:
        """The columns of the rows that some step reads."""
        plan = self.plan
        return {name for step in plan.steps for name in (*plan.reads(step), *plan.times(step))}

    def rows(self, stage: Stage, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The columns of the rows that a stage reads."""
        return staged(rows, *self.plan.reads_of_rows(stage.steps), self.text, self.file)

    def events(self, stage: Stage) -> dict[str, pl.LazyFrame]:
        """The tables of events that a stage reads, by name."""
        return {
            name: staged(self.tables.events[name], *read, self.text, name)
            for name, read in self.plan.reads_of_events.items()
            if name in self.plan.tables_of(stage.steps)
        }

    def made(self, stage: Stage, rows: pl.DataFrame, events: Mapping[str, pl.DataFrame]) -> list[pl.Series]:
        """The new columns of the rows of a part."""
        opened: dict[str, KnownEvents] = {}
        made: list[pl.Series] = []
        for step in stage.steps:
            part = Part(rows, events, self.plan.histories, self.plan.content, opened)
            found = zip(step.new_columns, step.derive(part), strict=True)
            new = [self._column(name, column).alias(name) for name, column in found]
            made += new
            rows = rows.with_columns(comparable(new, self.text))
        return made

    def _column(self, name: str, column: Column) -> pl.Series:
        if isinstance(column, pl.Series):
            return column
        once = self.events_once
        if once is None or name not in once.names or name in self.read:
            return column.lists()
        return once.pointers(name, column)


def _height(table: pl.LazyFrame) -> int:
    return int(table.select(pl.len()).collect().item())


def _divided(table: pl.LazyFrame, keys: Names, folder: Path, parts: int) -> dict[int, Path]:
    """Write the rows of a table into files by a hash of their keys; number of the part -> its files."""
    part = (pl.struct(keys).hash(0) % parts).alias("part")
    by_part = pl.PartitionBy(folder, key=part, include_key=False, approximate_bytes_per_file=None)
    table.sink_parquet(by_part, mkdir=True, compression="lz4", statistics=False)
    found = sorted(folder.iterdir()) if folder.exists() else []  # no rows, no folder
    return {int(place.name.removeprefix("part=")): place for place in found}


def _write_by_chunk(part: pl.DataFrame, height: int, place: Path) -> None:
    """Write rows of a part, which are in order, as one group of rows for each `_CHUNK` rows of the table."""
    from pyarrow.parquet import ParquetWriter

    ends = np.searchsorted(part[_ROW].to_numpy(), np.arange(_CHUNK, height + _CHUNK, _CHUNK)).tolist()
    table = part.to_arrow()
    with ParquetWriter(place, table.schema, **_SCRATCH) as writer:
        for start, end in pairwise([0, *ends]):
            writer.write_table(table.slice(start, end - start), row_group_size=max(end - start, 1))


def _join_chunks(parts: list[Path], place: Path) -> None:
    """Write the rows of all parts in their order, chunk by chunk, without their numbers."""
    from pyarrow.parquet import ParquetFile, ParquetWriter

    with ExitStack() as opened:
        files = [opened.enter_context(ParquetFile(part)) for part in parts]
        writer = None
        for chunk in range(files[0].num_row_groups):
            found = pl.concat([pl.DataFrame(file.read_row_group(chunk)) for file in files])
            table = found[found[_ROW].arg_sort()].drop(_ROW).to_arrow()
            writer = writer or opened.enter_context(ParquetWriter(place, table.schema, **_SCRATCH))
            writer.write_table(table)
