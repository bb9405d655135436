"""Bandit logs, read and checked."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import DataError, nearest
from ctrkit.hashing import Words
from ctrkit.ope.formats import LogTable, read_log
from ctrkit.ope.logs.units import check_dropped, codes_of, counts_of, row_keys, units_of
from ctrkit.policies.candidates import padded
from ctrkit.policies.given import SUM_TOLERANCE
from ctrkit.schema import BANDIT_LOG, CANDIDATE_PREFIX, LogSchema, check_column
from ctrkit.tables import IsText, TableLike, join_tables, name_of

# Probabilities are often written as 32-bit floats or with five decimals.
PROPENSITY_TOLERANCE = 1e-4
# Rounding error of a sum of 32-bit floats that should be 1.
ROUNDING = 1e-6

TARGET = next(column for column in BANDIT_LOG.columns if column.name == "target_probability")


class RowLocation(NamedTuple):
    """Where a row was found: its file (None in memory) and its index in that file, from 0."""

    file: str | None
    row: int


@dataclass(frozen=True)
class Part:
    """Rows of a log that came from one file.

    Attributes:
        start: index in the log of the first row.
        rows: indices of the rows in the file, where some were left out; None: consecutive rows.
        first: index in the file of the first row, where `rows` is None.
        number: index of the file among the files of the log.
    """

    file: str | None
    start: int
    rows: Integers | None = None
    first: int = 0
    number: int = 0

    def numbers(self, count: int) -> Integers:
        """The indices in the file of `count` rows of this part."""
        return self.first + np.arange(count) if self.rows is None else self.rows


@dataclass(frozen=True)
class BanditLog:
    """A checked bandit log of N rows.

    Attributes:
        table: the log under the names of `ctrkit.schema.BANDIT_LOG`.
        file: the path, for messages; None for a table in memory.
        reward: [N].
        propensity: [N] in (0, 1].
        action_index: [N] index of the logged action in the row's list of candidates.
        actions: sorted actions of a log without a `candidates` column, including those that its format
            declares and no row has. They are the candidates of every row. None where the log has candidates.
        units: [N] key of each row's unit. Units are independent: users, or the rows themselves where no
            column groups them. A row has the same key in any batch or file of the log.
        unit_columns: columns that identify the units (`ctrkit.ope.logs.units`), such as `user_id`; empty:
            each row is a unit.
        parts: the files, in their order.
        notes: sentences on what the reader changed, left out or assumed.
        balance: balance table of estimated propensities (`ctrkit.ope.models.propensities.balance`); None
            where propensities were logged.
    """

    table: pl.DataFrame
    file: str | None
    reward: Floats
    propensity: Floats
    action_index: Integers
    actions: pl.Series | None
    units: Words
    unit_columns: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()
    balance: pl.DataFrame | None = None

    @property
    def clustered(self) -> bool:
        """Whether a unit may have several rows."""
        return bool(self.unit_columns)

    def locate(self, row: int) -> RowLocation:
        """The file of a row of the log, and its index there."""
        if not self.parts:
            return RowLocation(self.file, row)
        part = self.parts[bisect_right([part.start for part in self.parts], row) - 1]
        own = row - part.start
        return RowLocation(part.file, part.first + own if part.rows is None else int(part.rows[own]))

    def __len__(self) -> int:
        return self.table.height

    @property
    def width(self) -> int:
        """The longest list of candidates, K."""
        if self.actions is not None:
            return self.actions.len()
        return int(self.table["candidates"].list.len().to_numpy().max())

    @cached_property
    def binary(self) -> bool:
        """Whether all rewards are 0 or 1."""
        return bool(np.isin(self.reward, (0.0, 1.0)).all())

    @cached_property
    def users(self) -> Integers | None:
        """[N] codes of the users, from 0; None where users are unknown or each has one row."""
        return codes_of(self.units) if self.clustered else None

    @cached_property
    def counts(self) -> Floats:
        """[N] number of decisions that each row stands for (see `counts_of`)."""
        return counts_of(self.table)

    def candidates(self, rows: slice) -> pl.Series:
        """The candidates of some rows, as a list column."""
        if self.actions is None:
            return self.table["candidates"][rows]
        count = self.table[rows].height
        return pl.Series("candidates", [self.actions]).gather(np.zeros(count, dtype=np.uint32))

    def logging_probabilities(self, rows: slice) -> Floats | None:
        """The logging policy's probabilities of the candidates, [B, K] with 0 as padding; None if unknown."""
        if "logging_probabilities" not in self.table.columns:
            return None
        return padded(self.table["logging_probabilities"][rows], fill=0.0)

    def target_probability(self, column: str = TARGET.name) -> Floats:
        """A column with a new policy's probabilities of the logged actions, [N], checked.

        Values above 1 are refused: they are densities, which need a log of bids.
        """
        if column not in self.table.columns:
            raise DataError(
                "no such column", file=self.file, column=column, hint=nearest(column, self.table.columns)
            )
        parts = self.parts or (Part(self.file, 0),)
        for part, end in zip(parts, [*(later.start for later in parts[1:]), len(self)], strict=True):
            with _numbered_as_in_file(part):
                check_probability(self.table[column][part.start : end], part.file, column)
        found = check_column(self.table[column], TARGET, self.file, called=column).to_numpy()
        return np.asarray(np.minimum(found, 1.0))


