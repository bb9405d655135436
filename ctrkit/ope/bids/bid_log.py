"""Logs of bids, or of any continuous action: recognised, read and checked."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.errors import DataError, nearest
from ctrkit.ope.formats import LogTable, detect, read_log
from ctrkit.ope.formats.align import aligned
from ctrkit.ope.formats.base import check_file
from ctrkit.ope.formats.detect import parsed
from ctrkit.ope.formats.dsjson import DSJSON, LABELS, read_continuous
from ctrkit.ope.logs.bandit_log import Part
from ctrkit.ope.logs.units import check_dropped, codes_of, counts_of, row_keys, units_of
from ctrkit.schema import BANDIT_LOG, BID_LOG, LogSchema, check_column
from ctrkit.tables import (
    DELIMITED,
    PARQUET,
    TableLike,
    columns_of,
    files_of,
    join_tables,
    kind_of,
    lines_of,
    name_of,
)

TARGET = next(column for column in BID_LOG.columns if column.name == "target_bid")
DETERMINISTIC = (
    "the log has no density of its bids, as for a bidder that always bids the same in the same context: "
    "only a model of the market, and no reweighting, can estimate what other bids would have earned"
)
MODEL_OF_MARKET = (
    "Replay the auctions with `ctrkit simulate-bidding`, or draw bids at random and log their density"
)
# Number of lines in which the first decision is searched.
_LOOK_AT = 100


@dataclass(frozen=True)
class BidLog:
    """A checked log of N bids.

    Attributes:
        table: the log under the names of `ctrkit.schema.BID_LOG`.
        file: the path, for messages; None for a table in memory.
        bid: [N] the logged bids, in any unit.
        density: [N] the logging policy's density at the bids, per that unit; above 0.
        reward: [N].
        users: [N] codes of the users, from 0; None where users are unknown or each has one row.
        parts: the files, in their order.
        notes: sentences on what the reader changed, left out or assumed.
    """

    table: pl.DataFrame
    file: str | None
    bid: Floats
    density: Floats
    reward: Floats
    users: Integers | None
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.table.height

    @cached_property
    def counts(self) -> Floats:
        """[N] number of decisions that each row stands for (see `counts_of`)."""
        return counts_of(self.table)

    def share(self, rows: Booleans) -> float:
        """The share of decisions in some rows, given as a mask [N]."""
        return float(np.average(rows, weights=self.counts))

    def numbers(self, column: str) -> Floats:
        """A column of numbers, [N], checked."""
        if column not in self.table.columns:
            raise DataError(
                "no such column", file=self.file, column=column, hint=nearest(column, self.table.columns)
            )
        try:
            return check_column(self.table[column], TARGET, self.file, called=column).to_numpy()
        except DataError as error:
            if error.row is None:
                raise
            raise self.refused(column, error.row, error.problem, error.hint) from None

    def refused(self, column: str, row: int, problem: str, hint: str | None) -> DataError:
        """The error for a row of the log, which names the row's file and its index there."""
        part = self.parts[bisect_right([part.start for part in self.parts], row) - 1]
        return DataError(problem, file=part.file, column=column, row=row - part.start, hint=hint)


def is_bid_log(
    source: TableLike, names: Mapping[str, str] | None = None, constants: Collection[str] = ()
) -> bool:
    """Whether a log is of bids and not of discrete choices, by the columns of its first file.

    A log of bids has a bid (or `action`), and also the bid of a new policy (`target_bid`), or a density
    (`density`, `pdf_value`) without the columns of a discrete log; or it is DSJSON with `_label_ca`. Only the
    header or the first lines are read. The answer is False for a source that cannot be read.

    Args:
        source: the log.
        names: role -> the log's own name of it (see `LogSchema.called`).
        constants: roles that are the same in every row.
    """
    roles = {own: role for role, own in (names or {}).items()}
    try:
        files = files_of(source)
        columns = _names_of_table(source) if files is None else _names_of_file(files[0])
    except (DataError, OSError, ValueError, pl.exceptions.PolarsError):
        # The reader of the log will report what is wrong with it.
        return False
    if "_label_ca" in columns:
        return True
    known = {*(roles.get(name, name) for name in columns), *constants}
    discrete = all(_has(BANDIT_LOG, name, known) for name in ("action", "propensity"))
    drawn = bool({"density", "pdf_value"} & known) and not discrete
    return _has(BID_LOG, "bid", known) and (drawn or TARGET.name in known)


def _has(schema: LogSchema, name: str, names: Collection[str]) -> bool:
    """Whether a column exists, under its name or an alias."""
    column = next(column for column in schema.columns if column.name == name)
    return bool({column.name, *column.aliases} & set(names))


