"""A log cut into parts that are read apart, batch by batch, so that it need not fit into memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ctrkit.errors import DataError
from ctrkit.ope.formats import LogTable, read_log
from ctrkit.ope.formats.base import check_file
from ctrkit.ope.formats.table import TABLE
from ctrkit.ope.logs.bandit_log import BanditLog, Part, bandit_log
from ctrkit.ope.logs.units import DROPPED, EVENT, ROW, unit_columns
from ctrkit.ope.models.missing import lacks_propensities, with_estimated_propensities, without_propensities
from ctrkit.schema import BANDIT_LOG, LogSchema
from ctrkit.tables import (
    PARQUET,
    IsText,
    ReadTable,
    TableLike,
    files_of,
    join_tables,
    name_of,
    of_one_type,
)
from ctrkit.tables.reading import damaged_parquet

# Rows in memory at a time, and rows worth a part of their own.
BATCH = 131_072
PART = 1_000_000


class LogPart(ABC):
    """Some rows of a log, which can be read as often as one likes.

    Attributes:
        rows: how many there are.
        names: of the columns, those of the schema by its own.
        lists: those that hold a list a row.
    """

    rows: int
    names: frozenset[str]
    lists: frozenset[str]

    @abstractmethod
    def batches(self, columns: Collection[str] | None = None) -> Iterator[BanditLog]:
        """The rows in order, checked.

        Args:
            columns: of the schema's names and any others, those that are needed; None: all.

        Raises:
            DataError: names the file, the column, the first faulty row and what to do.
        """


@dataclass(frozen=True)
class WholeLog(LogPart):
    """A log that is in memory."""

    log: BanditLog

    @property
    def rows(self) -> int:  # type: ignore[override]
        """How many there are."""
        return len(self.log)

    @property
    def names(self) -> frozenset[str]:  # type: ignore[override]
        """The columns."""
        return frozenset(self.log.table.columns)

    @property
    def lists(self) -> frozenset[str]:  # type: ignore[override]
        """The columns of lists."""
        return frozenset(name for name, dtype in self.log.table.schema.items() if isinstance(dtype, pl.List))

    def batches(self, columns: Collection[str] | None = None) -> Iterator[BanditLog]:
        """The whole log as one batch, with all its columns."""
        yield self.log


@dataclass(frozen=True)
class RowGroups(LogPart):
    """Consecutive row groups of a parquet file.

    Attributes:
        number: the file's place among the files of the log.
        groups: which row groups.
        first: the number in the file of their first row.
        header: the columns of all files of the log, under the names in the first and without rows.
        header_file: the first.
        also_text: see `log_parts`.
    """

    file: str
    number: int
    groups: tuple[int, ...]
    first: int
    rows: int
    header: pl.DataFrame
    header_file: str
    cluster_by: str | None
    also_text: IsText | None
    schema: LogSchema

    @property
    def names(self) -> frozenset[str]:  # type: ignore[override]
        """The columns."""
        return frozenset(self.schema.named(self.header).columns)

    @property
    def lists(self) -> frozenset[str]:  # type: ignore[override]
        """The columns of lists."""
        columns = self.schema.named(self.header).schema
        return frozenset(name for name, dtype in columns.items() if isinstance(dtype, pl.List))

    def batches(self, columns: Collection[str] | None = None) -> Iterator[BanditLog]:
        with pq.ParquetFile(self.file) as source:
            present = source.schema_arrow.names
            wanted = {*(columns or ()), *unit_columns(self.names, self.cluster_by, self.header_file)}
            names = None if columns is None else _named(self.schema, present, wanted)
            schema = self.schema if names is None else self.schema.within(names)
            row = self.first
            for batch in source.iter_batches(BATCH, row_groups=list(self.groups), columns=names):
                table = _polars(pa.Table.from_batches([batch]))
                table = _as_in_all(self.header, table, self.schema.text(self.also_text))
                part = Part(self.file, 0, first=row, number=self.number)
                log = [LogTable(table, self.file)]
                yield bandit_log(log, [part], self.file, False, self.cluster_by, schema)
                row += table.height


def log_parts(
    source: TableLike,
    format: str | None = None,
    cluster_by: str | None = None,
    context_columns: Sequence[str] | None = None,
    excluded: Collection[str] = (),
    skip_bad_lines: bool = False,
    also_text: IsText | None = None,
    schema: LogSchema = BANDIT_LOG,
) -> list[LogPart]:
    """The parts of a log: of parquet files their row groups; any other log is read whole.

    A log without propensities is read whole too, and gets estimated ones; and one of lists in text cells.

    Args:
        source: the log, as for `read_bandit_log`.
        format: the name of the format; by default it is detected.
        cluster_by: the column whose values are independent of one another (see `read_bandit_log`).
        context_columns: the columns that missing propensities are estimated from.
        excluded: columns that they are not estimated from, unless `context_columns` names them.
        skip_bad_lines: whether broken lines of JSON lines and DSJSON are left out.
        also_text: which further columns hold ids as text (see `ctrkit.ope.formats.read_log`).
        schema: `BANDIT_LOG`, with the names that the log has of its own (see `LogSchema.called`).

    Raises:
        ConfigError, DataError: see `read_bandit_log`; what is in the rows of parquet files is checked later.
    """
    if isinstance(source, BanditLog):
        return [WholeLog(source)]
    files = files_of(source) if format in (None, TABLE.name) else None
    whole = partial(
        _whole, source, format, cluster_by, context_columns, excluded, skip_bad_lines, also_text, schema
    )
    if not files or any(file.suffix.lower() not in PARQUET for file in files):
        return [whole()]
    metadata = [_metadata(file) for file in files]
    if (rows := sum(one.num_rows for one in metadata)) <= BATCH:
        return [whole()]
    header = _header(files, metadata, schema.text(also_text))
    schema.named(header, str(files[0]))
    if _read_whole(header, schema):
        return [whole()]
    cluster_by = cluster_by or _repeated_event(files, header, rows, schema)
    return [
        RowGroups(
            str(file), number, groups, first, rows, header, str(files[0]), cluster_by, also_text, schema
        )
        for number, (file, one) in enumerate(zip(files, metadata, strict=True))
        for groups, first, rows in _cuts(one)
    ]


def _whole(
    source: TableLike,
    format: str | None,
    cluster_by: str | None,
    columns: Sequence[str] | None,
    excluded: Collection[str],
    skip_bad_lines: bool,
    also_text: IsText | None,
    schema: LogSchema,
) -> WholeLog:
    tables = read_log(source, format, skip_bad_lines, schema, also_text)
    lacking = lacks_propensities([one.table for one in tables], schema)
    if lacking:
        tables = tuple(replace(one, table=without_propensities(one.table)) for one in tables)
    parts = [Part(one.file, 0, number=number) for number, one in enumerate(tables)]
    log = bandit_log(tables, parts, name_of(source), cluster_by=cluster_by, schema=schema)
    return WholeLog(with_estimated_propensities(log, columns, excluded) if lacking else log)


def _header(files: Sequence[Path], metadata: Sequence[Any], is_text: IsText) -> pl.DataFrame:
    """The columns of parquet files without rows, ids in the type that they have in all of them together.

    Raises:
        DataError: the files do not have the same columns.
    """
    found = tuple(
        ReadTable(_polars(one.schema.to_arrow_schema().empty_table()), str(file))
        for file, one in zip(files, metadata, strict=True)
    )
    alike = of_one_type(found, is_text)
    return join_tables([one.table for one in alike], [one.file for one in alike])


def _as_in_all(header: pl.DataFrame, table: pl.DataFrame, is_text: IsText) -> pl.DataFrame:
    """Some rows with ids in the type that they have in all files together."""
    both = (ReadTable(header.select(table.columns), None), ReadTable(table, None))
    return of_one_type(both, is_text)[1].table


def _read_whole(header: pl.DataFrame, schema: LogSchema) -> bool:
    """Whether a log is read whole, whatever its size."""
    lists = [
        name
        for name in header.columns
        if schema.holds_lists(name, header.columns) and header.schema[name] == pl.String
    ]
    return bool(lists) or lacks_propensities([header], schema)


def _repeated_event(files: Sequence[Path], header: pl.DataFrame, rows: int, schema: LogSchema) -> str | None:
    """What rows are to be taken together by, where nothing but the id of the event could tell.

    Whether an event has several rows is looked for among some `BATCH` of the events, taken by a hash, with
    all of their rows.
    """
    renames = schema.renames(header.columns)
    names = {renames.get(name, name): name for name in header.columns if name not in renames.values()}
    if EVENT not in names or unit_columns(names, None, None):
        return None
    event = pl.col(names[EVENT])
    some = event.hash() % max(rows // BATCH, 1) == 0
    found = (
        pl.scan_parquet(list(files))
        .select(event)
        .filter(some, event.is_not_null())
        .collect(engine="streaming")
    )
    return EVENT if found.to_series().is_duplicated().any() else ROW


def _metadata(file: Path) -> Any:  # pyarrow is untyped
    check_file(file)
    try:
        found = pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        raise damaged_parquet(file, error) from error
    if found.num_rows == 0:
        raise DataError("the table has no rows", file=file, hint="Give a table with at least one row")
    return found


def _cuts(metadata: Any) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Row groups that together have enough rows for a part, their first row, and their rows."""
    groups: list[int] = []
    first = rows = 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        rows += metadata.row_group(group).num_rows
        if rows >= PART or group == metadata.num_row_groups - 1:
            yield tuple(groups), first, rows
            groups, first, rows = [], first + rows, 0


def _named(schema: LogSchema, present: Sequence[str], wanted: Collection[str]) -> list[str]:
    """The columns of a file that hold what is wanted, under its name or an alias."""
    # What a row stands for is no matter of what is wanted.
    required = {DROPPED, *(column.name for column in schema.columns if column.required)}
    renames = schema.renames(present)
    return [name for name in present if renames.get(name, name) in {*wanted, *required}]


def _polars(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