def read_bandit_log(
    source: TableLike,
    require_candidates: bool = False,
    format: str | None = None,
    cluster_by: str | None = None,
    skip_bad_lines: bool = False,
    also_text: IsText | None = None,
    schema: LogSchema = BANDIT_LOG,
) -> BanditLog:
    """Read and check a bandit log.

    Besides the checks of each column: the action is one of the row's candidates, no candidate is listed
    twice, all lists of a row have the same length, and the logging policy's probabilities sum to 1 and agree
    with the propensity.

    Args:
        source: a path, a glob, a list of them, obp's `bandit_feedback`, or a table with the columns of
            `ctrkit.schema.BANDIT_LOG`, aliases accepted. Many files are one log.
        require_candidates: whether to refuse a log without a `candidates` column. If not, each row's
            candidates are all actions of the log.
        format: a name of `ctrkit.ope.formats.FORMATS`; by default recognised from each file's content.
        cluster_by: column of the units that are independent of each other, or `row` for every row; by
            default the columns of `ctrkit.ope.logs.units.unit_columns`, and the id of the event where an
            event has several rows.
        skip_bad_lines: whether broken lines of JSON lines and DSJSON are left out, with a note.
        also_text: says which other columns of a table hold ids, for example `FeatureSpec.is_text`.
        schema: `BANDIT_LOG`, with the names that the log has of its own (see `LogSchema.called`).

    Raises:
        ConfigError: there is no such format.
        DataError: names the file, the column, the first faulty row and what to do.
    """
    tables = read_log(source, format, skip_bad_lines, schema, also_text)
    parts = [Part(table.file, 0, number=number) for number, table in enumerate(tables)]
    return bandit_log(tables, parts, name_of(source), require_candidates, cluster_by, schema)


def bandit_log(
    tables: Sequence[LogTable],
    parts: Sequence[Part],
    file: str | None,
    require_candidates: bool = False,
    cluster_by: str | None = None,
    schema: LogSchema = BANDIT_LOG,
) -> BanditLog:
    """Check tables and join them to one log, as `read_bandit_log` does with files.

    Args:
        parts: where each table's rows were found; `start` is filled in here.
        file: name of the whole log, for messages.
        schema: says which column is what.
    """
    checked = []
    for source, part in zip(tables, parts, strict=True):
        with _numbered_as_in_file(part):
            checked.append(_checked(source.table, part.file, require_candidates, schema))
    table = join_tables([own for own, _ in checked], [source.file for source in tables])
    starts = np.cumsum([0, *(own.height for own, _ in checked)])
    parts = tuple(replace(part, start=int(start)) for part, start in zip(parts, starts, strict=False))
    actions = None
    if "candidates" in table.columns:
        action_index = np.concatenate([index for _, index in checked if index is not None])
    else:
        declared = [source.actions for source in tables if source.actions is not None]
        every = [one.cast(table.schema["action"]).to_frame("action") for one in (table["action"], *declared)]
        actions = pl.concat(every)["action"].unique().sort()
        action_index = actions.search_sorted(table["action"]).to_numpy().astype(np.int64)
    rows = [
        row_keys(part.numbers(own.height), part.number) for part, (own, _) in zip(parts, checked, strict=True)
    ]
    units, columns, notes = units_of(table, cluster_by, file, np.concatenate(rows))
    log = BanditLog(
        table,
        file,
        table["reward"].to_numpy(),
        table["propensity"].to_numpy(),
        action_index,
        actions,
        units,
        columns,
        parts,
        tuple(dict.fromkeys((*(n for source in tables for n in source.notes), *notes))),
    )
    if TARGET.name in table.columns:
        log.target_probability()
    return log


@contextmanager
def _numbered_as_in_file(part: Part) -> Iterator[None]:
    """Errors within the block name rows by their index in the file."""
    try:
        yield
    except DataError as error:
        if error.row is None or (part.first == 0 and part.rows is None):
            raise
        row = part.first + error.row if part.rows is None else int(part.rows[error.row])
        raise DataError(
            error.problem, file=error.file, column=error.column, row=row, hint=error.hint
        ) from None


