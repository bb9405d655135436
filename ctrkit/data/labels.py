"""Labels, values of converted rows, weights and groups of a labelled table, checked and as arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import DataError
from ctrkit.schema import Column, FeatureSpec, check_column, require_columns

# Values and weights are stored in single precision, where sums of larger ones overflow.
LARGEST = 1e30


def read_labels(
    names: Mapping[str, str], table: pl.DataFrame, file: str | None = None
) -> NDArray[np.float32]:
    """The labels of a table, float32 [n, T] in funnel order, checked.

    Args:
        names: task -> column, in funnel order.
        table: the rows.
        file: name of the table, for messages.

    Raises:
        DataError: a label is not 0 or 1, or is 1 where the task before it is 0.
    """
    columns, before = [], None
    for task, name in names.items():
        advice = "Write 0 where it did not happen, and remove a row only where this is not known"
        if before is not None:
            advice = f"Write 0 where '{before}' is 0, and remove a row only where the label is not known"
        before = name
        column = Column(name, "binary", f"the label of task '{task}'", missing=advice)
        columns.append(check_column(table[name], column, file).to_numpy().astype(np.float32))
    labels = np.stack(columns, axis=1)
    columns_of = list(names.values())
    for index in range(1, len(columns_of)):
        broken = np.flatnonzero(labels[:, index] > labels[:, index - 1])
        if broken.size:
            raise DataError(
                f"the label is 1 where '{columns_of[index - 1]}', the step before it, is 0",
                file=file,
                column=columns_of[index],
                row=int(broken[0]),
                hint="List the labels in funnel order, or fix such rows",
            )
    return labels


def read_values(
    spec: FeatureSpec, table: pl.DataFrame, labels: NDArray[np.float32], file: str | None = None
) -> NDArray[np.float32] | None:
    """The value of each row whose last label is 1, and 0 elsewhere, float32 [n]; None for a spec without one.

    Args:
        spec: what the columns mean.
        table: the raw rows; where the last label is 0, the column of values may hold anything.
        labels: the labels of the rows, [n, T].
        file: name of the table, for messages.

    Raises:
        DataError: a value is missing, negative, too large or no finite number.
    """
    if spec.value is None:
        return None
    rows, given = np.flatnonzero(labels[:, -1] == 1), list(spec.labels.values())[-1]
    advice = f"Give the value of every row where '{given}' is 1: 0 if it brought nothing"
    column = Column(spec.value, "number", f"the value of a row where '{given}' is 1", low=0.0, missing=advice)

    amounts = read_of_rows(column, table, rows, file)
    if amounts.max(initial=0.0) > LARGEST:
        row = int(rows[np.argmax(amounts)])
        raise DataError(
            f"a value is above {LARGEST:g}", file=file, column=spec.value, row=row, hint="Divide all values"
        )
    values = np.zeros(len(labels), dtype=np.float32)
    values[rows] = amounts
    return values


def read_of_rows(column: Column, table: pl.DataFrame, rows: Integers, file: str | None = None) -> Floats:
    """The values of some rows, [k], checked; other rows may hold anything.

    Args:
        column: the column.
        table: the raw rows.
        rows: which of them.
        file: name of the table, for messages.

    Raises:
        DataError: a value is missing or wrong; the error names its row in the table.
    """
    try:
        found: Floats = check_column(table[column.name].gather(rows), column).to_numpy()
    except DataError as error:
        row = None if error.row is None else int(rows[error.row])
        raise DataError(error.problem, file=file, column=column.name, row=row, hint=error.hint) from error
    return found


def read_weights(name: str | None, table: pl.DataFrame, file: str | None = None) -> Floats:
    """The weights of a table's rows, [n]; 1 where no column of weights is named.

    Raises:
        DataError: the column is missing, or a weight is missing, negative or too large.
    """
    if name is None:
        return np.ones(table.height)
    require_columns(table, (name,), file)
    column = Column(name, "number", "the row's weight", low=0.0)
    numbers = check_column(table[name], column, file).to_numpy()
    if numbers.max(initial=0.0) > LARGEST:
        raise DataError(
            f"a weight is above {LARGEST:g}",
            file=file, column=name, row=int(np.argmax(numbers)), hint="Divide all weights",
        )  # fmt: skip
    return np.asarray(numbers)


def read_groups(name: str | None, table: pl.DataFrame) -> Integers | None:
    """The group of each row as a number, [n]; None where no column is named, or the table lacks it.

    A row without a group has a number below 0 of its own.

    Raises:
        DataError: the groups are lists or objects.
    """
    if name is None or name not in table.columns:
        return None
    groups = Groups()
    groups.add(table[name])
    return groups.numbers(table[name])


class Groups:
    """The distinct groups of a table, by which groups get numbers in the order of their values.

    Attributes:
        values: the values of the groups, ascending.
    """

    def __init__(self) -> None:
        self.values = pl.Series(dtype=pl.Null)

    def add(self, column: pl.Series) -> None:
        """Take in the groups of some rows.

        Raises:
            DataError: the groups are lists or objects.
        """
        new = _groups(column).unique().drop_nulls()
        self.values = new.sort() if not self.values.len() else self.values.append(new).unique().sort()

    def numbers(self, column: pl.Series, start: int = 0) -> Integers:
        """The number of each row's group, from 1 up; a row without one has a number below 0 of its own, [n].

        Args:
            column: the groups of some rows.
            start: the place of the first of these rows in the table.
        """
        groups = _groups(column)
        found = groups.rank("dense").fill_null(0).to_numpy().astype(np.int64)
        here = groups.unique().drop_nulls().sort()
        places = np.concatenate([[0], 1 + self.values.search_sorted(here)]) if here.len() else np.zeros(1)
        numbers: Integers = places.astype(np.int64)[found]
        missing = np.flatnonzero(groups.is_null().to_numpy())
        numbers[missing] = -1 - missing - start
        return numbers


def _groups(column: pl.Series) -> pl.Series:
    """The groups of rows, null where there is none."""
    if column.dtype.is_nested() or column.dtype == pl.Object:
        raise DataError(
            f"groups must be integers or text, not {column.dtype}", column=column.name, hint="Cast the column"
        )
    # pandas writes a missing number as NaN.
    known = column.fill_nan(None) if column.dtype.is_float() else column
    if known.dtype in (pl.Categorical, pl.Enum):
        return known.cast(pl.String)
    return known.cast(pl.Int8) if known.dtype == pl.Boolean else known
