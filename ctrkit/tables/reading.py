"""Tables in: one reader for every format that ctrkit takes.

Columns that a spec or schema declares as ids, or lists of ids, are read as text in every file (`text`). So
`0007` keeps its zeros, and a file whose ids happen to be digits reads like the other files. The types of all
other columns of text files fit all rows of all files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any, Literal, TypeAlias

import polars as pl

from ctrkit.errors import DataError, TableName, first_line, is_glob, missing
from ctrkit.tables.cells import alike, inferred
from ctrkit.tables.delimited import header_of, names_of_delimited, read_delimited
from ctrkit.tables.json_lines import column_of, is_json, read_json_lines
from ctrkit.tables.text import content_of

# A table as users give it: a path, a glob, a list of them, or a pandas, Polars or Arrow frame.
TableLike: TypeAlias = Any
# Whether a column of this name holds ids, or lists of them.
IsText: TypeAlias = Callable[[str], bool]

PARQUET = (".parquet", ".pq")
DELIMITED = (".csv", ".tsv")
JSON_LINES = (".jsonl", ".ndjson", ".json")
# Either of the two, by content.
PLAIN = (".txt", ".log", "")
# Number of bytes that contain the header and the first lines.
_HEAD = 1 << 20


@dataclass(frozen=True)
class ReadTable:
    """The rows of one file, or of a table in memory.

    Attributes:
        table: the rows.
        file: their file; None in memory.
        from_text: whether every cell was text, so that column types are inferred from the values.
        notes: notes on lines that were left out.
    """

    table: pl.DataFrame
    file: str | None
    from_text: bool = False
    notes: tuple[str, ...] = ()


def _nothing(name: str) -> bool:
    return False


def read_table(source: TableLike, text: IsText = _nothing, *, may_be_empty: bool = False) -> pl.DataFrame:
    """Read a table from a path or a frame into Polars.

    Prefer `FeatureSpec.read` and `LogSchema.read`, which know what columns mean.

    Args:
        source: a `.parquet`, `.csv`, `.tsv`, `.jsonl` or `.txt` path, gzip-compressed or not; a glob; a list
            of paths and globs; or a Polars, pandas or Arrow table. Many files are read as one table; files of
            a glob come in the order of their names.
        text: says which columns hold ids or lists of ids.
        may_be_empty: whether a table without rows is allowed.

    Raises:
        DataError: a file is missing, empty, damaged, of an unknown kind or without rows; no file matches a
            glob; or the files do not have the same columns.
    """
    tables = read_tables(source, text, may_be_empty=may_be_empty)
    return join_tables([one.table for one in tables], [one.file for one in tables])


def read_named(
    source: TableLike, text: IsText = _nothing, *, may_be_empty: bool = False
) -> tuple[pl.DataFrame, str | None]:
    """A table, as `read_table` reads it, and its name for messages, which knows the file of each row."""
    tables = read_tables(source, text, may_be_empty=may_be_empty)
    files = [one.file for one in tables]
    table, name = join_tables([one.table for one in tables], files), name_of(source)
    if name is None or len(files) < 2:
        return table, name
    starts = [0]
    for one in tables[:-1]:
        starts.append(starts[-1] + one.table.height)
    return table, TableName.of(name, [file or name for file in files], starts)


def read_tables(
    source: TableLike,
    text: IsText = _nothing,
    *,
    may_be_empty: bool = False,
    skip_bad_lines: bool = False,
) -> tuple[ReadTable, ...]:
    """The tables of a source, one for each file; a column has the same type in all of them.

    Args:
        source: the source, as `read_table` takes it.
        text: says which columns hold ids or lists of ids.
        may_be_empty: whether a table without rows is allowed.
        skip_bad_lines: whether broken lines of JSON lines are left out, with a note.
    """
    files = files_of(source)
    if files is None:
        tables: tuple[ReadTable, ...] = (ReadTable(_in_memory(source, text), None),)
    else:
        tables = tuple(_read_file(file, skip_bad_lines) for file in files)
    for one in tables:
        if one.table.height == 0 and not may_be_empty:
            raise DataError("the table has no rows", file=one.file, hint="Give a table with at least one row")
    return of_one_type(tables, text)


def of_one_type(tables: tuple[ReadTable, ...], text: IsText) -> tuple[ReadTable, ...]:
    """Tables in which a column has one type, which fits the values of all tables."""
    changed: list[dict[str, pl.Series]] = [{} for _ in tables]
    for name in dict.fromkeys(name for one in tables for name in one.table.columns):
        having = [index for index, one in enumerate(tables) if name in one.table.columns]
        columns = {index: tables[index].table[name] for index in having}
        cells = [index for index in having if tables[index].from_text]
        if text(name):
            found = alike(list(columns.values()), [tables[index].file for index in having])
            columns = dict(zip(having, found, strict=True))
        elif cells:
            typed = inferred(pl.concat([columns[index] for index in cells]))
            start = 0
            for index in cells:
                end = start + columns[index].len()
                columns[index], start = typed[start:end], end
        for index, column in columns.items():
            changed[index][name] = column
    return tuple(
        replace(one, table=one.table.with_columns(columns.values())) if columns else one
        for one, columns in zip(tables, changed, strict=True)
    )


def _in_memory(source: TableLike, text: IsText) -> pl.DataFrame:
    """A frame as a Polars one."""
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    names = _names_in_memory(source)
    if names is None:
        raise DataError(
            f"a table of type {type(source).__name__} cannot be read",
            hint="Give a path, or a pandas, Polars or Arrow table",
        )
    if twice := [name for index, name in enumerate(names) if name in names[:index]]:
        raise DataError("the table has this column twice", column=twice[0], hint="Rename or drop one of them")
    try:
        return pl.DataFrame(source) if isinstance(source, dict) else _from_foreign(source)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        # Some column holds values of several types, or of a type that Polars does not know.
        columns = _columns_in_memory(source, names)
        return pl.DataFrame([_column(name, values, text(name)) for name, values in columns])


def _names_in_memory(source: TableLike) -> list[str] | None:
    """The columns of a dictionary, or of a pandas or Arrow table; None of anything else."""
    if isinstance(source, dict):
        return [str(name) for name in source]
    if type(source).__module__.startswith("pandas") and hasattr(source, "columns"):
        return [str(name) for name in source.columns]
    names = getattr(source, "column_names", None)
    return None if names is None else [str(name) for name in names]


def _from_foreign(source: TableLike) -> pl.DataFrame:
    """A pandas or Arrow table as a Polars one."""
    frame = (
        pl.from_pandas(source) if hasattr(source, "columns") and _is_pandas(source) else pl.from_arrow(source)
    )
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("not a table")
    return frame


def _is_pandas(source: TableLike) -> bool:
    return type(source).__module__.startswith("pandas")


def _columns_in_memory(source: TableLike, names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """The columns of a table, one by one, with None for what is missing."""
    for index, name in enumerate(names):
        if isinstance(source, dict):
            values = list(list(source.values())[index])
        elif _is_pandas(source):
            column = source.iloc[:, index]
            gone = column.isna().to_numpy()
            values = [None if missing else value for value, missing in zip(column, gone, strict=True)]
        else:
            values = source.column(index).to_pylist()
        yield name, values


def _column(name: str, values: list[Any], ids: bool) -> pl.Series:
    """One column of Python values.

    Raises:
        DataError: for values of several types where they are no ids.
    """
    # Scalars and arrays of NumPy as Python's.
    values = [value.tolist() if hasattr(value, "tolist") else value for value in values]
    kinds = sorted({type(value).__name__ for value in values if value is not None})
    if not ids and len(kinds) > 1 and not set(kinds) <= {"int", "float", "bool"}:
        first = type(next(value for value in values if value is not None)).__name__
        row = next(
            row for row, value in enumerate(values) if value is not None and type(value).__name__ != first
        )
        raise DataError(
            f"the column holds values of several types ({', '.join(kinds)})",
            column=name,
            row=row,
            hint="Cast it to one type",
        )
    return column_of(name, values)


def name_of(source: TableLike) -> str | None:
    """The path of a table, for messages; None for a table in memory.

    For many files it gives the first, and the number of the others.
    """
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if _is_paths(source):
        first, more = os.fspath(source[0]), len(source) - 1
        return f"{first} and {more} more" if more else first
    return None


def files_of(source: TableLike) -> list[Path] | None:
    """The files of a path, a glob (`**` includes folders) or a list of them; None for a table in memory.

    A path that exists is not a glob, whatever characters it contains.

    Raises:
        DataError: no file matches a glob.
    """
    if _is_paths(source):
        return [file for one in source for file in files_of(one) or []]
    if not isinstance(source, (str, os.PathLike)):
        return None
    name = os.fspath(source)
    if not is_glob(name) or os.path.exists(name):
        return [Path(name)]
    found = sorted(path for path in glob(name, recursive=True) if not os.path.isdir(path))
    if not found:
        raise DataError("no file matches", file=name, hint="Check the pattern and the folder")
    return [Path(path) for path in found]


def _is_paths(source: TableLike) -> bool:
    """Whether this is a list of paths, at least one."""
    listed = isinstance(source, (list, tuple)) and len(source) > 0
    return listed and all(isinstance(one, (str, os.PathLike)) for one in source)


def join_tables(
    tables: Sequence[pl.DataFrame], files: Sequence[str | os.PathLike[str] | None]
) -> pl.DataFrame:
    """The rows of all tables in one. Each table must have the columns of the first, in any order.

    Numbers of different widths are joined in the wider type; numbers and text cannot be joined.

    Raises:
        DataError: names the file and the column that does not fit the first file.
    """
    first = tables[0]
    for table, file in zip(tables[1:], files[1:], strict=True):
        check_same_columns(table.columns, first.columns, file)
        for name, dtype in first.schema.items():
            if not _meet(dtype, table.schema[name]):
                raise DataError(
                    f"the column is {table.schema[name]} here and {dtype} in the first file",
                    file=file,
                    column=name,
                    hint="Store it as one type in all files",
                )
    if len(tables) == 1:
        return first
    return pl.concat([table.select(first.columns) for table in tables], how="vertical_relaxed")


def _meet(one: pl.DataType, other: pl.DataType) -> bool:
    """Whether columns of these types can be joined without changing their values."""
    if one == other or pl.Null in (one, other):
        return True
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        return _meet(one.inner, other.inner)  # type: ignore[arg-type]
    kinds = [
        "number"
        if dtype.is_numeric() or dtype == pl.Boolean
        else "text"
        if dtype in (pl.String, pl.Categorical, pl.Enum)
        else str(dtype)
        for dtype in (one, other)
    ]
    return kinds[0] == kinds[1]


def kind_of(path: Path) -> str:
    """The ending of a file's name in lower case, without `.gz`."""
    endings = [ending.lower() for ending in path.suffixes]
    if endings[-1:] == [".gz"]:
        endings.pop()
    return endings[-1] if endings else ""