def _checked(
    table: pl.DataFrame, file: str | None, require_candidates: bool, schema: LogSchema
) -> tuple[pl.DataFrame, Integers | None]:
    """One file's table under the schema's names, with every value checked, and its action indices."""
    if table.height == 0:
        raise DataError("the table has no rows", file=file, hint="Give a log with at least one row")
    table = schema.apply(table, file)
    table = with_same_ids(table)
    check_dropped(table, file)
    if "candidates" in table.columns:
        _check_aligned(table, file)
        action_index = index_of_action(table, file)
        if "logging_probabilities" in table.columns:
            _check_logging_probabilities(table, action_index, file)
        return table, action_index
    if require_candidates or "logging_probabilities" in table.columns:
        raise DataError(
            "the log does not list the candidates that the policy chose from",
            file=file,
            column="candidates",
            hint="Add a list column with the candidates of each row",
        )
    return table, None


def with_same_ids(table: pl.DataFrame) -> pl.DataFrame:
    """Actions and candidates as ids of the same type, integers or text: 7 and "7" are the same id."""
    if "candidates" not in table.columns:
        return table
    candidates, action = table.schema["candidates"], table.schema["action"]
    if not isinstance(candidates, pl.List):
        return table
    if candidates.inner == pl.String and action.is_integer():
        return table.with_columns(pl.col("action").cast(pl.String))
    if candidates.inner.is_integer() and action == pl.String:
        return table.with_columns(pl.col("candidates").cast(pl.List(pl.String)))
    return table


def check_probability(values: pl.Series, file: str | None, column: str) -> None:
    """Refuse a column that does not hold a new policy's probabilities of the logged actions.

    Raises:
        DataError: names the first faulty row.
    """
    target = check_column(values, TARGET, file, called=column).to_numpy()
    wrong = np.flatnonzero(target > 1 + ROUNDING)
    if wrong.size:
        raise DataError(
            f"{target[wrong[0]]:.9g} is above 1, so it is not a probability",
            file=file,
            column=column,
            row=int(wrong[0]),
            hint="Give the probability with which the new policy would choose the logged action",
        )


def _check_aligned(table: pl.DataFrame, file: str | None) -> None:
    """Check that every list about the candidates is as long as the list of candidates."""
    lengths = table["candidates"].list.len().to_numpy()
    for name in table.columns:
        if name != "logging_probabilities" and not name.startswith(CANDIDATE_PREFIX):
            continue
        if not isinstance(table.schema[name], pl.List):
            continue
        own = table[name].list.len().fill_null(0).to_numpy()
        wrong = np.flatnonzero(own != lengths)
        if wrong.size:
            row = int(wrong[0])
            raise DataError(
                f"the list has {own[row]} values for {lengths[row]} candidates",
                file=file,
                column=name,
                row=row,
                hint="Give one value for each candidate, in the order of the candidates",
            )


def index_of_action(table: pl.DataFrame, file: str | None) -> Integers:
    """The index of each row's action in its list of candidates."""
    candidates, action = table["candidates"], table["action"]
    lengths = candidates.list.len().to_numpy().astype(np.int64)
    repeated = np.flatnonzero(candidates.list.n_unique().to_numpy() != lengths)
    if repeated.size:
        raise DataError(
            "the list names a candidate twice",
            file=file,
            column="candidates",
            row=int(repeated[0]),
            hint="Name each candidate once",
        )
    flat = candidates.explode()
    rows = np.repeat(np.arange(table.height), lengths)
    at = np.flatnonzero((flat == action.gather(rows)).to_numpy())
    missing = np.setdiff1d(np.arange(table.height), rows[at])
    if missing.size:
        row = int(missing[0])
        raise DataError(
            f"action {action[row]!r} is not one of the row's candidates",
            file=file,
            column="action",
            row=row,
            hint="Log every candidate that could have been shown, including the one that was shown",
        )
    starts = np.cumsum(lengths) - lengths
    return np.asarray(at - starts)


def _check_logging_probabilities(table: pl.DataFrame, action_index: Integers, file: str | None) -> None:
    """Check that the logged distribution sums to 1 and agrees with the propensity."""
    probabilities = table["logging_probabilities"]
    totals = probabilities.list.sum().to_numpy()
    wrong = np.flatnonzero(np.abs(totals - 1) > SUM_TOLERANCE)
    if wrong.size:
        raise DataError(
            f"the probabilities sum to {totals[wrong[0]]:g}, not to 1",
            file=file,
            column="logging_probabilities",
            row=int(wrong[0]),
            hint="Log the probability of every candidate",
        )
    propensity = table["propensity"].to_numpy()
    chosen = probabilities.list.get(pl.Series(action_index)).to_numpy()
    wrong = np.flatnonzero(np.abs(chosen - propensity) > PROPENSITY_TOLERANCE * propensity)
    if wrong.size:
        row = int(wrong[0])
        raise DataError(
            f"the propensity is {propensity[row]:g}, but logging_probabilities has {chosen[row]:g}",
            file=file,
            column="propensity",
            row=row,
            hint="Log both from the same distribution",
        )