def _names_of_table(source: TableLike) -> Collection[str]:
    """The columns of a table in memory; empty for anything else."""
    if isinstance(source, dict):
        return list(source)
    if isinstance(source, pl.LazyFrame):
        return source.collect_schema().names()
    found = getattr(source, "column_names", getattr(source, "columns", ()))
    return [str(name) for name in found]


def _names_of_file(file: Path) -> Collection[str]:
    """The columns of a file; for DSJSON the keys of its first decision."""
    check_file(file)
    kind = kind_of(file)
    if kind == ".npz":
        return ()
    if kind in (*PARQUET, *DELIMITED):
        return columns_of(file)
    lines = (text for _, text in islice(lines_of(file), _LOOK_AT))
    for text in lines:
        # Skip checkpoints of DSJSON, which are lists, rewards without a decision, which have no label, and
        # broken lines.
        content = parsed(text)
        if isinstance(content, dict) and ("RewardValue" not in content or {*LABELS} & {*content}):
            return list(content)
    return ()


def read_bid_log(
    source: TableLike,
    format: str | None = None,
    cluster_by: str | None = None,
    skip_bad_lines: bool = False,
    schema: LogSchema = BID_LOG,
) -> BidLog:
    """Read and check a log of bids.

    Args:
        source: a path, a glob, a list of them, or a table with the columns of `ctrkit.schema.BID_LOG`,
            aliases accepted; DSJSON files need lines with `_label_ca`. Many files are one log.
        format: a name of `ctrkit.ope.formats.FORMATS`; by default recognised from each file's content.
        cluster_by: column of the units that are independent of each other, or `row`; by default the user (see
            `read_bandit_log`).
        skip_bad_lines: whether broken lines of JSON lines and DSJSON are left out, with a note.
        schema: `BID_LOG`, with the names that the log has of its own (see `LogSchema.called`).

    Raises:
        ConfigError: there is no such format.
        DataError: names the file, the column, the first faulty row and what to do. A log without densities is
            refused, because it cannot show what other bids would earn.
    """
    tables = _read(source, format, skip_bad_lines, schema)
    checked = [_checked(table, schema) for table in tables]
    starts = np.cumsum([0, *(own.height for own in checked)])
    table = join_tables(checked, [table.file for table in tables])
    units, _, notes = units_of(table, cluster_by, name_of(source), row_keys(np.arange(table.height), 0))
    return BidLog(
        table,
        name_of(source),
        table["bid"].to_numpy(),
        table["density"].to_numpy(),
        table["reward"].to_numpy(),
        codes_of(units),
        tuple(Part(one.file, int(start)) for one, start in zip(tables, starts, strict=False)),
        tuple(dict.fromkeys((*(n for one in tables for n in one.notes), *notes))),
    )


def _read(
    source: TableLike, format: str | None, skip_bad_lines: bool, schema: LogSchema
) -> tuple[LogTable, ...]:
    files = files_of(source)
    vw = [format == DSJSON.name or (format is None and detect(file) is DSJSON) for file in files or ()]
    if not any(vw):
        return read_log(source, format, skip_bad_lines, schema)
    found = tuple(
        read_continuous(file, skip_bad_lines)
        if continuous
        else read_log(file, format, skip_bad_lines, schema)[0]
        for file, continuous in zip(files or (), vw, strict=True)
    )
    return aligned(found) if all(vw) else found


def _checked(source: LogTable, schema: LogSchema) -> pl.DataFrame:
    """One file's table under the schema's names, with every value checked."""
    table, file = source.table, source.file
    if table.height == 0:
        raise DataError("the table has no rows", file=file, hint="Give a log with at least one row")
    if "density" not in schema.names(table.columns):
        raise DataError(DETERMINISTIC, file=file, column="density", hint=MODEL_OF_MARKET)
    renames = schema.renames(table.columns)
    name = next((own for own, role in renames.items() if role == "density"), "density")
    missing = table[name].is_null()
    if table.schema[name].is_float():
        missing |= ~table[name].fill_null(0.0).is_finite()
    if missing.any():
        row = int(missing.arg_max() or 0)
        raise DataError(DETERMINISTIC, file=file, column=name, row=row, hint=MODEL_OF_MARKET)
    table = schema.apply(table, file)
    if (wrong := np.flatnonzero(table["density"].to_numpy() <= 0)).size:
        row = int(wrong[0])
        raise DataError(
            f"the density of the bid is {table['density'][row]:g}, not above 0",
            file=file,
            column=name,
            row=row,
            hint="Log the density with which each bid was drawn",
        )
    check_dropped(table, file)
    return table
