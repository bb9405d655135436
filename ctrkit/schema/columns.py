"""What a column of a log means, and the checks of every value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import polars as pl

from ctrkit.errors import DataError
from ctrkit.schema.times import unix_seconds
from ctrkit.tables.cells import as_ids, lists_of, with_values

Kind = Literal[
    "id", "integer", "number", "binary", "probability", "prediction", "time", "ids", "numbers",
    "probabilities",
]  # fmt: skip
LISTS = ("ids", "numbers", "probabilities")

# Separates the values of a list in a text file.
SEPARATOR = "|"
# A 32-bit float may exceed by this much a bound that it was meant to equal.
TOLERANCE = 1e-6
_TRUTHS = {"true": "1", "True": "1", "TRUE": "1", "false": "0", "False": "0", "FALSE": "0"}


@dataclass(frozen=True)
class Column:
    """One column of a log: its name, what it may hold and what it is called elsewhere.

    Kinds: `id`, an integer or text; `integer`; `number`, finite; `binary`, 0 or 1; `probability`, in (0, 1];
    `prediction`, in [0, 1];
    `time`, as in `ctrkit.schema.times`; `ids`, `numbers` and `probabilities`, one list in each row (a
    probability in a list may be 0).

    Attributes:
        name: name of the column.
        kind: what its values are.
        meaning: what it holds, for messages.
        aliases: other names under which it is read.
        required: whether every log must have it.
        low: smallest allowed number; None: no bound.
        nullable: whether an id or a number may be missing; a missing number is read as NaN.
        missing: hint about a missing value, if filling it in or dropping the row would be wrong.
        outside: hint about a prediction outside [0, 1].
    """

    name: str
    kind: Kind
    meaning: str
    aliases: tuple[str, ...] = ()
    required: bool = False
    low: float | None = None
    nullable: bool = False
    missing: str | None = None
    outside: str = "Give probabilities, neither logits nor percent"


def check_column(
    values: pl.Series, column: Column, file: str | None = None, called: str | None = None
) -> pl.Series:
    """One column, cast to the type of its kind, with every value checked.

    Args:
        values: the values.
        column: the column of the schema.
        file: the file, for messages.
        called: the column's name in the file, if it is an alias.

    Raises:
        DataError: a value is null, NaN, out of range or of a wrong type; the error names the first such row.
    """
    name = called or column.name

    def refuse(problem: str, row: int | None, hint: str) -> DataError:
        return DataError(problem, file=file, column=name, row=row, hint=hint)

    if column.kind == "id":
        values = _ids(values, file, name)
    if column.kind == "number" and column.nullable:
        return _present_or_nan(values, column, refuse)
    if values.null_count() and not column.nullable:
        hint = column.missing or f"Fill in or drop such rows; the column holds {column.meaning}"
        raise refuse("the value is missing", _first(values.is_null()), hint)
    if column.kind in LISTS:
        return _check_list(values, column, refuse)
    if column.kind == "id":
        return values
    if column.kind == "time":
        return unix_seconds(values, file, name)
    numbers = _numbers(values, column, refuse)
    _check_numbers(numbers, column, refuse)
    if column.kind == "integer":
        return numbers.cast(pl.Int64)
    return numbers.clip(0.0, 1.0) if column.kind in ("probability", "prediction") else numbers


def _ids(values: pl.Series, file: str | None, name: str) -> pl.Series:
    """Ids as whole numbers or text."""
    if values.dtype.is_integer():
        return values
    ids = as_ids(values, file, name)
    return ids.cast(pl.Int64) if values.dtype.is_float() else ids


def _present_or_nan(values: pl.Series, column: Column, refuse: _Refuse) -> pl.Series:
    """Numbers, NaN where one is missing; the others are checked."""
    numbers = _numbers(values, column, refuse).fill_null(float("nan"))
    known = numbers.to_numpy()
    if np.isinf(known).any() or (column.low is not None and (known < column.low).any()):
        # Any number in the allowed range passes the checks.
        _check_numbers(numbers.fill_nan(column.low or 0.0), column, refuse)
    return numbers


def _numbers(values: pl.Series, column: Column, refuse: _Refuse) -> pl.Series:
    """Numbers, or text that holds numbers, as Float64."""
    if values.dtype in (pl.Boolean, pl.Null) or not values.len():
        values = values.cast(pl.Int8, strict=False)
    if values.dtype.is_numeric():
        return values.cast(pl.Float64)
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        text = values.cast(pl.String).str.strip_chars()
        if column.kind == "binary":
            text = text.replace(_TRUTHS)
        numbers = text.cast(pl.Float64, strict=False)
        if (row := _first(numbers.is_null() & values.is_not_null())) is None:
            return numbers
    else:
        raise refuse(f"numbers are needed, not {values.dtype}", None, "Cast the column to numbers")
    hint = "Cast the column to numbers"
    if isinstance(values[row], str) and "," in values[row]:
        hint = "Write numbers with a decimal point and without thousands separators"
    raise refuse(f"{values[row]!r} is not a number (the column is {values.dtype})", row, hint)


def _check_numbers(numbers: pl.Series, column: Column, refuse: _Refuse) -> None:
    """Range checks on a flat Float64 series."""
    if (row := _first(~numbers.is_finite())) is not None:
        raise refuse(
            f"{numbers[row]} is not a finite number", row, column.missing or "Fill in or drop such rows"
        )
    if column.kind == "binary" and (row := _first((numbers != 0) & (numbers != 1))) is not None:
        raise refuse(f"{shown(numbers[row])} is neither 0 nor 1", row, f"The column holds {column.meaning}")
    if (
        column.kind == "probability"
        and (row := _first((numbers <= 0) | (numbers > 1 + TOLERANCE))) is not None
    ):
        raise refuse(
            f"{shown(numbers[row])} is not in (0, 1]",
            row,
            "Log the probability with which the action was chosen",
        )
    if (
        column.kind == "prediction"
        and (row := _first((numbers < -TOLERANCE) | (numbers > 1 + TOLERANCE))) is not None
    ):
        side = "below 0" if numbers[row] < 0 else "above 1"
        raise refuse(f"{shown(numbers[row])} is {side}, so it is not a probability", row, column.outside)
    if column.kind == "integer" and (row := _first(numbers != numbers.round())) is not None:
        raise refuse(
            f"{shown(numbers[row])} is not a whole number", row, f"The column holds {column.meaning}"
        )
    if column.low is not None and (row := _first(numbers < column.low)) is not None:
        raise refuse(
            f"{shown(numbers[row])} is below {column.low:g}", row, f"The column holds {column.meaning}"
        )


def shown(number: float) -> str:
    """A number in a message, with enough digits to differ from the bound that it breaks."""
    return f"{number:.9g}"


def _check_list(values: pl.Series, column: Column, refuse: _Refuse) -> pl.Series:
    """List columns: types of the inner values, no empty list, ranges of probabilities."""
    if values.dtype == pl.String:
        values = lists_of(values, SEPARATOR)
        if (row := _first(values.is_null())) is not None:
            raise refuse("the list is empty", row, "Drop such rows")
    dtype = values.dtype
    if not isinstance(dtype, (pl.List, pl.Array)):
        raise refuse(
            f"the column needs one list in each row, not {dtype}",
            None,
            "Store it as a list column, or as text such as 3|7|9 or [3, 7, 9]",
        )
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
        ids = as_ids(inner, None, column.name)
        if (at := _first(ids.is_null())) is not None:
            raise refuse("the list holds a missing value", int(rows[at]), "Fill it in")
        return with_values(lists, ids.cast(pl.Int64) if inner.dtype.is_float() else ids)
    if inner.dtype == pl.String:
        numbers = inner.str.strip_chars().cast(pl.Float64, strict=False)
        if (at := _first(numbers.is_null())) is not None:
            raise refuse(
                f"the list holds {inner[at]!r}, which is not a number",
                int(rows[at]),
                "Write lists as 0.5|0.5 or [0.5, 0.5], with decimal points",
            )
    elif inner.dtype.is_numeric():
        numbers = inner.cast(pl.Float64)
    else:
        raise refuse(f"numbers are needed, not {inner.dtype}", None, "Cast the column")
    bad = ~numbers.is_finite()
    if column.kind == "probabilities":
        bad = bad | (numbers < -TOLERANCE) | (numbers > 1 + TOLERANCE)
    if (at := _first(bad)) is not None:
        wanted = "a probability" if column.kind == "probabilities" else "a finite number"
        raise refuse(
            f"the list holds {shown(numbers[at])}, which is not {wanted}", int(rows[at]), "Fix such rows"
        )
    return with_values(lists, numbers.clip(0.0, 1.0) if column.kind == "probabilities" else numbers)


def _first(mask: pl.Series) -> int | None:
    """Index of the first True, or None."""
    index = mask.arg_max() if mask.any() else None
    return int(index) if index is not None else None


class _Refuse(Protocol):
    """The callback that builds the error for one column."""

    def __call__(self, problem: str, row: int | None, hint: str) -> DataError: ...
