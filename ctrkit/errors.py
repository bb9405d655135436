"""Everything that can go wrong, by whose turn it is to act.

CtrkitError
├── InputError        what was given is wrong; the message names file, column, row and what to do (exit 2)
│   ├── ConfigError   a config file, an unknown key, a value out of range
│   ├── DataError     a table: missing column, wrong type, value out of range, unreadable file
│   └── ArtifactError a model file that is no ctrkit artifact, is damaged, or lacks a needed part
└── RunError          the input was fine and the work failed (exit 1)
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Literal, TypeAlias, TypeVar

T = TypeVar("T")

# What a file may be there to hold.
FileRole: TypeAlias = Literal["table", "model", "config"]


class TableName(str):
    """The name of a table in messages, which knows in which file each of its rows lies.

    Given as the `file` of an error, it names the file and the row in it rather than the table.
    """

    files: tuple[str, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, files: Sequence[str], starts: Sequence[int]) -> TableName:
        """A table's name, its files, and the number in the table of the first row of each, rising."""
        made = cls(name)
        made.files, made.starts = tuple(files), tuple(starts)
        return made

    def place(self, row: int) -> tuple[str, int]:
        """The file of a row of the table, and its number there."""
        part = bisect_right(self.starts, row) - 1
        return self.files[part], row - self.starts[part]

    def after(self, rows: int) -> TableName:
        """The name for the rest of the table, from a row on: its first row is row 0 there."""
        return TableName.of(str(self), self.files, [start - rows for start in self.starts])


class DataWarning(UserWarning):
    """What was read is sound and unlike what a model was trained on: its predictions say little."""


class TrainingWarning(UserWarning):
    """Something that whoever trains should know; the result's notes say it too."""


class CtrkitError(Exception):
    """Base of all errors that ctrkit raises on purpose."""


class InputError(CtrkitError):
    """What was given is wrong.

    Args:
        problem: one sentence on what is wrong, without a full stop.
        file: the file that holds the fault, when there is one.
        column: the column, when the fault is in one.
        argument: the argument of the function that was called, when the fault is in one.
        row: the first faulty row, counted from 0.
        hint: what the reader should do about it, as an imperative sentence without a full stop.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | os.PathLike[str] | None = None,
        column: str | None = None,
        row: int | None = None,
        hint: str | None = None,
        argument: str | None = None,
    ) -> None:
        if isinstance(file, TableName) and row is not None:
            file, row = file.place(row)
        self.problem, self.column, self.row, self.hint = problem, column, row, hint
        self.argument = argument
        self.file = os.fspath(file) if file is not None else None
        place = [
            part
            for part in (
                self.file,
                f"column '{column}'" if column is not None else None,
                f"argument `{argument}`" if argument is not None else None,
                f"row index {row}" if row is not None else None,
            )
            if part
        ]
        message = f"{', '.join(place)}: {problem}." if place else f"{problem}."
        end = "?" if hint and hint.startswith("Did you mean") else "."
        super().__init__(f"{message} {hint}{end}" if hint else message)

    def parts(self) -> dict[str, str | int]:
        """What is known of the fault, for machines."""
        known = {
            "problem": self.problem, "file": self.file, "column": self.column, "argument": self.argument,
            "row": self.row, "hint": self.hint,
        }  # fmt: skip
        return {name: value for name, value in known.items() if value is not None}

    def __reduce__(self) -> tuple[Callable[..., InputError], tuple[object, ...]]:
        # An exception is copied, to another process say, by its one message; this one has parts.
        parts = (self.problem, self.file, self.column, self.row, self.hint, self.argument)
        return _rebuilt, (type(self), *parts)


class ConfigError(InputError):
    """A config file or a `--set` value is wrong."""


class DataError(InputError):
    """A table is wrong."""


class ArtifactError(InputError):
    """A model file is wrong, or lacks what the command needs."""


def _rebuilt(
    kind: type[InputError],
    problem: str,
    file: str | None,
    column: str | None,
    row: int | None,
    hint: str | None,
    argument: str | None,
) -> InputError:
    return kind(problem, file=file, column=column, row=row, hint=hint, argument=argument)


@contextmanager
def arguments_named(
    columns: Mapping[str, str | None], file: str | os.PathLike[str] | None = None
) -> Iterator[None]:
    """Name the column of the user's table where an error names the argument of a function that got it.

    A function seldom sees the whole table, so that its number of the row is left out where a file is named.

    Args:
        columns: argument -> column; an argument that is not among them, or has no column, stays as it is.
    """
    try:
        yield
    except InputError as error:
        column = columns.get(error.argument or "")
        if column is None:
            raise
        row = error.row if file is None else None
        raise type(error)(error.problem, file=file, column=column, row=row, hint=error.hint) from error


class RunError(CtrkitError):
    """The input was fine and the work failed."""


def reason(error: BaseException) -> str:
    """What an error says, for the end of a sentence: without its own full stop."""
    return f"{error}".rstrip(".") or type(error).__name__


def attempt(what: str, work: Callable[[], T], tell: Callable[[str], None]) -> T | None:
    """What something secondary gives, or None after telling why there is none: nothing done is lost to it.

    Args:
        what: it gives, for the sentence.
        tell: takes the sentence.
    """
    try:
        return work()
    except Exception as error:
        tell(f"There is no {what}: {reason(error)}.")
        return None


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name nearest to a misspelt one, as a phrase for the hint of an error."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'" if close else f"Known are: {', '.join(names)}"


def missing(kind: FileRole, file: str | os.PathLike[str]) -> InputError:
    """The error for a file that is not there, by what it was to hold."""
    if kind == "table":
        return DataError(
            "no such file", file=file, hint="Check the path, or make sample logs with `ctrkit sample-logs`"
        )
    if kind == "model":
        return ArtifactError("no such model file", file=file, hint="Train one with `ctrkit train`")
    return ConfigError("no such config file", file=file, hint="Check the path")


def is_glob(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a pattern for several files."""
    return any(sign in os.fspath(path) for sign in "*?[")
