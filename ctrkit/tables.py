"""Tables in and out: one reader for every format that ctrkit takes, and writes that are atomic."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from ctrkit.errors import DataError

# A table as a user may hand it over: a path, or a pandas, Polars or Arrow frame.
TableLike: TypeAlias = Any


def read_table(source: TableLike) -> pl.DataFrame:
    """Read a table from a path or a frame into Polars.

    Args:
        source: a `.parquet`, `.csv`, `.csv.gz`, `.jsonl` path, or a Polars, pandas or Arrow table.

    Raises:
        DataError: when the file is missing, empty, damaged or of an unknown kind, or has no rows.
    """
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source))
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
    """The path of a table given as a path, for messages; None for a frame in memory."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def _read_file(path: Path) -> pl.DataFrame:
    if not path.exists():
        raise DataError(
            "no such file", file=path, mend="Check the path, or make sample logs with `ctrkit sample-logs`"
        )
    if path.is_dir():
        raise DataError("this is a folder, not a table", file=path, mend="Name one parquet or CSV file")
    if path.stat().st_size == 0:
        raise DataError("the file is empty", file=path, mend="Write the table again")
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    try:
        if kind in (".parquet", ".pq"):
            frame = pl.read_parquet(path)
        elif kind in (".csv", ".csv.gz"):
            frame = pl.read_csv(path, infer_schema_length=10_000)
        elif kind in (".jsonl", ".ndjson"):
            frame = pl.read_ndjson(path)
        else:
            raise DataError(
                f"tables of kind '{kind}' are not read",
                file=path,
                mend="Use .parquet, .csv, .csv.gz or .jsonl",
            )
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0][:160].rstrip(".")
        raise DataError(
            f"the file is damaged or not a {kind[1:]} table ({reason})",
            file=path,
            mend="Write or copy it again",
        ) from error
    if frame.height == 0:
        raise DataError("the table has no rows", file=path, mend="Give a table with at least one row")
    return frame


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file so that it is there whole or not at all.

    Yields a temporary path in the same folder; when the block ends well, the file is flushed to disk and
    renamed over `path`, and when it raises, the temporary file is removed and `path` is untouched.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; a written table should be as readable as any other new file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def write_table(frame: pl.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a table as parquet, atomically; the same frame gives the same bytes."""
    with atomic_path(path) as temporary:
        frame.write_parquet(temporary, compression="zstd", compression_level=9, statistics=True)
    return Path(path)


def write_text(text: str, path: str | os.PathLike[str]) -> Path:
    """Write a text file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(value: Any, path: str | os.PathLike[str]) -> Path:
    """Write one JSON value, atomically; NaN is not JSON and is refused."""
    return write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", path)
