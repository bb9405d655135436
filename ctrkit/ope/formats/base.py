"""What a format is: how a file, or an object in memory, becomes a table under the log schema's names."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ctrkit.errors import DataError, missing


@dataclass(frozen=True)
class LogTable:
    """One file's rows, before any check of their values.

    Attributes:
        table: columns under the names or aliases of `ctrkit.schema.BANDIT_LOG`, and any others.
        file: where it came from, for messages; None for a table in memory.
        notes: sentences on what was changed, left out or taken for granted in reading.
    """

    table: pl.DataFrame
    file: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """One way to write down a bandit log.

    Attributes:
        name: as `--format` takes it.
        meaning: what it is, in a few words.
        read: reads a file; takes an object in memory too where the format has one.
    """

    name: str
    meaning: str
    read: Callable[[Any], LogTable]


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file, packed by gzip or not, with their numbers from 0; blank ones are left out.

    Raises:
        DataError: when the file is missing, empty, or no UTF-8 text.
    """
    check_file(path)
    try:
        with gzip.open(path, "rt", encoding="utf-8") if packed(path) else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                if text := line.strip():
                    yield number, text
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"the file is damaged or no text ({error})", file=path, mend="Write or copy it again"
        ) from error


def check_file(path: Path) -> None:
    """Refuse a path where there is no file or an empty one."""
    if not path.exists():
        raise missing("table", path)
    if path.is_dir():
        raise DataError("this is a folder, not a log", file=path, mend=f"Name its files, '{path}/*' say")
    if path.stat().st_size == 0:
        raise DataError("the file is empty", file=path, mend="Write the log again")


def packed(path: Path) -> bool:
    """Whether the file is a gzip archive, told by its first two bytes."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