def columns_of(path: Path) -> list[str]:
    """The columns of a file of delimited values or parquet, from its header alone.

    Raises:
        DataError: there is no header, or it has a column twice.
        OSError: the file cannot be read.
    """
    if kind_of(path) in PARQUET:
        return list(pl.read_parquet_schema(path))
    return list(names_of_delimited(content_of(path, _HEAD), path))


def delimiter_of(path: Path) -> str:
    """The delimiter of a file of delimited values, from its first lines."""
    return header_of(content_of(path, _HEAD), path)[1]


def format_of(path: Path) -> Literal["parquet", "json", "delimited"]:
    """How a file holds its table.

    Raises:
        DataError: the file is missing, a folder, empty, or of an unknown kind.
    """
    _check_file(path)
    kind = kind_of(path)
    if kind in PARQUET and path.suffix.lower() != ".gz":
        return "parquet"
    if kind not in (*DELIMITED, *JSON_LINES, *PLAIN):
        raise DataError(
            f"tables of kind '{kind}' are not read",
            file=path,
            hint="Use .parquet, .csv, .tsv, .jsonl or .txt, gzip-compressed or not",
        )
    json = kind in JSON_LINES or (kind in PLAIN and is_json(content_of(path, _HEAD)))
    return "json" if json else "delimited"


