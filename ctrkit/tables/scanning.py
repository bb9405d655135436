"""Tables of any size as lazy frames: files are read in blocks, when Polars asks, with clear errors.

A plain `pl.scan_csv` fills short rows with nulls, takes other columns without a word, and tells neither the
file nor the row of a wrong value. Here every block is checked, and only one block is held at a time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from ctrkit.errors import DataError, first_line
from ctrkit.tables.cells import MISSING, as_ids
from ctrkit.tables.delimited import read_delimited, split_line
from ctrkit.tables.packed import TextFile
from ctrkit.tables.reading import PARQUET, kind_of
from ctrkit.tables.text import check_unicode

# Bytes of a text that are read at a time.
BLOCK = 1 << 24
_MARK = b"\xef\xbb\xbf"
_BLANK = re.compile(rb"\n(?:[ \t\r]*\n)+")
_SIGNS = {",": "comma", "\t": "tab", "|": "bar", " ": "blank", "::": "`::`", ";": "semicolon"}
_AS_DOWNLOADED = "Give the file as it was downloaded"
# Rows of text at a time: the file, the rows, and the index of the first of them in the file.
_Part = tuple[TextFile, pl.DataFrame, int]
# Makes the parts of given columns.
_Parts = Callable[[Sequence[str]], Iterator[_Part]]


@dataclass(frozen=True)
class TextFormat:
    """How the values of a text stand in its lines.

    Attributes:
        columns: name -> type of every column; ids and other texts are `pl.String`.
        delimiter: sign or signs between the values of a line.
        header: whether the first line holds the names, in any order; else the columns have this order.
        quoted: whether values may stand between double quotes.
        encoding: name of the encoding.
    """

    columns: Mapping[str, type[pl.DataType]]
    delimiter: str = ","
    header: bool = True
    quoted: bool = True
    encoding: str = "utf-8"


def scan_text(files: Sequence[TextFile], form: TextFormat) -> pl.LazyFrame:
    """The rows of delimited files, one file after another. The first line of each is checked at once.

    A parquet file into which somebody has written the same columns, and perhaps others, is read too.

    Raises:
        DataError: a file is damaged or has other columns; while rows are read, also: a line has another
            number of values, a value does not fit the type of its column, or the text has another encoding.
    """
    for file in files:
        if _is_parquet(file):
            _check_names(_parquet_names(file), form, file)
        else:
            _names(_first_line(file, form), form, file)

    def parts(columns: Sequence[str]) -> Iterator[_Part]:
        for file in files:
            yield from (
                _parquet_parts(file, columns) if _is_parquet(file) else _text_parts(file, form, columns)
            )

    return _scanned(parts, form.columns)


def scan_json_lines(files: Sequence[TextFile], columns: Mapping[str, type[pl.DataType]]) -> pl.LazyFrame:
    """The named keys of files of JSON lines, one file after another; a key that is absent is missing.

    Raises:
        DataError: a file is damaged, or has no object in its first line; while rows are read, also: a line is
            no JSON object, or a value does not fit the type of its column.
    """
    for file in files:
        with file.open() as stream:
            if not stream.readline().lstrip().startswith(b"{"):
                raise DataError("the first line is no JSON object", file=file, hint=_AS_DOWNLOADED)

    def parts(wanted: Sequence[str]) -> Iterator[_Part]:
        types = {name: columns[name] for name in wanted}
        for file in files:
            row = 0
            for block in _blocks(file, quoted=False):
                table = _json_rows(block, types, file, row)
                yield file, table, row
                row += table.height

    return _scanned(parts, columns)


def scan_files(scanned: pl.LazyFrame, file: str | os.PathLike[str]) -> pl.LazyFrame:
    """A lazy frame of Polars' own scanners whose failures are errors of the file.

    Raises:
        DataError: the file is damaged or of another format; also while it is read.
    """
    with _told(file):
        schema = scanned.collect_schema()

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        frame = scanned if columns is None else scanned.select(columns)
        frame = frame if rows is None else frame.head(rows)
        frame = frame if predicate is None else frame.filter(predicate)
        with _told(file):
            yield from frame.collect_batches(maintain_order=True)

    return register_io_source(read, schema=schema)


@contextmanager
def _told(file: str | os.PathLike[str]) -> Iterator[None]:
    """Raise failures of Polars as errors of a file."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"the file is damaged or not a table of this kind ({first_line(error)})",
            file=file,
            hint="Write or copy it again",
        ) from error


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise errors of expressions as they were: Polars adds where it was in the expression.

    Polars calls with parts of a table, so the row in such an error is not the one of the table, and left out.
    """
    try:
        yield
    except DataError as error:
        told, added, _ = str(error).partition("\n\nThis error occurred in the following expression")
        if not added:
            raise
        raise DataError(re.sub(r", row index \d+", "", told.removesuffix("."), count=1)) from error


def _scanned(parts: _Parts, types: Mapping[str, type[pl.DataType]]) -> pl.LazyFrame:
    """A lazy frame over parts of text, in which only the wanted columns get their types."""

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        # A count of rows needs no column, and one of them to count.
        names = list(types)[:1] if columns == [] else columns or list(types)
        for file, part, start in parts(names):
            wanted = part.select(_typed(part[name], types[name], file, start) for name in names)
            if rows is not None:
                wanted, rows = wanted.head(rows), rows - min(rows, wanted.height)
            yield wanted if predicate is None else wanted.filter(predicate)
            if rows == 0:
                return

    return register_io_source(read, schema=dict(types))


def _is_parquet(file: TextFile) -> bool:
    return file.member is None and kind_of(file.path) in PARQUET


def _parquet_names(file: TextFile) -> list[str]:
    return scan_files(pl.scan_parquet(file.path, glob=False), file).collect_schema().names()


def _parquet_parts(file: TextFile, columns: Sequence[str]) -> Iterator[_Part]:
    row = 0
    scanned = scan_files(pl.scan_parquet(file.path, glob=False), file)
    for table in scanned.select(columns).collect_batches(maintain_order=True):
        yield file, table, row
        row += table.height


def _text_parts(file: TextFile, form: TextFormat, columns: Sequence[str]) -> Iterator[_Part]:
    delimiter = form.delimiter if len(form.delimiter) == 1 else "\x1f"
    header, row = b"", 0
    for block in _blocks(file, quoted=form.quoted, encoding=form.encoding):
        if form.delimiter != delimiter:
            block = block.replace(form.delimiter.encode(), delimiter.encode())
        if not header:
            first, _, rest = block.partition(b"\n")
            names = _names(first.decode(errors="replace").rstrip("\r"), form, file, delimiter)
            header = delimiter.join(names).encode() + b"\n"
            block = rest if form.header else block
        if _BLANK.search(block) and not (form.quoted and b'"' in block):
            block = _BLANK.sub(b"\n", block)
        try:
            table = read_delimited(
                header + block.lstrip(b"\r\n"),
                Path(file.name),
                delimiter,
                quoted=form.quoted,
                columns=columns,
            )
        except DataError as error:
            at = None if error.row is None else error.row + row
            raise DataError(error.problem, file=file, column=error.column, row=at, hint=error.hint) from error
        yield file, table, row
        row += table.height


def _blocks(file: TextFile, *, quoted: bool, encoding: str = "utf-8") -> Iterator[bytes]:
    """Blocks of whole lines, in UTF-8."""
    with file.open() as stream:
        rest = stream.read(BLOCK).removeprefix(_MARK)
        while rest:
            more = stream.read(BLOCK)
            end = whole_lines(rest, quoted=quoted) if more else len(rest)
            if end:
                block = rest[:end]
                if encoding == "utf-8":
                    check_unicode(block, file)
                else:
                    block = block.decode(encoding).encode()
                yield block
            rest = rest[end:] + more


def whole_lines(content: bytes, *, quoted: bool) -> int:
    """The place after the last line end that is not between quotes; 0 where there is none."""
    end = content.rfind(b"\n") + 1
    while quoted and end and content.count(b'"', 0, end) % 2:
        end = content.rfind(b"\n", 0, end - 1) + 1
    return end


def first_line_of(file: TextFile) -> str:
    """The first line of a file, or the names of a parquet file with commas between.

    Raises:
        DataError: the file is damaged or empty.
    """
    if _is_parquet(file):
        return ",".join(_parquet_names(file))
    return _first_line(file, TextFormat({}))


def first_names(file: TextFile, delimiter: str) -> list[str]:
    """The names in the first line of a file, or those of a parquet file."""
    if _is_parquet(file):
        return _parquet_names(file)
    return split_line(_first_line(file, TextFormat({}, delimiter)), delimiter, quoted=False)


def _first_line(file: TextFile, form: TextFormat) -> str:
    with file.open() as stream:
        line = stream.readline(1 << 20).removeprefix(_MARK)
    if not line.strip():
        raise DataError("the file is empty", file=file, hint=_AS_DOWNLOADED)
    return line.decode(form.encoding, errors="replace").rstrip("\r\n")


def _names(line: str, form: TextFormat, file: TextFile, delimiter: str | None = None) -> list[str]:
    """The names of the columns in the order of the file, by its first line.

    Raises:
        DataError: the line has other names, or another number of values.
    """
    given = [value.strip() for value in split_line(line, delimiter or form.delimiter, quoted=form.quoted)]
    sign = _SIGNS.get(form.delimiter, form.delimiter)
    if len(given) == 1 and len(form.columns) > 1:
        raise DataError(
            f"the first line has no {sign}, which stands between the values", file=file, hint=_AS_DOWNLOADED
        )
    if not form.header:
        if len(given) != len(form.columns):
            raise DataError(
                f"the first line has {len(given)} values, and the official file has {len(form.columns)}",
                file=file,
                row=0,
                hint=_AS_DOWNLOADED,
            )
        return list(form.columns)
    _check_names(given, form, file)
    for place, name in enumerate(given):
        if name not in form.columns or name in given[:place]:
            problem = "the official file has no such column"
            problem = "the header names this column twice" if name in given[:place] else problem
            raise DataError(problem, file=file, column=name, hint=_AS_DOWNLOADED)
    return given


def _check_names(given: Sequence[str], form: TextFormat, file: TextFile) -> None:
    for name in form.columns:
        if name not in given:
            raise DataError(
                "the header lacks this column of the official file",
                file=file,
                column=name,
                hint=_AS_DOWNLOADED,
            )


def _typed(cells: pl.Series, dtype: type[pl.DataType], file: TextFile, start: int) -> pl.Series:
    """Cells, which are text but for those of parquet, in the type of their column; empty ones are missing.

    Raises:
        DataError: a cell does not fit.
    """
    if cells.dtype == dtype or (cells.dtype.is_float() and dtype.is_float()):
        return cells.cast(dtype)
    if cells.dtype != pl.String:
        cells = as_ids(cells, file) if dtype == pl.String or dtype.is_integer() else cells.cast(pl.String)
    if dtype == pl.String:
        return cells
    typed = cells.cast(dtype, strict=False)
    if typed.null_count() != cells.null_count():
        text = cells.str.strip_chars()
        typed = text.cast(dtype, strict=False)
        if dtype.is_integer():
            # Whole numbers that a program has written as 2.0, as it had a column with missing ones.
            numbers = text.cast(pl.Float64, strict=False)
            whole = numbers.is_not_null() & (numbers == numbers.round()) & (numbers.abs() < 2.0**53)
            typed = typed.fill_null(numbers.set(~whole, None).cast(dtype, strict=False))
        wrong = (typed.is_null() & text.is_not_null() & ~text.is_in(MISSING)).arg_true()
        if wrong.len():
            row = int(wrong[0])
            kind = "a number" if dtype.is_float() else "a whole number that fits"
            raise DataError(
                f"{cells[row]!r} is not {kind}",
                file=file,
                column=cells.name,
                row=start + row,
                hint=_AS_DOWNLOADED,
            )
    return typed


def _json_rows(
    block: bytes, columns: Mapping[str, type[pl.DataType]], file: TextFile, start: int
) -> pl.DataFrame:
    try:
        return pl.read_ndjson(block, schema=dict(columns))
    except pl.exceptions.PolarsError as error:
        for row, line in enumerate(block.splitlines()):
            try:
                pl.read_ndjson(line, schema=dict(columns))
            except pl.exceptions.PolarsError as fault:
                raise DataError(
                    f"the line is no JSON object of these columns ({first_line(fault)})",
                    file=file,
                    row=start + row,
                    hint=_AS_DOWNLOADED,
                ) from error
        raise DataError(f"the JSON lines are damaged ({error})", file=file, hint=_AS_DOWNLOADED) from error
