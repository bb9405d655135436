"""Writes files atomically: a file is complete or does not exist."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

import polars as pl

from ctrkit.errors import ConfigError, CtrkitError, DataError, RunError

# Ends the names of files that are being written.
_PART = ".part"
# Endings of tables that are written part by part.
WRITTEN = (".parquet", ".csv", ".jsonl")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file atomically, so that it is complete or does not exist.

    Yields a temporary path in the same folder. If the block ends normally, the file is flushed to disk and
    renamed to `path`. If it raises, the temporary file is removed and `path` is unchanged. Temporary files of
    earlier writes of `path` that were killed are removed first.

    Raises:
        RunError: the operating system refuses: no room, no permission, or `path` is a folder.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        handle, temporary = _new_part(target)
    except OSError as error:
        raise unwritable(target, error) from error
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
    except CtrkitError:
        raise
    except Exception as error:
        # Libraries raise their own errors on a full disk, so we test whether the disk is full.
        refusal = error if isinstance(error, OSError) else _refusal(handle)
        if refusal is None:
            raise
        raise unwritable(target, refusal) from error
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def unwritable(path: str | os.PathLike[str], error: OSError) -> RunError:
    """The error for a file that the operating system refuses to write."""
    reason = (error.strerror or str(error)).lower()
    return RunError(f"{os.fspath(path)} cannot be written: {reason}. Make room there, or give another path.")


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise an error if a file cannot be written at a path, before any work is done.

    Raises:
        ConfigError: the path is a folder, or a parent of it is a file.
        RunError: there is no permission.
    """
    file = Path(path)
    if file.is_dir():
        raise ConfigError(
            "this is a folder, not a file",
            file=path,
            hint="Give the path of a file, for example in this folder",
        )
    # The nearest parent that exists; folders below it are made when the file is written.
    folder = next(one for one in file.absolute().parents if one.exists())
    if not folder.is_dir():
        raise ConfigError(
            f"'{folder}', a parent of this path, is a file", file=path, hint="Give another path"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunError(f"{file} cannot be written: no permission for {folder}. Give another path.")


def _new_part(target: Path) -> tuple[int, Path]:
    """A new temporary file beside a file, open and locked.

    The lock shows that its writer is alive; it ends with the process.
    """
    while True:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=_PART)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):
            return handle, Path(name)
        os.close(handle)  # another process removed it before it was locked


def _refusal(handle: int) -> OSError | None:
    """The error of the operating system when an open temporary file is made larger; None if there is none."""
    try:
        os.lseek(handle, 0, os.SEEK_END)
        for _ in range(16):
            os.write(handle, bytes(2**16))
    except OSError as error:
        return error
    return None


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary files of writes of this file that were killed."""
    for leftover in target.parent.glob(f".{escape(target.name)}.*{_PART}"):
        with suppress(OSError), leftover.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error: its writer is alive
            leftover.unlink()


def write_table(frame: pl.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a table as parquet, atomically; the same frame gives the same bytes."""
    with atomic_path(path) as temporary:
        frame.write_parquet(temporary, compression="zstd", compression_level=9, statistics=True)
    return Path(path)


@contextmanager
def table_writer(path: str | os.PathLike[str]) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Write a table part by part, atomically; the ending of the path says how (`WRITTEN`).

    Yields a function that appends rows. All parts get the columns and types of the first.

    Raises:
        ConfigError: tables of this ending are not written.
        DataError: a part has values that do not fit the type of the first.
    """
    ending = Path(path).suffix.lower()
    if ending not in WRITTEN:
        raise ConfigError(
            f"tables of kind '{ending}' are not written", file=path, hint=f"Use {', '.join(WRITTEN)}"
        )
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        schema: dict[str, pl.DataType] = {}
        with ExitStack() as stack:
            writers: list[Any] = []

            def append(frame: pl.DataFrame) -> None:
                first = not schema
                if first:
                    schema.update(frame.schema)
                frame = _typed(frame, schema, path)
                if ending == ".csv":
                    frame.write_csv(file, include_header=first)
                elif ending == ".jsonl":
                    frame.write_ndjson(file)
                else:
                    rows = frame.to_arrow()
                    if first:
                        from pyarrow.parquet import ParquetWriter

                        writers.append(stack.enter_context(ParquetWriter(file, rows.schema)))
                    writers[0].write_table(rows)

            yield append


def _typed(frame: pl.DataFrame, schema: dict[str, pl.DataType], path: str | os.PathLike[str]) -> pl.DataFrame:
    """A frame with the types of an earlier one."""
    for name, dtype in schema.items():
        try:
            frame = frame.with_columns(frame[name].cast(dtype))
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"the first rows hold {dtype}, and these hold {frame[name].dtype}, which cannot stand in one"
                f" column of {os.fspath(path)}",
                column=name,
                hint="Write a .csv",
            ) from error
    return frame.select(list(schema))


def write_text(text: str, path: str | os.PathLike[str]) -> Path:
    """Write a text file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(value: Any, path: str | os.PathLike[str]) -> Path:
    """Write one JSON value, atomically; NaN is not JSON and is refused."""
    return write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", path)
