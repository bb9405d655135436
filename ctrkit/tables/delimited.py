"""Tables of delimited values: finds the header and the delimiter, and reads every cell as text."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from ctrkit.errors import DataError, first_line
from ctrkit.tables.text import check_unicode

_DELIMITERS = (",", "\t", ";", "|")
# Number of lines from which the delimiter is recognised.
_LOOK_AT = 20


@dataclass(frozen=True)
class _Layout:
    """How a delimited file is laid out: where its header begins, in bytes, and what is in it."""

    start: int
    delimiter: str
    names: tuple[str, ...]
    quoted: bool = True


def names_of_delimited(content: bytes, path: Path) -> tuple[str, ...]:
    """The column names of a delimited file, from its beginning."""
    return _layout(content, path).names


def header_of(content: bytes, path: Path) -> tuple[bytes, str]:
    """The line of a delimited file's header, as it stands in its beginning, and the delimiter."""
    layout = _layout(content, path)
    end = content.find(b"\n", layout.start) + 1
    return content[layout.start : end or len(content)], layout.delimiter


def read_delimited(
    content: bytes,
    path: Path,
    delimiter: str | None = None,
    *,
    quoted: bool = True,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """A delimited file with every cell as text, empty ones missing.

    Comment lines, which begin with `#`, may come before the header.

    Args:
        content: the file.
        path: its path, for messages.
        delimiter: the delimiter; by default a comma, tab, semicolon or bar, recognised from the first lines.
        quoted: whether values may stand between double quotes.
        columns: the columns to read; rows whose cells are all empty are then kept. None: all columns, without
            such rows.

    Raises:
        DataError: there is no header, a name occurs twice, a line has another number of values than the
            header, or the text is not UTF-8.
    """
    check_unicode(content, path)
    if b"\r" in content and b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    layout = _layout(content, path, delimiter, quoted=quoted)
    _check_even(content[layout.start :], layout, path)
    try:
        table = pl.read_csv(
            content[layout.start :],
            separator=layout.delimiter,
            quote_char='"' if quoted else None,
            infer_schema=False,
            has_header=True,
            columns=None if columns is None else sorted(map(layout.names.index, columns)),
            new_columns=list(layout.names),
        )
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=dict.fromkeys(columns or layout.names, pl.String))
    except pl.exceptions.PolarsError as error:
        raise _ragged(content[layout.start :], layout, path, error) from error
    if columns is not None:
        return table
    empty = pl.all_horizontal(pl.all().is_null())
    return table.filter(~empty) if table.width > 1 else table


def _check_even(content: bytes, layout: _Layout, path: Path) -> None:
    """Refuse rows with too few values, which would be read as missing ones, or with too many."""
    if _may_be_odd(content, layout):
        odd = _uneven(content, layout, path)
        if odd is not None:
            raise odd


