"""A raw table that is read chunk by chunk, several times, and never held whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.selectors import enum

from ctrkit.arrays import Floats, Integers
from ctrkit.data.aggregates import one_row_an_outcome
from ctrkit.data.derive.windows import lists_at
from ctrkit.errors import DataError, TableName
from ctrkit.schema import FeatureSpec, require_columns
from ctrkit.tables import TableLike, files_of, name_of, read_chunks

# Rows of a chunk. Of 40 columns of ids they take about 200 MB.
ROWS = 1 << 18
# Bytes at both ends of a file by which it is recognised.
_END = 1 << 16


@dataclass(frozen=True)
class RawRows:
    """Some consecutive rows of a raw table.

    Attributes:
        table: the rows. Ids of features are as the file has them; the encoder reads them in any form.
        file: name for messages, which gives row indices in the file.
        start: the place of the first row in the whole table.
        done: how much of the source has been read, in rows or bytes.
        total: size of the source in the same unit.
        counts: by how much each row counts, beside its weight, [n]; None where all count alike.
    """

    table: pl.DataFrame
    file: str | None
    start: int
    done: int
    total: int
    counts: Floats | None = None

    def among(self, rows: Integers) -> Integers:
        """Those of some rows of the whole table, ascending, that are here: their places here."""
        first, last = np.searchsorted(rows, [self.start, self.start + self.table.height])
        return rows[first:last] - self.start


@dataclass(frozen=True)
class RawTable:
    """A raw table on disk, or in memory.

    Attributes:
        spec: what its columns mean.
        source: the table, as `ctrkit.tables.read_table` takes it.
        origin: the table, or the folder of files, from which its rows were made; None if they were not.
        events: column of lists -> the events of all rows, where its cells are pointers to them.
        event_files: files of events from which columns were made.
    """

    spec: FeatureSpec
    source: TableLike
    origin: TableLike | None = None
    events: Mapping[str, pl.Series] = field(default_factory=dict)
    event_files: Sequence[str | os.PathLike[str]] = ()

    @property
    def file(self) -> str | None:
        """Its name for messages; None in memory."""
        return name_of(self.source if self.origin is None else self.origin)

    def chunks(self, columns: Sequence[str], *, pointers: bool = False) -> Iterator[RawRows]:
        """All rows in order, a chunk at a time. Rows that stand for many impressions are one row an outcome.

        Args:
            columns: the columns that are needed.
            pointers: whether pointers to events stay, and do not become lists.

        Raises:
            DataError: the table cannot be read, has no rows, or lacks one of the columns.
        """
        spec, start = self.spec, 0
        others = {spec.timestamp, spec.group, spec.value, spec.weight, *spec.labels.values()}
        texts = {feature.name for feature in spec.categorical} - others
        counts = () if spec.impressions is None else (spec.impressions, *spec.labels.values())
        needed = list(dict.fromkeys((*columns, *counts)))
        for chunk in read_chunks(self.source, ROWS, columns=needed, distinct=texts):
            if not chunk.table.width and not chunk.table.height:
                continue
            file = chunk.file
            if self.file is not None and self.origin is not None:
                whole = self.origin
                if not isinstance(whole, TableName):
                    whole = TableName.of(self.file, [self.file], [0])
                file = whole.after(start)
            require_columns(chunk.table, needed, file)
            table = one_row_an_outcome(spec, chunk.table, file).select(list(dict.fromkeys(columns)))
            if not pointers:
                listed = [name for name in self.events if name in columns]
                table = table.with_columns(lists_at(table[name], self.events[name]) for name in listed)
            if (group := spec.group) in columns and group is not None:
                # Their order counts, and is that of their text.
                table = table.with_columns(spec.typed(table.select(group), file))
            if table.height:
                yield RawRows(table, file, start, chunk.done, chunk.total)
            start += table.height
        if not start:
            raise DataError(
                "the table has no rows", file=self.file, hint="Give a table with at least one row"
            )

    def state(self) -> list[dict[str, Any]] | None:
        """By what the files are recognised later (see `file_state`), and whether they hold events; None in
        memory."""
        files = files_of(self.source if self.origin is None else self.origin)
        if files is None:
            return None
        files = [path for file in files for path in (sorted(file.rglob("*")) if file.is_dir() else [file])]
        events = [path for place in self.event_files for path in files_of(place) or []]
        found = (*((path, False) for path in files), *((path, True) for path in events))
        return [{**file_state(path), "events": of_events} for path, of_events in found if path.is_file()]


def states_of_vectors(spec: FeatureSpec) -> list[dict[str, Any]]:
    """By what the files in which a spec looks vectors up are recognised later."""
    files = [path for one in spec.vectors if one.table for path in files_of(one.table) or ()]
    return [file_state(path) for path in files if path.is_file()]


def file_state(path: Path) -> dict[str, Any]:
    """By what a file is recognised later: name, size, time of change, and a hash of both ends."""
    known = path.stat()
    with path.open("rb") as file:
        ends = file.read(_END)
        file.seek(max(0, known.st_size - _END))
        ends += file.read(_END)
    return {
        "file": os.path.abspath(path),
        "bytes": known.st_size,
        "changed": known.st_mtime_ns,
        "ends": hashlib.sha256(ends).hexdigest(),
    }


class Samples:
    """Some rows of a table, gathered while its chunks pass by.

    Args:
        wanted: name -> which rows, ascending.
    """

    def __init__(self, wanted: Mapping[str, Integers]) -> None:
        self._wanted = wanted
        self._all = np.unique(np.concatenate(list(wanted.values())))
        self._found: list[pl.DataFrame] = []

    def add(self, rows: RawRows) -> None:
        """Take what is wanted of a chunk."""
        # Chunks have distinct texts of their own.
        self._found.append(rows.table[rows.among(self._all)].with_columns(enum().cast(pl.String)))

    def table(self, name: str, spec: FeatureSpec) -> pl.DataFrame:
        """The rows of a name; their numbers are numbers."""
        found = pl.concat(self._found, how="vertical_relaxed", rechunk=False)
        found = found[np.searchsorted(self._all, self._wanted[name])]
        # Ids of features may stay as the file has them.
        others = found.drop([feature.name for feature in spec.categorical])
        return found.with_columns(spec.typed(others, None))
