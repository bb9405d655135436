"""Tables of JSON: one object a line, or one array of objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ctrkit.errors import DataError
from ctrkit.tables.text import check_unicode


@dataclass(frozen=True)
class BadLines:
    """Lines of a file that could not be read and were left out.

    Attributes:
        count: number of lines.
        first: index of the first of them, from 0.
    """

    count: int
    first: int

    def note(self, path: Path) -> str:
        """A sentence for people."""
        return f"Broken lines left out: {self.count:,} of {path} (the first is line {self.first + 1})."


def is_json(content: bytes) -> bool:
    """Whether text is JSON rather than delimited values."""
    return content.lstrip()[:1] in (b"{", b"[")


def read_json_lines(
    content: bytes, path: Path, *, skip_bad_lines: bool = False, lines_before: int = 0
) -> tuple[pl.DataFrame, BadLines | None]:
    """JSON lines (one object for each row) or one JSON array of objects; types fit all rows.

    Args:
        skip_bad_lines: whether to leave out lines that hold no JSON object, rather than to refuse the file.
        lines_before: number of lines of the file before this content, for messages.

    Returns:
        The table, and which lines were left out.

    Raises:
        DataError: a line is not a JSON object; the error names the first such line.
    """
    check_unicode(content, path)
    if content.lstrip()[:1] == b"[" and not skip_bad_lines:
        return _of_records(_array(content, path)), None
    if _is_by_columns(content):
        raise DataError(
            "the file is one JSON object of columns, not one object a row",
            file=path,
            hint="Write JSON lines: with pandas, to_json(path, orient='records', lines=True)",
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
            raise _no_object(content, lines_before + line, path)
    if not records:
        raise DataError("no line holds a JSON object", file=path, hint="Give one object a line")
    return _of_records(records), BadLines(len(bad), bad[0]) if bad else None


def _is_by_columns(content: bytes) -> bool:
    """Whether this is one object of columns, as pandas writes it by default."""
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
            hint="Write JSON lines: with pandas, to_json(path, orient='records', lines=True)",
        )
    return DataError(
        f"line {line + 1} holds no JSON object",
        file=path,
        hint="Write one object a line, or leave such lines out with skip_bad_lines",
    )


def _array(content: bytes, path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON array."""
    try:
        records = json.loads(content)
    except ValueError as error:
        raise DataError(f"the JSON array is damaged ({error})", file=path, hint="Copy it again") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(
            "the JSON array holds values that are not objects", file=path, hint="Write one object a row"
        )
    return records


def _of_records(records: Sequence[dict[str, Any]]) -> pl.DataFrame:
    names = dict.fromkeys(name for record in records for name in record)
    return pl.DataFrame([column_of(name, [record.get(name) for record in records]) for name in names])


def column_of(name: str, values: Sequence[Any]) -> pl.Series:
    """Values of any types as a column: numbers, truth values or lists if all values are, else text."""
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
