"""Tables in text files: delimited values and JSON lines, packed by gzip or not, in Unicode."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ctrkit.errors import DataError
from ctrkit.file_kinds import file_kind

_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_DELIMITERS = (",", "\t", ";", "|")
# Lines by which the delimiter is told.
_LOOK_AT = 20
_RESAVE = "Save it as UTF-8: `iconv -f LATIN1 -t UTF-8 OLD > NEW`, say, if it is Latin-1"


@dataclass(frozen=True)
class BadLines:
    """Lines of a file that could not be read and were left out: how many, and the first, from 0."""

    count: int
    first: int

    def note(self, path: Path) -> str:
        """A sentence for people."""
        return f"Broken lines left out: {self.count:,} of {path} (the first is line {self.first + 1})."


def content_of(path: Path, most: int = -1) -> bytes:
    """A text file as UTF-8, unpacked and without a byte order mark.

    Args:
        most: bytes to read; -1: all.

    Raises:
        DataError: the archive is damaged, or the text is in an encoding that does not tell which it is.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(most)
    except (OSError, EOFError, zlib.error) as error:
        if not packed:
            raise
        raise DataError(
            f"the gzip archive is damaged ({error})", file=path, mend="Copy or write it again"
        ) from error
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:1000]:
        encoding = _wide(content[:1000])
    if encoding is None and b"\0" in content[:1000]:
        raise DataError(
            f"the file is no table of text: it is {file_kind(path).name}",
            file=path,
            mend="Give a parquet file the ending .parquet, or save the table as CSV",
        )
    try:
        # What is cut off may end within a letter.
        errors = "strict" if most < 0 else "ignore"
        return content if encoding is None else content.decode(encoding, errors).encode()
    except UnicodeDecodeError as error:
        raise DataError(f"the {encoding} text is damaged ({error})", file=path, mend=_RESAVE) from error


def _wide(head: bytes) -> str | None:
    """UTF-16 without its mark: where every other byte of plain letters is zero."""
    low, high = (head[start::2] for start in (0, 1))
    for zeros, others, name in ((high, low, "utf-16-le"), (low, high, "utf-16-be")):
        if 10 * zeros.count(0) > 9 * len(zeros) and not others.count(0):
            return name
    return None


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file, with their numbers from 0; blank ones are left out.

    Raises:
        DataError: see `content_of`; or the text is not UTF-8.
    """
    content = content_of(path)
    _check_unicode(content, path)
    for number, line in enumerate(content.split(b"\n")):
        if text := line.decode().strip():
            yield number, text


def _check_unicode(content: bytes, path: Path) -> None:
    """Refuse text of an 8-bit encoding: which letters its bytes are cannot be told."""
    try:
        if not content.isascii():
            content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"the file is not UTF-8 text: line {line} holds the byte 0x{content[error.start]:02X}, as text "
            "in Latin-1 or another 8-bit encoding does",
            file=path,
            mend=_RESAVE,
        ) from error


@dataclass(frozen=True)
class _Layout:
    """How a delimited file is laid out: where its header begins, in bytes, and what is in it."""

    start: int
    delimiter: str
    names: tuple[str, ...]


def is_json(content: bytes) -> bool:
    """Whether text is JSON rather than delimited values."""
    return content.lstrip()[:1] in (b"{", b"[")


def names_of_delimited(content: bytes, path: Path) -> tuple[str, ...]:
    """The column names of a delimited file, from its beginning."""
    return _layout(content, path).names


def read_delimited(content: bytes, path: Path) -> pl.DataFrame:
    """A delimited file with every cell as text, empty ones missing.

    The delimiter is a comma, tab, semicolon or bar, told by the first lines. Comment lines, which begin with
    `#`, may stand above the header.

    Raises:
        DataError: no header, a name that stands twice, lines of another length than the header, or text that
            is not UTF-8.
    """
    _check_unicode(content, path)
    if b"\r" in content and b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    layout = _layout(content, path)
    _check_even(content[layout.start :], layout, path)
    try:
        table = pl.read_csv(
            content[layout.start :],
            separator=layout.delimiter,
            infer_schema=False,
            has_header=True,
            new_columns=list(layout.names),
        )
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=dict.fromkeys(layout.names, pl.String))
    except pl.exceptions.PolarsError as error:
        raise _ragged(content[layout.start :], layout, path, error) from error
    empty = pl.all_horizontal(pl.all().is_null())
    return table.filter(~empty) if table.width > 1 else table


def _check_even(content: bytes, layout: _Layout, path: Path) -> None:
    """Refuse rows that are cut short, whose last values would pass for missing ones."""
    if _may_be_short(content, layout):
        mend = "Write the row whole; a missing value is left empty between its delimiters"
        odd = _uneven(content, layout, path, lambda values, names: values < names, mend)
        if odd is not None:
            raise odd


def _uneven(
    content: bytes, layout: _Layout, path: Path, wrong: Callable[[int, int], bool], mend: str
) -> DataError | None:
    """The first row whose number of values beside the header's names is wrong; blank lines are no rows."""
    reader = csv.reader(io.StringIO(content.decode()), delimiter=layout.delimiter)
    try:
        rows = (values for values in reader if len(values) > 1 or "".join(values).strip())
        for row, values in enumerate(rows, -1):
            if wrong(len(values), len(layout.names)):
                problem = f"the row has {len(values)} values and the header has {len(layout.names)} names"
                return DataError(problem, file=path, row=max(row, 0), mend=mend)
    except csv.Error:
        pass  # what is damaged is told by the reader of the table
    return None


