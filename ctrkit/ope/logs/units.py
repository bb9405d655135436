"""The independent units of a log: its users, else its sessions, pages or events, else its rows.

Each unit has a key. A row has the same key in any batch or file, so folds, replicates and clusters do not
depend on how a log is cut. The file also has the number of decisions that a row stands for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b

import numpy as np
import polars as pl

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.errors import DataError, nearest
from ctrkit.hashing import GOLDEN, Words, mixed

USER, EVENT = "user_id", "event_id"
# Columns that group rows, the largest groups first.
UNITS = (USER, "session_id", "slate_id")
# The probability with which such a row was dropped from the log.
DROPPED = "p_drop"
# Instead of a column: rows are independent, even those of one user.
ROW = "row"
# A file's row has the key number · 2^40 + row: room for 10^12 rows in each of 16 million files.
_ROWS = 40


def unit_columns(names: Collection[str], cluster_by: str | None, file: str | None) -> tuple[str, ...]:
    """The columns that identify a row's unit: the first that is not null.

    Args:
        names: the columns of a log.
        cluster_by: a column, `row` for each row by itself, or None: all columns that group rows. The id of
            the event is one of them where the log has positions, because the slots of a page may share it.

    Raises:
        DataError: there is no such column.
    """
    if cluster_by == ROW:
        return ()
    if cluster_by is not None:
        if cluster_by not in names:
            raise DataError(
                "no such column to cluster by", file=file, column=cluster_by, hint=nearest(cluster_by, names)
            )
        return (cluster_by,)
    return tuple(name for name in (*UNITS, *((EVENT,) if "position" in names else ())) if name in names)


def units_of(
    table: pl.DataFrame, cluster_by: str | None, file: str | None, rows: Words
) -> tuple[Words, tuple[str, ...], tuple[str, ...]]:
    """Keys [N] of the units of a log's rows, the columns that identify them, and notes on them.

    Args:
        cluster_by: as in `unit_columns`; None: also the id of the event, where an event has several rows.
        rows: [N] keys of the rows.

    Raises:
        DataError: there is no such column.
    """
    columns = unit_columns(table.columns, cluster_by, file) or repeated_event(table, cluster_by)
    return unit_keys(table, columns, rows), columns, units_note(table, columns)


def unit_keys(table: pl.DataFrame, columns: Sequence[str], rows: Words) -> Words:
    """Keys [N] of the units of a table's rows.

    Args:
        columns: the columns that identify units (see `unit_columns`).
        rows: [N] keys of the rows, used where all columns are null.
    """
    if not columns:
        return rows
    keys, missing = _keys(table[columns[0]])
    for index, name in enumerate(columns[1:], start=1):
        if not missing.any():
            return keys
        others, unknown = _keys(table[name])
        # Each column has keys of its own: user 7 is not page 7.
        keys[missing] = mixed(others[missing] + np.uint64(index) * GOLDEN)
        missing &= unknown
    keys[missing] = mixed(~rows[missing])
    return keys


def repeated_event(table: pl.DataFrame, cluster_by: str | None) -> tuple[str, ...]:
    """The id of the event, where `cluster_by` is None and an event has several rows."""
    if cluster_by is not None or EVENT not in table.columns:
        return ()
    return (EVENT,) if table[EVENT].drop_nulls().is_duplicated().any() else ()


def units_note(table: pl.DataFrame, columns: Sequence[str]) -> tuple[str, ...]:
    """Notes on which rows form a unit, and which rows have no unit."""
    if not columns:
        return ()
    first, *others = columns
    unit = "user" if first == USER else first
    notes = [f"Intervals are clustered by {unit}: rows of one {unit} may depend on each other."]
    if _missing(table[first]).any():
        instead = f"clustered by {others[0]}" if others else "treated as independent"
        notes.append(f"Some rows have no {first}: they are {instead}.")
    return tuple(notes)


def row_keys(rows: Integers, number: int) -> Words:
    """Keys [N] of rows by their indices in a file; `number` is the index of the file in its log."""
    return np.asarray(rows.astype(np.uint64) + np.uint64(number << _ROWS))


def _keys(units: pl.Series) -> tuple[Words, Booleans]:
    """Keys [N] of a column of any type, the same on every machine, and where the value is missing.

    Whole numbers stay as they are, whether they are stored as integers, floats or text; anything else is
    hashed as text (BLAKE2b, 64 bits).
    """
    if units.dtype.is_nested() or units.dtype == pl.Object:
        raise DataError(
            f"rows can be clustered by a column of single values, not of {units.dtype}",
            column=units.name,
            hint="Set cluster_by to a column of ids, or to row",
        )
    missing = _missing(units).to_numpy()
    if units.dtype.is_float():
        whole = units.fill_nan(None).fill_null(0.0)
        if ((whole == whole.round()) & (whole.abs() < 2.0**63)).all():
            units = whole.cast(pl.Int64)
    if units.dtype.is_integer():
        found = units.fill_null(0).cast(pl.Int64, wrap_numerical=True).to_numpy().view(np.uint64)
        return found.copy(), missing
    text = units.cast(pl.String).fill_null("")
    known = text.unique().sort()
    keys = np.array(
        [int.from_bytes(blake2b(str(unit).encode(), digest_size=8).digest(), "little") for unit in known],
        dtype=np.uint64,
    )
    whole = known.cast(pl.Int64, strict=False)
    plain = (whole.cast(pl.String) == known).fill_null(False).to_numpy()
    keys[plain] = whole.filter(pl.Series(plain)).to_numpy().view(np.uint64)
    return np.asarray(keys[known.search_sorted(text).to_numpy().astype(np.int64)]), missing


def _missing(units: pl.Series) -> pl.Series:
    """Where the value is missing: null, or NaN, as pandas writes it."""
    return units.fill_nan(None).is_null() if units.dtype.is_float() else units.is_null()


def codes_of(units: Words) -> Integers | None:
    """Codes [N] from 0 of the units, in the order of their keys; None where each has one row."""
    keys, codes = np.unique(units, return_inverse=True)
    return codes.astype(np.int64) if len(keys) < len(units) else None


def counts_of(table: pl.DataFrame) -> Floats:
    """Number of decisions that each row stands for, [N]: 1 / (1 - p_drop), and 1 where no row was dropped."""
    if DROPPED not in table.columns:
        return np.ones(table.height)
    return np.asarray(1 / (1 - table[DROPPED].to_numpy()))


def check_dropped(table: pl.DataFrame, file: str | None) -> None:
    """Refuse a row whose probability of having been dropped is 1.

    Raises:
        DataError: names the first such row.
    """
    if DROPPED in table.columns and (wrong := np.flatnonzero(table[DROPPED].to_numpy() >= 1)).size:
        row = int(wrong[0])
        raise DataError(
            f"a row that is in the log cannot have been dropped with probability {table[DROPPED][row]:g}",
            file=file,
            column=DROPPED,
            row=row,
            hint="Give probabilities below 1",
        )
