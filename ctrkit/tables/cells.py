"""The cells of a table: ids, numbers and lists, with the same rules for every format."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ctrkit.errors import DataError

_TEXTS = (pl.String, pl.Categorical, pl.Enum)
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
# Missing values as programs write them into text cells. `NA` and `None` are kept: they can be names.
MISSING = ("", "nan", "NaN", "NAN", "<NA>", "null", "NULL")

# Above it 64-bit floats cannot hold every whole number (IEEE 754).
_EXACT = 2.0**53
# As pandas and spreadsheets write whole numbers that they have rounded; no hexadecimal id has a point.
_ROUNDED = r"^[+-]?\d\.\d+[eE]\+\d+$"

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
# Several numbers with commas, semicolons or blanks between.
_NUMBERS = rf"^\s*{_NUMBER}(?:(?:\s*[,;]\s*|\s+){_NUMBER})+\s*$"
_BRACKETED = r"(?s)^[\[(].*[\])]$|^\{[^:]*\}$|^(?:np\.|numpy\.)?array\("
# The parts of a list as Python, NumPy and pandas print it: quoted text, a call such as np.float64(0.4), a
# bare word, or a sign between them.
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<call>[A-Za-z_][\w.]*)\(\s*(?P<inner>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^()'"]*?)\s*\)
    | (?P<comma>,)
    | (?P<word>[^\s,'"()\[\]]+)
    )\s*""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}


def as_ids(
    values: pl.Series, file: str | os.PathLike[str] | None = None, column: str | None = None
) -> pl.Series:
    """Ids as text, the same for the same id in every format.

    7, "7", 7.0 and "7.0" are the same id, and so are true and 1. Texts that differ only in surrounding
    blanks, or in how Unicode composes their letters (NFC, Unicode Standard Annex 15), are the same id. "007"
    and "7" are different ids. NaN and empty text are missing.

    Raises:
        DataError: values are numbers that are not whole, ids rounded to floats, lists or other types.
    """
    dtype = values.dtype
    if dtype == pl.Boolean:
        return values.cast(pl.Int8).cast(pl.String)
    if dtype.is_float():
        whole = values.fill_nan(None)
        if not bool((whole == whole.round()).all()):
            raise _no_ids(dtype, file, column or values.name)
        if bool((rounded := whole.abs() >= _EXACT).any()):
            raise _rounded_ids(whole, rounded, file, column or values.name)
        return whole.cast(pl.Int64).cast(pl.String)
    if dtype.is_integer() or dtype in (pl.Null, pl.Date):
        return values.cast(pl.String)
    if dtype not in _TEXTS and not dtype.is_decimal():
        raise _no_ids(dtype, file, column or values.name)
    text = values.cast(pl.String)
    if bool((rounded := text.str.contains(_ROUNDED)).any()):
        raise _rounded_ids(text, rounded, file, column or values.name)
    if bool((text.str.len_bytes() != text.str.len_chars()).any()):
        text = text.str.normalize("NFC")
    text = text.str.strip_chars().str.replace(r"^([+-]?\d+)\.0+$", "$1")
    missing = text.is_in(MISSING)
    return text.set(missing, None) if bool(missing.any()) else text


def _no_ids(dtype: pl.DataType, file: str | os.PathLike[str] | None, column: str) -> DataError:
    return DataError(
        f"ids are integers or text, not {dtype}",
        file=file,
        column=column,
        hint="Cast the column, or declare it as numeric",
    )


def _rounded_ids(
    values: pl.Series, rounded: pl.Series, file: str | os.PathLike[str] | None, column: str
) -> DataError:
    row = int(rounded.fill_null(False).arg_max() or 0)
    return DataError(
        f"{values[row]} is an id that was rounded to a floating-point number, so different ids may be equal",
        file=file,
        column=column,
        row=row,
        hint="Write the ids as whole numbers or text; in pandas, dtype 'Int64' keeps whole numbers and "
        "missing values",
    )


def ids_as_text(values: pl.Series, file: str | os.PathLike[str] | None = None) -> pl.Series:
    """Ids as `as_ids` writes them, where the words true and false are the ids 1 and 0 too."""
    return as_ids(values, file).replace({**dict.fromkeys(_TRUE, "1"), **dict.fromkeys(_FALSE, "0")})


def as_integers(ids: pl.Series) -> pl.Series | None:
    """Text ids as integers, or None if that would change one of them.

    An integer loses a leading zero or plus, and cannot hold 20 digits.
    """
    whole = ids.cast(pl.Int64, strict=False)
    return (
        whole
        if whole.null_count() == ids.null_count() and bool((whole.cast(pl.String) == ids).all())
        else None
    )


def inferred(cells: pl.Series) -> pl.Series:
    """Text cells as whole numbers, numbers or truth values if all cells are; else unchanged.

    All cells are read. `007` stays text, because a number would lose its zeros, and so do more digits than a
    number can hold.
    """
    text = cells.str.strip_chars()
    empty = text == ""
    text = text.set(empty, None) if bool(empty.any()) else text
    if text.null_count() == text.len():
        return cells
    if (whole := as_integers(text)) is not None:
        return whole
    numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() == text.null_count():
        return cells if bool(text.str.contains(r"^[+-]?(?:0\d|\d{17,}$)").any()) else numbers
    if bool(text.is_in((*_TRUE, *_FALSE)).all()):
        return text.is_in(_TRUE)
    return cells


def lists_of(cells: pl.Series, separator: str) -> pl.Series:
    """Text cells as lists of text; a missing or empty cell is a missing list.

    A list in brackets is JSON, or what Python, NumPy, pandas or Postgres print: `[3, 7]`, `['hat', 'sock']`,
    `[3 7]`, `[np.float64(0.4), np.float64(0.6)]`, `{3,7}`. It is parsed and never run. In other cells the
    separator separates the values. A cell without the separator that holds only numbers between commas,
    semicolons or blanks is a list too.
    """
    text = cells.cast(pl.String).str.strip_chars()
    empty = text.is_in(MISSING)
    text = text.set(empty, None) if bool(empty.any()) else text
    bracketed = text.str.contains(_BRACKETED).fill_null(False)
    parts = text.str.split(separator)
    loose = ~text.str.contains(separator, literal=True) & text.str.contains(_NUMBERS)
    if bool(loose.any()):
        spaced = text.str.replace_all(r"[,;\s]+", " ").str.split(" ")
        parts = pl.select(pl.when(loose).then(spaced).otherwise(parts)).to_series()
    if bool(bracketed.any()):
        known: dict[str, list[str | None]] = {}
        found = parts.to_list()
        for row in bracketed.arg_true().to_list():
            cell = text[row]
            if cell not in known:
                known[cell] = _parsed(cell)
            found[row] = known[cell]
        parts = pl.Series(found, dtype=pl.List(pl.String))
    trimmed = parts.list.eval(pl.element().str.strip_chars())
    # `a||b` has a missing value in the middle, so that aligned lists stay aligned.
    return trimmed.list.eval(pl.element().replace("", None)).alias(cells.name)


def unsplit(cells: pl.Series, separator: str) -> str | None:
    """The sign that most cells of a text column contain, if none contains the separator; else None.

    Lists in brackets and lists of numbers need no separator. Names contain blanks too, so a blank counts only
    if cells hardly repeat.
    """
    held = cells.drop_nulls()
    held = held.filter(~held.str.contains(r"^\s*[\[({]") & ~held.str.contains(_NUMBERS))
    if not held.len() or bool(held.str.contains(separator, literal=True).any()):
        return None
    for sign in (",", ";", "|", "\t", " "):
        with_sign = held.filter(held.str.contains(sign, literal=True))
        if sign != separator and 2 * with_sign.len() > held.len():
            return sign if sign != " " or 2 * with_sign.n_unique() > with_sign.len() else None
    return None


def _parsed(cell: str) -> list[str | None]:
    """A list in brackets as texts; any other cell is a list of one text."""
    try:
        content = json.loads(cell)
    except ValueError:
        content = None
    if isinstance(content, list):
        return [_word(value) for value in content]
    found = _printed(cell)
    return [cell] if found is None else found


def _word(value: object) -> str | None:
    """One value of a JSON list as text."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def _printed(cell: str) -> list[str | None] | None:
    """A list as Python, NumPy or pandas print it; None if the cell is not such a list."""
    inner = re.sub(
        r"^(?:np\.|numpy\.)?array\((.*?)(?:,\s*dtype=[^)]*)?\)$", r"\1", cell, flags=re.DOTALL
    ).strip()
    if len(inner) < 2 or inner[0] + inner[-1] not in ("[]", "()", "{}"):
        return None
    inner, position = inner[1:-1], 0
    values: list[str | None] = []
    after_comma = True
    while inner[position:].strip():
        token = _TOKEN.match(inner, position)
        if token is None:
            return None
        position = token.end()
        if token["comma"]:
            if after_comma:
                return None
            after_comma = True
            continue
        after_comma = False
        value = token["quoted"] or (token["inner"] if token["call"] else token["word"])
        values.append(_unquoted(value))
    return values