def _may_be_short(content: bytes, layout: _Layout) -> bool:
    """Whether some line has fewer delimiters than the header, told fast.

    What stands between quotes counts as text; a quote within a value may be taken for the start of such.
    """
    signs = np.frombuffer(content, dtype=np.uint8)
    ends, delimiters = signs == ord("\n"), signs == ord(layout.delimiter)
    if b'"' in content:
        outside = np.cumsum(signs == ord('"'), dtype=np.uint8) % 2 == 0
        ends, delimiters = ends & outside, delimiters & outside
    last = np.append(np.flatnonzero(ends), len(content))
    counts = np.diff(np.searchsorted(np.flatnonzero(delimiters), last), prepend=0)
    lengths = np.diff(last, prepend=-1) - 1
    # A blank line may hold the first half of a line end of two signs.
    held = (lengths > 1) | ((lengths == 1) & (signs[np.maximum(last - 1, 0)] != ord("\r")))
    return bool((counts[held] < len(layout.names) - 1).any())


def _ragged(content: bytes, layout: _Layout, path: Path, error: Exception) -> DataError:
    """What is wrong with a file that cannot be cut into columns."""
    mend = "Quote values that hold the delimiter, or give the header all its names"
    odd = _uneven(content, layout, path, lambda values, names: values > names, mend)
    if odd is not None:
        return odd
    reason = str(error).splitlines()[0][:160].rstrip(".")
    return DataError(
        f"the file is damaged or not a table of text ({reason})", file=path, mend="Write or copy it again"
    )


def _layout(content: bytes, path: Path) -> _Layout:
    start, commented = 0, b""
    while content.startswith(b"#", start):
        end = content.find(b"\n", start)
        if end < 0:
            break
        commented, start = content[start:end], end + 1
    lines = content[start : start + 200_000].decode(errors="ignore").splitlines()[:_LOOK_AT]
    if not lines:
        raise DataError("the table has no rows", file=path, mend="Give a table with at least one row")
    delimiter = _delimiter(lines, path)
    names = next(csv.reader(lines, delimiter=delimiter))
    if _are_values(names):
        above = next(csv.reader([commented.decode(errors="ignore").lstrip("# ")], delimiter=delimiter), [])
        if len(above) != len(names) or _are_values(above):
            raise _no_header(names, path)
        # The header itself was a comment, as NumPy writes it.
        return _Layout(content.rfind(b"#", 0, start), delimiter, _checked(above, path))
    return _Layout(start, delimiter, _checked(names, path))


def _no_header(names: Sequence[str], path: Path) -> DataError:
    return DataError(
        f"the first line holds values ({', '.join(names[:3])}), where names of columns belong",
        file=path,
        mend="Add a header line with a name for each column",
    )


