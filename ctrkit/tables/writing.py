"""Files out: whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl


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
