"""What the columns of a log mean, and the checks of every value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import polars as pl

from ctrkit.errors import DataError, nearest

Kind = Literal["id", "integer", "number", "binary", "probability", "time", "ids", "numbers", "probabilities"]


@dataclass(frozen=True)
class Column:
    """One column of a log: its name, what it may hold and what it is called elsewhere.

    Kinds: `id` any integer or text; `integer`; `number` finite; `binary` 0 or 1; `probability` in (0, 1];
    `time` unix seconds or datetime; `ids`, `numbers`, `probabilities` the same as lists a row (the
    probabilities of a list may be 0). Where it is `nullable`, an id may be missing.
    """

    name: str
    kind: Kind
    meaning: str
    aliases: tuple[str, ...] = ()
    required: bool = False
    low: float | None = None
    nullable: bool = False


@dataclass(frozen=True)
class LogSchema:
    """The columns of one kind of log. Columns outside the schema pass through untouched."""

    name: str
    columns: tuple[Column, ...]

    def renames(self, names: Sequence[str]) -> dict[str, str]:
        """Of a table's columns, those that are an alias of a column that is not there: alias -> name."""
        found: dict[str, str] = {}
        for column in self.columns:
            alias = next((alias for alias in column.aliases if alias in names), None)
            if alias is not None and column.name not in names:
                found[alias] = column.name
        return found

    def apply(self, table: pl.DataFrame, file: str | None = None) -> pl.DataFrame:
        """The table with aliases renamed, types cast and every value checked.

        Raises:
            DataError: names the file, the column, the first faulty row and the mend.
        """
        renames = self.renames(table.columns)
        for column in self.columns:
            if column.required and column.name not in (*table.columns, *renames.values()):
                also = f" (or {', '.join(column.aliases)})" if column.aliases else ""
                close = nearest(column.name, table.columns) if table.columns else ""
                raise DataError(
                    f"a {self.name} needs this column{also}, which holds {column.meaning}",
                    file=file,
                    column=column.name,
                    mend=f"Add or rename it. {close}" if close.startswith("Did") else "Add or rename it",
                )
        table = table.rename(renames)
        source = {new: old for old, new in renames.items()}
        checked = [
            check_column(table[c.name], c, file, source.get(c.name, c.name))
            for c in self.columns
            if c.name in table.columns
        ]
        return table.with_columns(checked)


def check_column(
    values: pl.Series, column: Column, file: str | None = None, called: str | None = None
) -> pl.Series:
    """One column cast to the type of its kind, after checking every value.

    Args:
        called: the column's name in the file, where an alias was used.

    Raises:
        DataError: for a null, a wrong type, a NaN or a value out of range, naming the first such row.
    """
    name = called or column.name

    def refuse(problem: str, row: int | None, mend: str) -> DataError:
        return DataError(problem, file=file, column=name, row=row, mend=mend)

    if column.nullable and values.dtype.is_float():
        # Whole numbers among which some are missing, as pandas holds them.
        whole = values.fill_nan(None)
        values = whole.cast(pl.Int64) if (whole == whole.round()).all() else values
    if values.null_count() and not column.nullable:
        row = _first(values.is_null())
        raise refuse(
            "the value is missing", row, f"Fill in or drop such rows; the column holds {column.meaning}"
        )
    if column.kind in ("ids", "numbers", "probabilities"):
        return _check_list(values, column, refuse)
    if column.kind == "id":
        if values.dtype.is_integer() or values.dtype in (pl.String, pl.Categorical, pl.Enum):
            return values.cast(pl.String) if not values.dtype.is_integer() else values
        raise refuse(f"ids are integers or text, not {values.dtype}", None, "Cast the column")
    if column.kind == "time":
        if values.dtype.is_numeric():
            _check_numbers(values.cast(pl.Float64), column, refuse)
            return values.cast(pl.Float64)
        if isinstance(values.dtype, pl.Datetime):
            return values.dt.epoch("us").cast(pl.Float64) / 1e6
        if values.dtype == pl.String:
            return _parse_time(values, refuse)
        raise refuse(f"times are unix seconds or datetimes, not {values.dtype}", None, "Cast the column")
    if values.dtype == pl.Boolean:
        values = values.cast(pl.Int8)
    if not values.dtype.is_numeric():
        wrong = values.cast(pl.String).cast(pl.Float64, strict=False)
        row = _first(wrong.is_null())
        raise refuse(
            f"{values[row or 0]!r} is not a number (the column is {values.dtype})",
            row,
            "Cast the column to numbers",
        )
    numbers = values.cast(pl.Float64)
    _check_numbers(numbers, column, refuse)
    if column.kind == "integer":
        return numbers.cast(pl.Int64)
    return numbers


