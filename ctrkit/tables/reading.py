"""Tables in: one reader for every format that ctrkit takes."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from ctrkit.errors import DataError, is_glob, missing

# A table as a user may hand it over: a path, a glob, a list of them, or a pandas, Polars or Arrow frame.
TableLike: TypeAlias = Any

_JSON_LINES = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")


def read_table(source: TableLike) -> pl.DataFrame:
    """Read a table from a path or a frame into Polars.

    Args:
        source: a `.parquet`, `.csv`, `.csv.gz`, `.jsonl` path, a glob of such, a list of paths and globs, or
            a Polars, pandas or Arrow table. Many files are read as one table, in the order of their names
            within a glob.

    Raises:
        DataError: when a file is missing, empty, damaged or of an unknown kind, or has no rows, no file
            matches a glob, or the files do not have the same columns.
    """
    if (files := files_of(source)) is not None:
        return join_tables([_read_file(file) for file in files], files)
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    try:
        frame = pl.DataFrame(source) if isinstance(source, dict) else _from_foreign(source)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"a table of type {type(source).__name__} cannot be read",
            mend="Give a path, or a pandas, Polars or Arrow table",
        ) from error
    return frame


def _from_foreign(source: TableLike) -> pl.DataFrame:
    """A pandas or Arrow table as a Polars one."""
    if type(source).__module__.startswith("pandas"):
        return pl.from_pandas(source)
    frame = pl.from_arrow(source)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("not a table")
    return frame


def name_of(source: TableLike) -> str | None:
    """The path of a table given as a path, for messages; None for a frame in memory.

    Of many files it names the first and tells how many more there are.
    """
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if _is_paths(source):
        first, more = os.fspath(source[0]), len(source) - 1
        return f"{first} and {more} more" if more else first
    return None


def files_of(source: TableLike) -> list[Path] | None:
    """The files of a path, a glob (`**` goes into folders) or a list of them; None for a table in memory.

    A path that exists is taken as it stands, whatever characters are in it.

    Raises:
        DataError: when no file matches a glob.
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
        raise DataError("no file matches", file=name, mend="Check the pattern and the folder")
    return [Path(path) for path in found]


def _is_paths(source: TableLike) -> bool:
    """Whether this is a list of paths, at least one."""
    listed = isinstance(source, (list, tuple)) and len(source) > 0
    return listed and all(isinstance(one, (str, os.PathLike)) for one in source)


def join_tables(
    tables: Sequence[pl.DataFrame], files: Sequence[str | os.PathLike[str] | None]
) -> pl.DataFrame:
    """Tables below one another: at least one, each with the columns of the first, in any order.

    Numbers of different widths meet in the wider; numbers and text do not meet.

    Raises:
        DataError: names the file and the column that does not fit the first file.
    """
    first = tables[0]
    for table, file in zip(tables[1:], files[1:], strict=True):
        for odd in sorted({*first.columns} ^ {*table.columns}):
            problem = "a column that the first of the files has is not here"
            if odd in table.columns:
                problem = "the first of the files has no such column"
            raise DataError(problem, file=file, column=odd, mend="Give files with the same columns")
        for name, dtype in first.schema.items():
            if not _meet(dtype, table.schema[name]):
                raise DataError(
                    f"the column is {table.schema[name]}, and {dtype} in the first of the files",
                    file=file,
                    column=name,
                    mend="Store it alike in all files",
                )
    if len(tables) == 1:
        return first
    return pl.concat([table.select(first.columns) for table in tables], how="vertical_relaxed")


def _meet(one: pl.DataType, other: pl.DataType) -> bool:
    """Whether columns of these types can stand below one another without changing what they hold."""
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


def _read_file(path: Path) -> pl.DataFrame:
    if not path.exists():
        raise missing("table", path)
    if path.is_dir():
        raise DataError("this is a folder, not a table", file=path, mend="Name one parquet or CSV file")
    if path.stat().st_size == 0:
        raise DataError("the file is empty", file=path, mend="Write the table again")
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    try:
        if kind in (".parquet", ".pq"):
            frame = pl.read_parquet(path, glob=False)
        elif kind in (".csv", ".csv.gz"):
            frame = pl.read_csv(path, infer_schema_length=10_000, glob=False)
        elif kind in _JSON_LINES:
            content = path.read_bytes()
            text = gzip.decompress(content) if path.suffix == ".gz" else content
            frame = pl.read_ndjson(text, infer_schema_length=10_000)
        else:
            raise DataError(
                f"tables of kind '{kind}' are not read",
                file=path,
                mend="Use .parquet, .csv, .csv.gz, .jsonl or .jsonl.gz",
            )
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0][:160].rstrip(".")
        raise DataError(
            f"the file is damaged or not a {kind[1:]} table ({reason})",
            file=path,
            mend="Write or copy it again",
        ) from error
    if frame.height == 0:
        raise DataError("the table has no rows", file=path, mend="Give a table with at least one row")
    return frame