def damaged_parquet(path: Path, error: Exception) -> DataError:
    """The error for a file that its reader refuses."""
    return DataError(
        f"the file is damaged or not a parquet table ({first_line(error)})",
        file=path,
        hint="Write or copy it again",
    )


def check_same_columns(
    columns: Collection[str], first: Collection[str], file: str | os.PathLike[str] | None
) -> None:
    """Check that a file has the columns of the first file, in any order.

    Raises:
        DataError: names the first column that only one of them has.
    """
    for odd in sorted({*first} ^ {*columns}):
        problem = "the file lacks this column, which the first file has"
        if odd in columns:
            problem = "the first file does not have this column"
        raise DataError(problem, file=file, column=odd, hint="Give files with the same columns")


def _read_file(path: Path, skip_bad_lines: bool) -> ReadTable:
    of = format_of(path)
    if of == "parquet":
        try:
            return ReadTable(pl.read_parquet(path, glob=False), os.fspath(path))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise damaged_parquet(path, error) from error
    content = content_of(path)
    if of == "json":
        table, bad = read_json_lines(content, path, skip_bad_lines=skip_bad_lines)
        return ReadTable(table, os.fspath(path), notes=(bad.note(path),) if bad else ())
    return ReadTable(read_delimited(content, path), os.fspath(path), from_text=True)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise missing("table", path)
    if path.is_dir():
        hint = f"Name its files, such as '{path}/**/*.parquet'"
        raise DataError("this is a folder, not a table", file=path, hint=hint)
    if path.stat().st_size == 0:
        raise DataError("the file is empty", file=path, hint="Write the table again")