def _checked(names: Sequence[str], path: Path) -> tuple[str, ...]:
    names = [name.strip() for name in names]
    twice = next((name for name, count in Counter(names).items() if count > 1 and name), None)
    if twice is not None and _is_number(twice):
        raise _no_header(names, path)
    if twice is not None:
        raise DataError(
            "the header names this column twice", file=path, column=twice, mend="Rename or drop one of them"
        )
    # A first column without a name is the row number of pandas or R.
    return tuple(name or (f"column_{place}" if place else "") for place, name in enumerate(names))


def _delimiter(lines: Sequence[str], path: Path) -> str:
    """The delimiter that cuts the first lines into the same number of columns, more than one."""
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
    counted = [name.strip() for name in names] == [str(place) for place in range(len(names))]
    return len(names) > 1 and 2 * len(numbers) >= len(names) and not counted


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_json_lines(
    content: bytes, path: Path, *, skip_bad_lines: bool = False
) -> tuple[pl.DataFrame, BadLines | None]:
    """JSON lines, one object a row, or one JSON array of such objects; types are those of all rows.

    Args:
        skip_bad_lines: whether to leave out lines that hold no JSON object, rather than to refuse the file.

    Returns:
        The table, and which lines were left out.

    Raises:
        DataError: names the first line that is no JSON object.
    """
    _check_unicode(content, path)
    if content.lstrip()[:1] == b"[" and not skip_bad_lines:
        return _of_records(_array(content, path)), None
    if _is_by_columns(content):
        raise DataError(
            "the file is one JSON object of columns, not one object a row",
            file=path,
            mend="Write JSON lines: with pandas, to_json(path, orient='records', lines=True)",
        )
    try:
        return pl.read_ndjson(content, infer_schema_length=None), None
    except (pl.exceptions.PolarsError, OverflowError):
        # Polars does not name the line, and takes neither NaN nor types that change.
        pass
    records: list[dict[str, Any]] = []
    bad: list[int] = []
    for line, text in enumerate(content.split(b"\n")):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except ValueError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        elif skip_bad_lines:
            bad.append(line)
        else:
            raise _no_object(content, line, path)
    if not records:
        raise DataError("no line holds a JSON object", file=path, mend="Give one object a line")
    return _of_records(records), BadLines(len(bad), bad[0]) if bad else None


def _is_by_columns(content: bytes) -> bool:
    """Whether this is one object of columns, as pandas writes it unless told otherwise."""
    if b"\n" in content.strip():
        return False
    try:
        whole = json.loads(content)
    except ValueError:
        return False
    parts = list(whole.values()) if isinstance(whole, dict) else []
    by_label = len(parts) > 0 and all(isinstance(part, dict) and "0" in part for part in parts)
    return by_label or (isinstance(whole, dict) and {"columns", "index", "data"} <= {*whole})


def _no_object(content: bytes, line: int, path: Path) -> DataError:
    try:
        whole = json.loads(content)
    except ValueError:
        whole = None
    if isinstance(whole, dict):
        return DataError(
            "the file is one JSON object over several lines, not one object a row",
            file=path,
            mend="Write JSON lines: with pandas, to_json(path, orient='records', lines=True)",
        )
    return DataError(
        f"line {line + 1} holds no JSON object",
        file=path,
        mend="Write one object a line, or leave such lines out with skip_bad_lines",
    )


def _array(content: bytes, path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON array."""
    try:
        records = json.loads(content)
    except ValueError as error:
        raise DataError(f"the JSON array is damaged ({error})", file=path, mend="Copy it again") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(
            "the JSON array holds other things than objects", file=path, mend="Write one object a row"
        )
    return records


def _of_records(records: Sequence[dict[str, Any]]) -> pl.DataFrame:
    names = dict.fromkeys(name for record in records for name in record)
    return pl.DataFrame([column_of(name, [record.get(name) for record in records]) for name in names])


def column_of(name: str, values: Sequence[Any]) -> pl.Series:
    """Values of any types as a column: of numbers, truth values or lists where all are, else as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float, bool} and len(kinds) > 1:
        values = [
            None if value is None else float(value) if float in kinds else int(value) for value in values
        ]
    elif len(kinds) > 1:
        values = [None if value is None else _text(value) for value in values]
    try:
        return pl.Series(name, values, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series(name, [None if value is None else _text(value) for value in values], dtype=pl.String)


def _text(value: Any) -> str:
    """A value as a text cell: JSON where it is no text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
