"""Tables in chunks of bounded size, for work that needs each row once."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from ctrkit.errors import DataError, TableName
from ctrkit.tables.delimited import header_of, read_delimited
from ctrkit.tables.json_lines import read_json_lines
from ctrkit.tables.packed import unpacked
from ctrkit.tables.parquet_parts import parquet_parts
from ctrkit.tables.reading import TableLike, damaged_parquet, files_of, format_of, read_table
from ctrkit.tables.scanning import whole_lines

ROWS = 65_536
# Bytes of a text file that are read at a time.
BLOCK = 1 << 24
# Of a text, by which its layout is known.
_HEAD = 1 << 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a table.

    Attributes:
        table: the rows. Cells of a CSV file are text; types of JSON lines fit the rows of one chunk.
        file: name for messages, which gives row indices in the file; None in memory.
        done: how much of the source has been read, in rows or bytes.
        total: size of the source in the same unit.
    """

    table: pl.DataFrame
    file: str | None
    done: int
    total: int


def read_chunks(
    source: TableLike,
    rows: int = ROWS,
    block: int = BLOCK,
    columns: Collection[str] | None = None,
    distinct: Collection[str] = (),
) -> Iterator[Chunk]:
    """The rows of a table in order, a chunk at a time; there is at least one chunk, which may be empty.

    Parquet is read by pages, CSV and JSON lines in blocks of whole lines, gzip-compressed or not. A JSON
    array and a text in UTF-16 are read whole and then divided.

    Args:
        source: as `ctrkit.tables.read_table` takes it; the files of a glob or a list follow one another.
        rows: largest number of rows of a chunk.
        block: number of bytes of a text file that are read at a time.
        columns: the columns that are needed; a chunk may have others too. By default all.
        distinct: columns whose texts may come as `pl.Enum` of the distinct ones, which is faster where a
            parquet file holds few of them.

    Raises:
        DataError: as of `ctrkit.tables.read_table`; a fault in later rows comes with their chunk.
    """
    files = files_of(source)
    if files is None:
        table = read_table(source, may_be_empty=True)
        yield from _divided(Chunk(table, None, table.height, table.height), rows)
        return
    sizes = [os.path.getsize(file) if file.is_file() else 0 for file in files]
    for place, file in enumerate(files):
        before = sum(sizes[:place])
        for chunk in _of_file(file, rows, block, columns, distinct):
            done = before + round(sizes[place] * chunk.done / max(chunk.total, 1))
            yield replace(chunk, done=done, total=sum(sizes))


def _of_file(
    file: Path, rows: int, block: int, columns: Collection[str] | None, distinct: Collection[str]
) -> Iterator[Chunk]:
    of = format_of(file)
    if of == "parquet":
        return _of_parquet(file, rows, columns, distinct)
    head = _head(file)
    if b"\0" in head or b"\n" not in head or (of == "json" and head.lstrip()[:1] == b"["):
        table = read_table(file, may_be_empty=True)
        return _divided(Chunk(table, os.fspath(file), 1, 1), rows)
    return _of_lines(file, rows, block, delimited=of == "delimited")


def _of_parquet(
    file: Path, rows: int, columns: Collection[str] | None, distinct: Collection[str]
) -> Iterator[Chunk]:
    import pyarrow as pa
    from pyarrow.parquet import read_metadata

    start = 0
    try:
        schema = pl.read_parquet_schema(file)
        chosen = pl.Schema({name: schema[name] for name in schema if columns is None or name in columns})
        total = read_metadata(file).num_rows
        for table in parquet_parts(file, rows, chosen, distinct):
            yield Chunk(table, _named(file, start), start + table.height, total)
            start += table.height
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        raise damaged_parquet(file, error) from error
    if not start:
        yield Chunk(pl.DataFrame(schema=chosen), os.fspath(file), 1, 1)


def _of_lines(file: Path, rows: int, block: int, *, delimited: bool) -> Iterator[Chunk]:
    header, delimiter = b"", None
    seen: dict[str, pl.DataType] = {}
    start = lines = 0
    size = os.path.getsize(file)
    for content, read in _blocks(file, block, quoted=delimited):
        if not delimited:
            table, _ = read_json_lines(content, file, lines_before=lines)
            # A key that no line of this block has is missing in all of them.
            absent = {name: dtype for name, dtype in seen.items() if name not in table.columns}
            table = table.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in absent.items())
            seen |= dict(table.schema)
        else:
            try:
                table = read_delimited(header + content, file, delimiter)
            except DataError as error:
                row = None if error.row is None else error.row + start
                raise DataError(
                    error.problem, file=file, column=error.column, row=row, hint=error.hint
                ) from error
            if delimiter is None:
                header, delimiter = header_of(content, file)
        yield from _divided(Chunk(table, os.fspath(file), read, size), rows, start)
        start, lines = start + table.height, lines + content.count(b"\n")


def _blocks(file: Path, size: int, *, quoted: bool) -> Iterator[tuple[bytes, int]]:
    """Blocks of whole lines, each with the number of bytes of the file that have been read."""
    with file.open("rb") as raw:
        content = unpacked(raw)
        try:
            rest = content.read(size).removeprefix(_BYTE_ORDER_MARK)
            while rest:
                more = content.read(size)
                end = whole_lines(rest, quoted=quoted) if more else len(rest)
                if end:
                    yield rest[:end], raw.tell()
                rest = rest[end:] + more
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"the gzip archive is damaged ({error})", file=file, hint="Copy or write it again"
            ) from error


def _head(file: Path) -> bytes:
    """The beginning of a text."""
    with file.open("rb") as raw:
        try:
            return unpacked(raw).read(_HEAD).removeprefix(_BYTE_ORDER_MARK)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return b""  # the reader of the whole file reports the damage


def first_columns(source: TableLike) -> list[str]:
    """The columns of a table, from its first rows alone; the source is as `read_chunks` takes it.

    Raises:
        DataError: the table cannot be read.
    """
    return next(read_chunks(source, 1, _HEAD)).table.columns


def _divided(chunk: Chunk, rows: int, start: int = 0) -> Iterator[Chunk]:
    """A chunk as smaller ones, at least one; its first row is row `start` of the file."""
    for first in range(0, max(chunk.table.height, 1), rows):
        file = None if chunk.file is None else _named(chunk.file, start + first)
        yield replace(chunk, table=chunk.table[first : first + rows], file=file)


def _named(file: str | Path, start: int) -> TableName:
    """The name of a table whose first row is row `start` of a file."""
    return TableName.of(os.fspath(file), [os.fspath(file)], [-start])
