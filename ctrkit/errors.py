"""All errors, by who has to act.

CtrkitError
├── InputError        the input is wrong; the message names file, column, row and what to do (exit 2)
│   ├── ConfigError   a config file, an unknown key, a value out of range
│   ├── DataError     a table: missing column, wrong type, value out of range, unreadable file
│   └── ArtifactError a model file that is not a ctrkit artifact, is damaged, or lacks a needed part
└── RunError          the input is valid, but the work failed (exit 1)
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Literal, TypeAlias, TypeVar

T = TypeVar("T")

# The expected content of a file.
FileRole: TypeAlias = Literal["table", "vectors", "model", "config"]


class TableName(str):
    """The name of a table in messages, which knows the file of each row.

    As the `file` of an error, it gives the file of the row and the row index in that file.
    """

    files: tuple[str, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, files: Sequence[str], starts: Sequence[int]) -> TableName:
        """A table's name, its files, and the row index of each file's first row in the table, ascending."""
        made = cls(name)
        made.files, made.starts = tuple(files), tuple(starts)
        return made

    def place(self, row: int) -> tuple[str, int]:
        """The file of a row of the table, and its row index in that file."""
        part = bisect_right(self.starts, row) - 1
        return self.files[part], row - self.starts[part]

    def after(self, rows: int) -> TableName:
        """The name of the table without its first `rows` rows."""
        return TableName.of(str(self), self.files, [start - rows for start in self.starts])


class DataWarning(UserWarning):
    """The data are valid, but unlike the training data of a model: its predictions are not reliable."""


class TrainingWarning(UserWarning):
    """A fact about a training that its user should know; the result's notes have it too."""


class CtrkitError(Exception):
    """Base of all errors that ctrkit raises on purpose."""


class InputError(CtrkitError):
    """The input is wrong.

    Args:
        problem: what is wrong, as one sentence without a full stop.
        file: the file with the fault; None if there is none.
        column: the column with the fault; None if there is none.
        row: index of the first faulty row (the first row is 0).
        hint: what the user should do, as an imperative sentence without a full stop.
        argument: the argument of the called function with the fault; None if there is none.
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
        self.file = os.fspath(file) if file else None
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
        """The known facts about the fault, for machines."""
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
    """Replace the argument in an error's message by the column of the user's table that was passed in it.

    A function seldom sees the whole table, so its row index is left out if a file is given.

    Args:
        columns: argument -> column. Errors about other arguments, or without a column, do not change.
        file: name of the user's table.
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
    """The input is valid, but the work failed."""


def reason(error: BaseException) -> str:
    """The message of an error without its full stop, for the end of a sentence."""
    return f"{error}".rstrip(".") or type(error).__name__


def first_line(error: BaseException) -> str:
    """The beginning of an error of another library, for the middle of a sentence."""
    return reason(error).splitlines()[0][:160].rstrip(".")


def attempt(what: str, work: Callable[[], T], tell: Callable[[str], None]) -> T | None:
    """The result of secondary work, or None after a note on the error, so that the main result is not lost.

    Args:
        what: name of the result, for the note.
        work: the work.
        tell: receives the note.
    """
    try:
        return work()
    except Exception as error:
        tell(f"There is no {what}: {reason(error)}.")
        return None


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most similar to a misspelt one, as the hint of an error."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'" if close else f"Known names: {', '.join(names)}"


def missing(kind: FileRole, file: str | os.PathLike[str]) -> InputError:
    """The error for a missing file, by its expected content."""
    if kind == "table":
        return DataError(
            "no such file", file=file, hint="Check the path, or make sample logs with `ctrkit sample-logs`"
        )
    if kind == "vectors":
        return DataError("no such file of vectors", file=file, hint="Correct the path `table` of the vector")
    if kind == "model":
        return ArtifactError("no such model file", file=file, hint="Train one with `ctrkit train`")
    return ConfigError("no such config file", file=file, hint="Check the path")


def is_glob(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a pattern for several files."""
    return any(sign in os.fspath(path) for sign in "*?[")