def _uneven(content: bytes, layout: _Layout, path: Path) -> DataError | None:
    """The first row with another number of values than the header has names; blank lines are no rows."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(content.decode()), delimiter=layout.delimiter, quoting=quoting)
    names = len(layout.names)
    try:
        rows = (values for values in reader if len(values) > 1 or "".join(values).strip())
        for row, values in enumerate(rows, -1):
            if len(values) != names:
                few = "Write all values of the row; leave a missing value empty between its delimiters"
                many = "Quote values that hold the delimiter, or give the header all its names"
                problem = f"the row has {len(values)} values and the header has {names} names"
                return DataError(
                    problem, file=path, row=max(row, 0), hint=few if len(values) < names else many
                )
    except csv.Error:
        pass  # the reader of the table reports the damage
    return None


def _may_be_odd(content: bytes, layout: _Layout) -> bool:
    """Whether some line seems to have fewer or more delimiters than the header, by a fast check.

    Text between quotes is skipped; a single quote within a value may be mistaken for the start of such text.
    """
    signs = np.frombuffer(content, dtype=np.uint8)
    ends, delimiters = signs == ord("\n"), signs == ord(layout.delimiter)
    if layout.quoted and b'"' in content:
        outside = np.cumsum(signs == ord('"'), dtype=np.uint8) % 2 == 0
        ends, delimiters = ends & outside, delimiters & outside
    last = np.append(np.flatnonzero(ends), len(content))
    counts = np.diff(np.searchsorted(np.flatnonzero(delimiters), last), prepend=0)
    lengths = np.diff(last, prepend=-1) - 1
    # A blank line may hold the first half of a line end of two signs.
    held = (lengths > 1) | ((lengths == 1) & (signs[np.maximum(last - 1, 0)] != ord("\r")))
    return bool((counts[held] != len(layout.names) - 1).any())


def _ragged(content: bytes, layout: _Layout, path: Path, error: Exception) -> DataError:
    """The error for a file that cannot be split into columns."""
    odd = _uneven(content, layout, path)
    if odd is not None:
        return odd
    return DataError(
        f"the file is damaged or not a table of text ({first_line(error)})",
        file=path,
        hint="Write or copy it again",
    )


def split_line(line: str, delimiter: str, *, quoted: bool = True) -> list[str]:
    """The values in a line of text."""
    if not quoted or len(delimiter) > 1:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])


def _layout(content: bytes, path: Path, delimiter: str | None = None, *, quoted: bool = True) -> _Layout:
    start, commented = 0, b""
    while content.startswith(b"#", start):
        end = content.find(b"\n", start)
        if end < 0:
            break
        commented, start = content[start:end], end + 1
    lines = content[start : start + 200_000].decode(errors="ignore").splitlines()[:_LOOK_AT]
    if not lines:
        raise DataError("the table has no rows", file=path, hint="Give a table with at least one row")
    delimiter = delimiter or _delimiter(lines, path)
    names = next(csv.reader(lines, delimiter=delimiter))
    if _are_values(names):
        above = next(csv.reader([commented.decode(errors="ignore").lstrip("# ")], delimiter=delimiter), [])
        if len(above) != len(names) or _are_values(above):
            raise _no_header(names, path)
        # The header itself was a comment, as NumPy writes it.
        return _Layout(content.rfind(b"#", 0, start), delimiter, _checked(above, path))
    return _Layout(start, delimiter, _checked(names, path), quoted)


def _no_header(names: Sequence[str], path: Path) -> DataError:
    return DataError(
        f"the first line holds values ({', '.join(names[:3])}) instead of column names",
        file=path,
        hint="Add a header line with a name for each column",
    )


def _checked(names: Sequence[str], path: Path) -> tuple[str, ...]:
    names = [name.strip() for name in names]
    twice = next((name for name, count in Counter(names).items() if count > 1 and name), None)
    if twice is not None and _is_number(twice):
        raise _no_header(names, path)
    if twice is not None:
        raise DataError(
            "the header names this column twice", file=path, column=twice, hint="Rename or drop one of them"
        )
    # A first column without a name is the row number of pandas or R.
    return tuple(name or (f"column_{index}" if index else "") for index, name in enumerate(names))


def _delimiter(lines: Sequence[str], path: Path) -> str:
    """The delimiter that splits the first lines into the same number of columns, more than one."""
    if path.name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    header = lines[0]
    inside = [sign for sign in _DELIMITERS if sign in header]
    if len(inside) < 2:
        return inside[0] if inside else ","
    # The last line may be cut off; one whose quotes are open goes on in the next.
    even = [
        sign
        for sign in inside
        if len({len(row) for row in csv.reader(lines[:-1] or lines, delimiter=sign) if row}) == 1
    ]
    return (even or inside)[0]


def _are_values(names: Sequence[str]) -> bool:
    """Whether half of the names or more are numbers, and not 0, 1, 2 as pandas counts columns."""
    numbers = [name for name in names if _is_number(name)]
    counted = [name.strip() for name in names] == [str(index) for index in range(len(names))]
    return len(names) > 1 and 2 * len(numbers) >= len(names) and not counted


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
