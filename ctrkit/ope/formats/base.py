"""What a format is: how a file, or an object in memory, becomes a table under the log schema's names."""

from __future__ import annotations

from collections.abc import Callable
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
        actions: all that there are to choose among, where the format tells and names no candidates a row;
            None: those that were logged.
    """

    table: pl.DataFrame
    file: str | None
    notes: tuple[str, ...] = ()
    actions: pl.Series | None = None


@dataclass(frozen=True)
class Format:
    """One way to write down a bandit log.

    Attributes:
        name: as `--format` takes it.
        meaning: what it is, in a few words.
        read: reads a file, broken lines left out where that is asked for (`skip_bad_lines`) and the format is
            one of lines; takes an object in memory too where the format has one.
    """

    name: str
    meaning: str
    read: Callable[[Any, bool], LogTable]


def check_file(path: Path) -> None:
    """Refuse a path where there is no file or an empty one."""
    if not path.exists():
        raise missing("table", path)
    if path.is_dir():
        raise DataError("this is a folder, not a log", file=path, hint=f"Name its files, '{path}/*' say")
    if path.stat().st_size == 0:
        raise DataError("the file is empty", file=path, hint="Write the log again")
