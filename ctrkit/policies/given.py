"""Policies whose numbers are columns: a probability or a score of every candidate, made by any model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from ctrkit.arrays import Booleans, Floats
from ctrkit.errors import DataError, nearest
from ctrkit.policies.base import Policy
from ctrkit.policies.candidates import candidate_mask, padded
from ctrkit.tables.cells import lists_of

# Probabilities are often written with a few digits; then they sum to almost 1.
SUM_TOLERANCE = 1e-3
SEPARATOR = "|"
LENGTHS = "Give a number for each candidate, in their order"


@dataclass(frozen=True)
class Beside:
    """Where the numbers stand, if in a table beside the log whose columns were joined to it.

    Attributes:
        file: the table's name; None in memory.
        row: column of the log with the row of that table.
        called: column of the log -> its name in the table.
    """

    file: str | None
    row: str
    called: Mapping[str, str]


class GivenNumbers(ABC):
    """A number of every candidate, read from columns of the log.

    Attributes:
        name: what the columns are called together, for messages.
        beside: the table that they come from, if it is not the log.
    """

    name: str
    beside: Beside | None = None

    @abstractmethod
    def _numbers(self, context: pl.DataFrame, candidates: pl.Series, mask: Booleans) -> Floats:
        """The numbers [B, K] at the places of the mask; what stands elsewhere is ignored."""

    def __call__(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The numbers of the candidates, [B, K], 0 at missing places.

        Raises:
            DataError: a number is missing or not finite, or a list is too long or too short.
        """
        mask = candidate_mask(candidates)
        found = np.where(mask, self._numbers(context, candidates, mask), 0.0)
        wrong = np.argwhere(~np.isfinite(found))
        if wrong.size:
            row, place = map(int, wrong[0])
            what = "is missing" if np.isnan(found[row, place]) else "is not finite"
            problem = f"the number of candidate {candidates[row][place]!r} {what}"
            raise self.refusal(context, problem, row, "Fill it in")
        return found

    def refusal(
        self, context: pl.DataFrame, problem: str, row: int, hint: str, column: str | None = None
    ) -> DataError:
        """The error for a row of the context, which names the file and the row that the numbers come from."""
        column = column or self.name
        if self.beside is None:
            return DataError(problem, column=column, row=row, hint=hint)
        at = int(context[self.beside.row][row])
        return DataError(
            problem,
            file=self.beside.file or "the table of the policy",
            column=self.beside.called.get(column, column),
            row=at,
            hint=hint,
        )


class ListedNumbers(GivenNumbers):
    """A list in each row, in the order of the row's candidates.

    Args:
        column: the column of lists, or of texts such as `0.2|0.8`.
        beside: where it comes from.
    """

    def __init__(self, column: str, beside: Beside | None = None) -> None:
        self.name, self.beside = column, beside

    def _numbers(self, context: pl.DataFrame, candidates: pl.Series, mask: Booleans) -> Floats:
        lists = context[self.name]
        if lists.dtype == pl.String:
            lists = lists_of(lists, SEPARATOR)
        numbers = lists.cast(pl.List(pl.Float64), strict=False)
        lengths, wanted = numbers.list.len().fill_null(0), candidates.list.len()
        wrong = lengths != wanted
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            problem = f"the list has {lengths[row]} numbers for {wanted[row]} candidates"
            raise self.refusal(context, problem, row, LENGTHS)
        return padded(numbers)


class NumbersByAction(GivenNumbers):
    """A column for each action, whose name holds the action's id.

    Args:
        name: of all columns, with a star in place of the id, such as `p_*`.
        columns: id as text -> column.
        beside: where they come from.
    """

    def __init__(self, name: str, columns: Mapping[str, str], beside: Beside | None = None) -> None:
        self.name, self.columns, self.beside = name, tuple(columns.values()), beside
        self.place = {action: index for index, action in enumerate(columns)}

    def _numbers(self, context: pl.DataFrame, candidates: pl.Series, mask: Booleans) -> Floats:
        actions = candidates.explode().cast(pl.String)
        places = actions.replace_strict(self.place, default=-1, return_dtype=pl.Int64).to_numpy()
        rows = np.repeat(np.arange(len(mask)), mask.sum(axis=1))
        if (places < 0).any():
            at = int(np.argmax(places < 0))
            hint = nearest(actions[at], self.place) if len(self.place) < 50 else "Add the column"
            problem = f"there is no column of candidate '{actions[at]}'"
            raise self.refusal(context, problem, int(rows[at]), hint)
        every = np.column_stack([self._column(context, name) for name in self.columns])
        found = np.zeros(mask.shape)
        found[mask] = every[rows, places]
        return found

    def _column(self, context: pl.DataFrame, name: str) -> Floats:
        values = context[name]
        numbers = values.cast(pl.Float64, strict=False)
        wrong = numbers.is_null() & values.is_not_null()
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise self.refusal(context, f"{values[row]!r} is not a number", row, "Write a number", name)
        return numbers.fill_null(np.nan).to_numpy()


class GivenPolicy(Policy):
    """A policy whose probabilities of all candidates are given.

    Args:
        numbers: the probabilities.
    """

    name: ClassVar[str] = "column"

    def __init__(self, numbers: GivenNumbers) -> None:
        self.numbers = numbers

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The given probabilities, [B, K], divided by their sum, which may be off by `SUM_TOLERANCE`.

        Raises:
            DataError: a row is no distribution over its candidates, or a number is missing.
        """
        found = self.numbers(context, candidates)
        total = found.sum(axis=1)
        well = (found >= 0).all(axis=1) & (np.abs(total - 1) <= SUM_TOLERANCE)
        if not well.all():
            row = int(np.argmin(well))
            least = found[row][candidate_mask(candidates)[row]].min()
            problem = (
                f"the probabilities of the candidates sum to {total[row]:.9g}, and the least is {least:.9g}"
            )
            hint = "Probabilities are at least 0 and sum to 1; put a policy after scores, as in NAME:softmax"
            raise self.numbers.refusal(context, problem, row, hint)
        return np.asarray(found / total[:, None])


@dataclass(frozen=True)
class ColumnPattern:
    """The name of a column, or of several with a star in place of an action's id."""

    text: str

    @property
    def starred(self) -> bool:
        """Whether it has exactly one star."""
        return self.text.count("*") == 1

    def action(self, column: str) -> str | None:
        """What the star stands for in a column; None where the pattern does not fit."""
        before, _, after = self.text.partition("*")
        fits = self.starred and column.startswith(before) and column.endswith(after)
        middle = column[len(before) : len(column) - len(after)]
        return middle if fits and middle and len(column) >= len(before) + len(after) else None

    def fits(self, column: str) -> bool:
        """Whether a column is meant."""
        return column == self.text or self.action(column) is not None
