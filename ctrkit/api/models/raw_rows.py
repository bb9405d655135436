"""Raw rows in, rows with all columns of a config out: the one reader of rows, to train and to predict."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from ctrkit.data.derive import EventFiles, Plan, derive, derive_in_parts, plan_of
from ctrkit.data.sources import SourceTables, source_tables
from ctrkit.errors import DataError, DataWarning
from ctrkit.schema import FeatureSpec
from ctrkit.tables import (
    PARQUET,
    TableLike,
    columns_of,
    files_of,
    kind_of,
    name_of,
    read_table,
    scan_files,
)
from ctrkit.tables.cells import as_ids
from ctrkit.tables.chunks import first_columns
from ctrkit.tables.reading import format_of


@dataclass(frozen=True)
class RowReader:
    """Reads tables of rows, and derives the columns that they lack.

    Attributes:
        spec: what the columns mean.
        plan: how columns are derived.
        source: the public data set that a folder holds; None for tables.
        events: name -> table of events.
        warns: whether to warn of columns that are counted from the rows of a table alone.
    """

    spec: FeatureSpec
    plan: Plan
    source: str | None
    events: Mapping[str, str]
    warns: bool = False

    @classmethod
    def of_artifact(cls, spec: FeatureSpec, config: Mapping[str, Any]) -> RowReader:
        """The reader of a model's rows, from the config in its artifact."""
        plan = plan_of(config.get("derive", ()))
        return cls(spec, plan, config.get("source"), config.get("events", {}), warns=True)

    def whole(self, place: TableLike) -> tuple[pl.DataFrame, str | None]:
        """The rows to train on, and their name for messages. With a source, a path is that of its files."""
        if self.source is None or not isinstance(place, str | os.PathLike):
            return self.read(place)
        return self._derived(source_tables(self.source, place), name_of(place))

    def in_parts(self, place: TableLike, scratch: Path, events_once: EventFiles) -> pl.LazyFrame | None:
        """The rows of `whole`, to be read part by part.

        Args:
            place: the table, or the folder of the source.
            scratch: an empty folder for derived columns, which must exist until the rows are read.
            events_once: takes the events of derived lists; the rows have pointers.

        Returns:
            The rows; None where their types are known only when all are read: those of text files, of tables
            in memory, and of parquet files with different types or with numbers as text.
        """
        tables = self._scanned(place)
        if tables is None or not self._lacking(tables, name_of(place)):
            return None if tables is None else tables.rows
        return derive_in_parts(self.plan, tables, scratch, name_of(place), events_once=events_once)

    def _scanned(self, place: TableLike) -> SourceTables | None:
        """The tables from which columns are derived, not yet read; None where they must be read whole."""
        if self.source is not None:
            return source_tables(self.source, place) if isinstance(place, str | os.PathLike) else None
        rows = _parquet(place)
        if rows is None:
            return None
        ids, numbers = self.spec.untyped(rows.collect_schema(), self.plan.ids)
        if numbers:
            return None
        as_text = (
            pl.col(name).map_batches(
                partial(as_ids, file=name_of(place), column=name), pl.String, is_elementwise=True
            )
            for name in ids
        )
        return SourceTables(rows.with_columns(as_text), self._events(rows.collect_schema().names()))

    def _events(self, columns: list[str]) -> dict[str, pl.LazyFrame]:
        """The tables of events that rows of these columns need."""
        is_id = partial(_is_id, self.spec, {*self.plan.ids})
        found = {}
        for name, path in self.events.items():
            if self.lacks(columns) and name in self.plan.reads_of_events:
                scanned = _parquet(path)
                found[name] = read_table(path, is_id).lazy() if scanned is None else scanned
        return found

    def read(self, data: TableLike, *, may_be_empty: bool = False) -> tuple[pl.DataFrame, str | None]:
        """The rows of a table, and its name for messages.

        Args:
            data: the table, as `ctrkit.tables.read_table` takes it, or a folder or file of the `source`.
            may_be_empty: whether a table without rows is allowed.

        Raises:
            DataError: as of `FeatureSpec.read`; or columns are missing and cannot be derived.
        """
        if self._is_official(data):
            return self.whole(data)
        rows, file = self.spec.read(data, may_be_empty=may_be_empty, ids=self.plan.ids)
        if self.warns and (note := self.own_past(rows.columns)) is not None:
            warnings.warn(note, DataWarning, stacklevel=2)
        return self._derived(SourceTables(rows.lazy(), self._events(rows.columns)), file)

    def divisible(self, data: TableLike) -> TableLike:
        """The same table, whose rows can be read part by part: derived columns need all rows at once."""
        if self._is_official(data) or self.derives(data):
            return self.read(data, may_be_empty=True)[0]
        return data

    def derives(self, data: TableLike) -> bool:
        """Whether columns of a table are derived, as it lacks them."""
        return bool(self.plan.steps and self.lacks(first_columns(data)))

    def own_past(self, columns: list[str]) -> str | None:
        """A sentence on columns that are counted from the table's own rows; None if there are none.

        Args:
            columns: the columns of the table.
        """
        counted = [name for name in self.lacks(columns) if name in self.plan.counted_from_rows]
        if not counted:
            return None
        return (
            f"{_listed(counted)} {'is' if len(counted) == 1 else 'are'} counted from the rows of this table "
            "alone: put the rows before them into the same table, or give these columns."
        )

    def _is_official(self, data: TableLike) -> bool:
        """Whether this is a folder or a file of the source, and not a table with the columns of the spec."""
        if self.source is None or not isinstance(data, str | os.PathLike):
            return False
        path = Path(data)
        if path.is_dir() or not path.is_file():
            return path.is_dir()
        # Official text may have no header, so features alone tell a table of theirs; parquet has names.
        needed = self.spec.columns if kind_of(path) in PARQUET else self.spec.feature_columns
        try:
            if {*needed} <= {*columns_of(path)}:
                return False
        except DataError:
            pass  # it has no header, as official files may have none
        try:
            source_tables(self.source, path)
        except DataError:
            return False
        return True

    def lacks(self, columns: list[str]) -> tuple[str, ...]:
        """The columns that the spec reads, that a table of these columns lacks, and that can be derived."""
        return tuple(
            name for name in self.plan.new_columns if name in self.spec.columns and name not in columns
        )

    def _derived(self, tables: SourceTables, file: str | None) -> tuple[pl.DataFrame, str | None]:
        if not self._lacking(tables, file):
            return tables.rows.collect(), file
        return derive(self.plan, tables, file), file

    def _lacking(self, tables: SourceTables, file: str | None) -> bool:
        """Whether columns must be derived.

        Raises:
            DataError: they are derived from events that are not here.
        """
        lacking = self.lacks(tables.rows.collect_schema().names())
        if not lacking:
            return False
        if unknown := [name for name in self.plan.reads_of_events if name not in tables.events]:
            where = f"Add events: {{{unknown[0]}: PATH}} to the config"
            if self.source is not None:
                where = f"Give the folder of the source '{self.source}'"
            raise DataError(
                f"the table lacks {_listed(lacking)}, which {'is' if len(lacking) == 1 else 'are'} derived "
                f"from the events '{unknown[0]}', and they are not here",
                file=file,
                hint=f"{where}, or a table with these columns",
            )
        return True


def _parquet(place: TableLike) -> pl.LazyFrame | None:
    """Parquet files with the same types, not yet read; None for any other table."""
    files = files_of(place)
    if files is None or any(format_of(file) != "parquet" for file in files):
        return None
    rows = [scan_files(pl.scan_parquet(file, glob=False), file) for file in files]
    return None if len({*(tuple(one.collect_schema().items()) for one in rows)}) > 1 else pl.concat(rows)


def _is_id(spec: FeatureSpec, ids: set[str], name: str) -> bool:
    return name in ids or spec.is_text(name)


def _listed(names: Sequence[str]) -> str:
    """Some names in words."""
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more columns"
