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
        file: the path, for messages; None for a table in memory.
        notes: sentences on what the reader changed, left out or assumed.
        actions: all actions that could be chosen, where the format gives them for the whole log and not for
            each row; None: the actions that were logged.
    """

    table: pl.DataFrame
    file: str | None
    notes: tuple[str, ...] = ()
    actions: pl.Series | None = None


@dataclass(frozen=True)
class Format:
    """A format in which bandit logs are stored.

    Attributes:
        name: the value of `--format`.
        meaning: a few words on the format.
        read: reads a file, or an object in memory where the format has one. Its second argument is
            `skip_bad_lines`: whether broken lines are left out, in formats of lines.
    """

    name: str
    meaning: str
    read: Callable[[Any, bool], LogTable]


def check_file(path: Path) -> None:
    """Refuse a path that has no file, a folder or an empty file."""
    if not path.exists():
        raise missing("table", path)
    if path.is_dir():
        raise DataError(
            "this is a folder, not a log", file=path, hint=f"Name its files, for example '{path}/*'"
        )
    if path.stat().st_size == 0:
        raise DataError("the file is empty", file=path, hint="Write the log again")