def _check_numbers(numbers: pl.Series, column: Column, refuse: _Refuse) -> None:
    """Range checks on a flat Float64 series."""
    if (row := _first(~numbers.is_finite())) is not None:
        raise refuse(f"{numbers[row]} is not a finite number", row, "Fill in or drop such rows")
    if column.kind == "binary" and (row := _first((numbers != 0) & (numbers != 1))) is not None:
        raise refuse(f"{numbers[row]:g} is neither 0 nor 1", row, f"The column holds {column.meaning}")
    if column.kind == "probability" and (row := _first((numbers <= 0) | (numbers > 1))) is not None:
        raise refuse(
            f"{numbers[row]:g} is not in (0, 1]", row, "Log the probability with which the action was chosen"
        )
    if column.kind == "integer" and (row := _first(numbers != numbers.round())) is not None:
        raise refuse(f"{numbers[row]:g} is not a whole number", row, f"The column holds {column.meaning}")
    if column.low is not None and (row := _first(numbers < column.low)) is not None:
        raise refuse(f"{numbers[row]:g} is below {column.low:g}", row, f"The column holds {column.meaning}")


def _check_list(values: pl.Series, column: Column, refuse: _Refuse) -> pl.Series:
    """List columns: types of the inner values, no empty list, ranges of probabilities."""
    dtype = values.dtype
    if not isinstance(dtype, (pl.List, pl.Array)):
        raise refuse(f"a list a row is needed, not {dtype}", None, "Store it as a parquet list column")
    lists = values.cast(pl.List(dtype.inner)) if isinstance(dtype, pl.Array) else values
    if (row := _first(lists.list.len() == 0)) is not None:
        raise refuse("the list is empty", row, "Drop such rows")
    rows = pl.int_range(lists.len(), eager=True).repeat_by(lists.list.len()).explode()
    inner = lists.explode()
    if inner.null_count():
        raise refuse("the list holds a missing value", int(rows[_first(inner.is_null()) or 0]), "Fill it in")
    if column.kind == "ids":
        if inner.dtype.is_integer():
            return lists
        if inner.dtype in (pl.String, pl.Categorical, pl.Enum):
            return lists.cast(pl.List(pl.String))
        raise refuse(f"ids are integers or text, not {inner.dtype}", None, "Cast the column")
    if not inner.dtype.is_numeric():
        raise refuse(f"numbers are needed, not {inner.dtype}", None, "Cast the column")
    numbers = inner.cast(pl.Float64)
    bad = ~numbers.is_finite()
    if column.kind == "probabilities":
        bad = bad | (numbers < 0) | (numbers > 1)
    if (at := _first(bad)) is not None:
        wanted = "a probability" if column.kind == "probabilities" else "a finite number"
        raise refuse(
            f"the list holds {numbers[at]:g}, which is not {wanted}", int(rows[at]), "Mend such rows"
        )
    return lists.cast(pl.List(pl.Float64))


def _parse_time(values: pl.Series, refuse: _Refuse) -> pl.Series:
    """ISO text to unix seconds."""
    try:
        parsed = values.str.to_datetime(strict=False, time_unit="us", time_zone="UTC")
    except pl.exceptions.PolarsError:
        parsed = pl.Series(values.name, [None] * values.len(), pl.Datetime("us", "UTC"))
    if (row := _first(parsed.is_null())) is not None:
        raise refuse(f"{values[row]!r} is not a time", row, "Use unix seconds or ISO 8601 text")
    return parsed.dt.epoch("us").cast(pl.Float64) / 1e6


def _first(mask: pl.Series) -> int | None:
    """Index of the first True, or None."""
    index = mask.arg_max() if mask.any() else None
    return int(index) if index is not None else None


class _Refuse(Protocol):
    """The callback that builds the error for one column."""

    def __call__(self, problem: str, row: int | None, mend: str) -> DataError: ...
