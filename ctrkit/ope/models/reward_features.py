"""What a reward model reads: context, candidate features and the candidate's id, as numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.errors import DataError, nearest
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.schema import BANDIT_LOG, CANDIDATE_PREFIX, TRUTH_PREFIX

# Boosted trees take 255 categories; rarer ones stand together as "missing".
MOST_CATEGORIES = 254
# A reward that this share of the decisions has is a common one.
COMMON_REWARD = 0.1
_DECISIONS = "decisions that the row stands for"


def context_columns(log: BanditLog, excluded: Collection[str] = ()) -> tuple[str, ...]:
    """The columns of a log that, as far as the log itself shows, were known before the decision.

    These are the numbers and texts outside the schema, `position`, and vectors: lists of floats, all of one
    length. Left out are `true_*`, what describes the logged action (`x` beside a list `candidate_x`, and any
    column that the action determines), and outcomes (columns that have a single value wherever the reward
    has one of its common values, and others elsewhere, as a conversion has where there is no click): a model
    that reads one of those makes the estimates wrong.

    Args:
        excluded: names of columns that are known to be none, such as a policy's probabilities of the action.
    """
    table = log.table
    known = {column.name for column in BANDIT_LOG.columns} - {"position"} | {*excluded}
    names = [
        name
        for name, dtype in table.schema.items()
        if name
        and name not in known
        and not name.startswith((TRUTH_PREFIX, CANDIDATE_PREFIX))
        and f"{CANDIDATE_PREFIX}{name}" not in table.columns
        and (_is_scalar(dtype) or _is_float_vector(table[name]))
    ]
    if not names:
        return ()
    values = pl.col(names).n_unique()
    of_one_action = table.group_by("action").agg(values).select(pl.col(names).max()).row(0, named=True)
    counted = table.with_columns(pl.Series(_DECISIONS, log.counts))
    by_reward = counted.group_by("reward").agg(pl.col(_DECISIONS).sum(), values)
    common = by_reward.filter(pl.col(_DECISIONS) >= COMMON_REWARD * log.counts.sum())
    of_one_reward = common.select(pl.col(names).min())
    same_reward = of_one_reward.row(0, named=True)
    # Where no reward is common the least number of values is unknown (None), and nothing is left out for it.
    return tuple(name for name in names if of_one_action[name] > 1 and (same_reward[name] or 2) > 1)


def _is_scalar(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.Boolean, pl.String, pl.Categorical, pl.Enum)


def _is_float_vector(values: pl.Series) -> bool:
    # Lists of whole numbers are ids more often than quantities: they are read only where they are named.
    return (
        isinstance(values.dtype, (pl.List, pl.Array))
        and values.dtype.inner in (pl.Float32, pl.Float64)
        and len(_widths(values)) == 1
    )


def _widths(values: pl.Series) -> list[int]:
    """The lengths that the lists of a column have, 0 and missing ones aside."""
    if isinstance(values.dtype, pl.Array):
        return [values.dtype.size]
    return sorted(width for width in values.list.len().unique() if width)


@dataclass(frozen=True)
class Features:
    """M candidates of B rows: what is known of the row, once a row, and what is known of the candidate.

    Numbers are as they are, NaN where missing; categories are codes from 0, NaN where missing or unknown.

    Attributes:
        context: [B, C].
        own: [M, L].
        row: [M] whose candidates they are, places from 0 to B - 1.
        is_categorical: [C + L].
    """

    context: Floats
    own: Floats
    row: Integers
    is_categorical: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def matrix(self) -> Floats:
        """One line a candidate, [M, C + L]."""
        return np.column_stack([self.context[self.row], self.own])

    def of_rows(self, chosen: Booleans) -> Features:
        """The candidates of some rows, given as [B]."""
        index = np.cumsum(chosen) - 1
        mine = chosen[self.row]
        return Features(self.context[chosen], self.own[mine], index[self.row[mine]], self.is_categorical)


@dataclass(frozen=True)
class _Column:
    """How a column becomes numbers.

    Attributes:
        codes: of the categories; None for numbers.
        width: numbers a row; more than 1 for vectors, None for single values.
    """

    name: str
    codes: dict[object, int] | None = None
    width: int | None = None

    @classmethod
    def of(cls, values: pl.Series, counts: Floats) -> _Column:
        if values.dtype.is_numeric() or values.dtype == pl.Boolean:
            return cls(values.name)
        return cls.categorical(values, counts)

    @classmethod
    def categorical(cls, values: pl.Series, counts: Floats) -> _Column:
        """The most frequent values of decisions, each of which is there `counts` [B] times."""
        table = pl.DataFrame({"value": _ids(values), "count": counts}).drop_nulls("value")
        found = table.group_by("value").agg(pl.col("count").sum())
        frequent = found.sort("count", "value", descending=[True, False])["value"].head(MOST_CATEGORIES)
        return cls(values.name, {value: code for code, value in enumerate(frequent)})

    @property
    def is_categorical(self) -> tuple[bool, ...]:
        return (self.codes is not None,) * (self.width or 1)

    def encode(self, values: pl.Series) -> Floats:
        """[B, width]."""
        if self.width is not None:
            return _vectors(values, self.width)
        if self.codes is None:
            return values.cast(pl.Float64).to_numpy()[:, None]
        found = _ids(values).replace_strict(self.codes, default=None, return_dtype=pl.Float64)
        return found.to_numpy()[:, None]


def _ids(values: pl.Series) -> pl.Series:
    """Whole numbers as they are, all else as text, so that parts of a log agree."""
    return values if values.dtype.is_integer() else values.cast(pl.String)


def _vectors(values: pl.Series, width: int) -> Floats:
    """Lists that all have the width, or are missing, as [B, width]."""
    lists = values.cast(pl.List(pl.Float64))
    matrix = np.full((len(lists), width), np.nan)
    matrix[lists.is_not_null().to_numpy()] = lists.drop_nulls().explode().to_numpy().reshape(-1, width)
    return matrix


@dataclass(frozen=True)
class CandidateFeatures:
    """The features of candidates, for any part of a log; types and codes are those of a sample.

    Attributes:
        columns: context columns.
    """

    columns: tuple[str, ...]
    _context: tuple[_Column, ...]
    _lists: tuple[_Column, ...]
    _action: _Column

    @classmethod
    def fit(cls, sample: BanditLog, columns: Sequence[str] | None = None) -> CandidateFeatures:
        """Learn types and categories; with the context go every `candidate_*` list and the candidate's id.

        Args:
            columns: context columns; by default `context_columns(sample)`.

        Raises:
            DataError: for a column that is missing or holds no numbers, texts or vectors.
        """
        columns = tuple(columns) if columns is not None else context_columns(sample)
        table = sample.table
        lists = [
            (table[name].explode(), np.repeat(sample.counts, table[name].list.len().to_numpy()))
            for name, dtype in table.schema.items()
            if sample.actions is None and name.startswith(CANDIDATE_PREFIX) and isinstance(dtype, pl.List)
        ]
        return cls(
            columns,
            tuple(_context_column(sample, name) for name in columns),
            tuple(_Column.of(*one) for one in lists if _is_scalar(one[0].dtype)),
            _Column.categorical(table["action"], sample.counts),
        )

    @property
    def is_categorical(self) -> tuple[bool, ...]:
        """Which features are categories, [D]."""
        every = (*self._context, *self._lists, self._action)
        return tuple(flag for column in every for flag in column.is_categorical)

    def of_candidates(self, log: BanditLog, rows: slice) -> Features:
        """The candidates of some rows, those of a row in their order.

        Raises:
            DataError: for a column that the sample had and this part of the log has not, and for vectors of
                another length.
        """
        table = log.table[rows]
        lists = [column.encode(_of(log, table, column.name).explode()) for column in self._lists]
        if log.actions is None:
            candidates = log.candidates(rows)
            lengths = candidates.list.len().to_numpy()
            action = self._action.encode(candidates.explode())
        else:
            lengths = np.full(table.height, log.actions.len())
            action = np.tile(self._action.encode(log.actions), (table.height, 1))
        row = np.repeat(np.arange(table.height), lengths)
        context = self._of_rows(log, rows)
        return Features(context, np.hstack([*lists, action]), row, self.is_categorical)

    def of_logged_actions(self, log: BanditLog) -> Features:
        """The logged action of each row of a log."""
        logged = pl.Series(log.action_index)
        lists = [column.encode(_of(log, log.table, column.name).list.get(logged)) for column in self._lists]
        own = np.hstack([*lists, self._action.encode(log.table["action"])])
        context = self._of_rows(log, slice(0, len(log)))
        return Features(context, own, np.arange(len(log)), self.is_categorical)

    def _of_rows(self, log: BanditLog, rows: slice) -> Floats:
        """[B, C]."""
        table = log.table[rows]
        parts = [np.empty((table.height, 0))]
        for column in self._context:
            values = _of(log, table, column.name)
            if column.width is not None:
                _check_width(log, values, column.width, rows.start or 0)
            parts.append(column.encode(values))
        return np.hstack(parts)


def _of(log: BanditLog, table: pl.DataFrame, name: str) -> pl.Series:
    if name not in table.columns:
        raise DataError(
            "no such context column", file=log.file, column=name, hint=nearest(name, table.columns)
        )
    return table[name]


def _check_width(log: BanditLog, values: pl.Series, width: int, first: int) -> None:
    """Every list has the width, or is missing; the first value is that of row `first` of the log."""
    lengths = values.cast(pl.List(pl.Float64)).list.len().fill_null(width).to_numpy()
    wrong = np.flatnonzero(lengths != width)
    if wrong.size:
        location = log.locate(first + int(wrong[0]))
        raise DataError(
            f"the list has {lengths[wrong[0]]} numbers where others have {width}",
            file=location.file,
            column=values.name,
            row=location.row,
            hint="Give vectors of one length, or leave the column out",
        )


def _context_column(log: BanditLog, name: str) -> _Column:
    values = _of(log, log.table, name)
    dtype = values.dtype
    if _is_scalar(dtype):
        return _Column.of(values, log.counts)
    vector = isinstance(dtype, (pl.List, pl.Array)) and dtype.inner.is_numeric()
    if vector and not name.startswith(CANDIDATE_PREFIX) and (widths := _widths(values)):
        _check_width(log, values, widths[0], 0)
        return _Column(name, width=widths[0])
    raise DataError(
        f"a reward model reads numbers, texts and vectors of numbers, not {dtype}",
        file=log.file,
        column=name,
        hint="Leave the column out or cast it",
    )
