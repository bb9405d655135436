"""Columns beside the log: a table whose rows are joined to the log's by the id of the event, one to one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from ctrkit.errors import DataError
from ctrkit.ope.evaluation.parts import LogPart
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.logs.units import EVENT

_ROW, _KEY = "row of the table", "event"


@dataclass(frozen=True)
class TableBeside:
    """Columns for the rows of a log.

    Attributes:
        events: ids of the events, each once, in the order of the rows.
        columns: their columns, under names that the log does not have.
        row: name of a further column: the index of the row.
        file: the table's name, for messages.
        called: what the ids are called in the table.
    """

    events: pl.Series
    columns: pl.DataFrame
    row: str
    file: str | None
    called: str = EVENT

    def joined(self, log: BanditLog) -> BanditLog:
        """The log with the columns.

        Raises:
            DataError: the log has no ids of events, or one that the table lacks.
        """
        rows = self._rows_of(log.table[EVENT])
        return replace(log, table=log.table.with_columns(*self.columns[rows], rows.alias(self.row)))

    def check(self, parts: Sequence[LogPart]) -> tuple[str, ...]:
        """Check that every event of the log has one row here, and tell how many rows are of no event.

        Raises:
            DataError: the log has no ids of events, has an event several times, or has events without a row.
        """
        if EVENT not in parts[0].names:
            raise DataError(
                f"the log has no ids of events, by which {self._name} is joined to it",
                column=EVENT,
                hint="Add them to the log, or give the policy as columns of the log",
            )
        found, files = [], []
        for part in parts:
            for log in part.batches({EVENT}):
                found.append(log.table[EVENT])
                files.append(log.file)
        events = pl.concat(found) if len({one.dtype for one in found}) == 1 else pl.concat(_texts(found))
        if (twice := events.len() - events.n_unique()) > 0:
            row = int(events.is_duplicated().arg_max() or 0)
            raise DataError(
                f"{twice:,} rows have an event that another row has too, the first {events[row]!r}: "
                f"{self._name} has one row for each event",
                file=files[0],
                column=EVENT,
                hint="Give every decision its own id, or give the policy as columns of the log",
            )
        rows = self._rows_of(events)
        if (lost := rows.null_count()) > 0:
            first = events[int(rows.is_null().arg_max() or 0)]
            raise DataError(
                f"{lost:,} of the {events.len():,} events of the log have no row here, the first {first!r}",
                file=self.file or "the table of the policy",
                column=self.called,
                hint="Give a row for every event, or leave these events out of the log",
            )
        extra = self.events.len() - events.len()
        if not extra:
            return ()
        every = self.events.len()
        return (f"{extra:,} of the {every:,} rows of {self._name} are of no event of the log: not used.",)

    @property
    def _name(self) -> str:
        return self.file or "the table of the policy"

    def _rows_of(self, events: pl.Series) -> pl.Series:
        """The row of each event; null where there is none."""
        left, right = events, self.events
        if left.dtype.is_integer() != right.dtype.is_integer():
            left, right = _texts([left, right])
        elif left.dtype.is_integer():
            left, right = left.cast(pl.Int64), right.cast(pl.Int64)
        table = pl.DataFrame({_KEY: right}).with_row_index(_ROW)
        return left.to_frame(_KEY).join(table, on=_KEY, how="left", maintain_order="left")[_ROW]


def check_events(events: pl.Series, file: str | None, called: str) -> None:
    """Refuse a table with two rows of an event.

    Raises:
        DataError: names the first, and counts them.
    """
    if (twice := events.len() - events.n_unique()) > 0:
        second = ~events.is_first_distinct()
        row = int(second.arg_max() or 0)
        raise DataError(
            f"event {events[row]!r} is here twice, and {twice:,} rows in all repeat an event",
            file=file or "the table of the policy",
            column=called,
            row=row,
            hint="Give one row for each event",
        )


@dataclass(frozen=True)
class JoinedPart(LogPart):
    """Some rows of a log, with the columns of a table beside it.

    Attributes:
        part: the rows of the log.
        table: the table.
    """

    part: LogPart
    table: TableBeside

    @property
    def rows(self) -> int:  # type: ignore[override]
        """How many there are."""
        return self.part.rows

    @property
    def names(self) -> frozenset[str]:  # type: ignore[override]
        """The columns of both."""
        return self.part.names | {*self.table.columns.columns, self.table.row}

    @property
    def lists(self) -> frozenset[str]:  # type: ignore[override]
        """The columns of lists of both."""
        own = self.table.columns.schema
        return self.part.lists | {name for name, dtype in own.items() if isinstance(dtype, pl.List)}

    def batches(self, columns: Collection[str] | None = None) -> Iterator[BanditLog]:
        """The rows in order (see `LogPart.batches`), each with its columns of the table."""
        own = {*self.table.columns.columns, self.table.row}
        wanted = None if columns is None else {*columns, EVENT} - own
        for log in self.part.batches(wanted):
            yield self.table.joined(log)


def _texts(columns: Sequence[pl.Series]) -> list[pl.Series]:
    return [column.cast(pl.String) for column in columns]