def _unquoted(value: str) -> str | None:
    """A Python literal's text."""
    if value[:1] in ("'", '"'):
        return _ESCAPE.sub(_character, value[1:-1])
    return None if value in ("None", "nan", "NaN", "null", "NULL") else value


def _character(escape: re.Match[str]) -> str:
    code = escape[1]
    if code[0] in "xuU" and len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, code)


def with_values(lists: pl.Series, flat: pl.Series) -> pl.Series:
    """Lists with their values replaced.

    Args:
        lists: lists, none of them missing.
        flat: the new values of all lists, one list after another.
    """
    offsets = lists.list.len().cum_sum().to_numpy()
    array = pa.LargeListArray.from_arrays(pa.array([0, *offsets], pa.int64()), flat.to_arrow())
    return pl.Series(lists.name, array, dtype=pl.List(flat.dtype))


def values_of(lists: pl.Series) -> pl.Series:
    """The values of all lists, one list after another; empty and missing ones have none."""
    return lists.filter((lists.list.len() > 0).fill_null(False)).explode()


def numbers_of(values: pl.Series) -> NDArray[np.float32]:
    """Values of lists as numbers of 32 bits: NaN for what is no number, infinite for what is too large."""
    try:
        numbers = values.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    except pl.exceptions.PolarsError:
        return np.full(values.len(), np.nan, dtype=np.float32)
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def alike(columns: Sequence[pl.Series], files: Sequence[str | os.PathLike[str] | None]) -> list[pl.Series]:
    """One column of ids, or of lists of ids, from several tables, all of one type.

    Where some tables hold numbers and others text, all become text, as `as_ids` writes it.
    """
    types = {column.dtype for column in columns if column.dtype not in (pl.Null, pl.List(pl.Null))}
    if len(types) < 2 or all(dtype.is_integer() for dtype in types):
        return list(columns)
    if all(isinstance(dtype, pl.List) and dtype.inner.is_numeric() for dtype in types):
        # Numbers of different widths are joined in the wider type; the reader of ids checks them later.
        return list(columns)
    if not any(isinstance(dtype, pl.List) for dtype in types):
        return [as_ids(column, file) for column, file in zip(columns, files, strict=True)]
    if all(isinstance(dtype, pl.List) for dtype in types):
        return [column if column.dtype == pl.Null else column.cast(pl.List(pl.String)) for column in columns]
    return [_written(column) if isinstance(column.dtype, pl.List) else column for column in columns]


def _written(lists: pl.Series) -> pl.Series:
    """Lists as JSON text."""
    return pl.Series(
        lists.name,
        [
            None if values is None else json.dumps(values, ensure_ascii=False, default=str)
            for values in lists.to_list()
        ],
        dtype=pl.String,
    )
