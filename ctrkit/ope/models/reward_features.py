"""The features of a reward model: context, candidate features and the candidate's id, as numbers."""

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

# Boosted trees take 255 categories; rarer ones count as "missing".
MOST_CATEGORIES = 254
# A reward is common if at least this share of the decisions has it.
COMMON_REWARD = 0.1
_DECISIONS = "decisions that the row stands for"


def context_columns(log: BanditLog, excluded: Collection[str] = ()) -> tuple[str, ...]:
    """The columns of a log that, as far as the log itself shows, were known before the decision.

    These are columns of numbers and texts outside the schema, `position`, and vectors (lists of floats of one
    length). Other columns would make the estimates wrong, and are left out: `true_*`; columns that describe
    the logged action (`x` beside a list `candidate_x`, and any column that the action determines); and
    outcomes (columns with a single value wherever the reward has one of its common values, and other values
    elsewhere, such as a conversion, which is 0 where there is no click).

    Args:
        log: the log.
        excluded: columns that are known not to be context, such as a policy's probabilities of the action.
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
    # If no reward is common, the smallest number of values is None, and no column is left out as an outcome.
    return tuple(name for name in names if of_one_action[name] > 1 and (same_reward[name] or 2) > 1)


def _is_scalar(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.Boolean, pl.String, pl.Categorical, pl.Enum)


def _is_float_vector(values: pl.Series) -> bool:
    # Lists of whole numbers are more often ids than quantities: they are read only if a user names them.
    return (
        isinstance(values.dtype, (pl.List, pl.Array))
        and values.dtype.inner in (pl.Float32, pl.Float64)
        and len(_widths(values)) == 1
    )


def _widths(values: pl.Series) -> list[int]:
    """The lengths of the lists of a column, without empty and missing lists."""
    if isinstance(values.dtype, pl.Array):
        return [values.dtype.size]
    return sorted(width for width in values.list.len().unique() if width)


@dataclass(frozen=True)
class Features:
    """Features of M candidates of B rows: context features of the rows, and the candidates' own features.

    Numbers are NaN where missing. Categories are codes from 0, NaN where missing or unknown.

    Attributes:
        context: [B, C] features of the rows.
        own: [M, L] features of the candidates.
        row: [M] index of each candidate's row, from 0 to B - 1.
        is_categorical: [C + L] whether each feature is a category.
    """

    context: Floats
    own: Floats
    row: Integers
    is_categorical: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def matrix(self) -> Floats:
        """One row of features for each candidate, [M, C + L]."""
        return np.column_stack([self.context[self.row], self.own])

    def of_rows(self, chosen: Booleans) -> Features:
        """The candidates of some rows, given as a mask [B]."""
        index = np.cumsum(chosen) - 1
        mine = chosen[self.row]
        return Features(self.context[chosen], self.own[mine], index[self.row[mine]], self.is_categorical)


@dataclass(frozen=True)
class _Column:
    """How a column becomes numbers.

    Attributes:
        name: name of the column.
        codes: code of each category; None for numbers.
        width: length of the vectors; None for single values.
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
        """The most frequent values, where row b counts `counts[b]` times."""
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
    """Whole numbers as they are, other ids as text, so that the parts of a log agree."""
    return values if values.dtype.is_integer() else values.cast(pl.String)


def _vectors(values: pl.Series, width: int) -> Floats:
    """Lists that all have length `width`, or are missing, as [B, width]."""
    lists = values.cast(pl.List(pl.Float64))
    matrix = np.full((len(lists), width), np.nan)
    matrix[lists.is_not_null().to_numpy()] = lists.drop_nulls().explode().to_numpy().reshape(-1, width)
    return matrix


@dataclass(frozen=True)
class CandidateFeatures:
    """Encodes rows and candidates of any part of a log as features; types and codes come from a sample.

    Attributes:
        columns: the context columns.
    """

    columns: tuple[str, ...]
    _context: tuple[_Column, ...]
    _lists: tuple[_Column, ...]
    _action: _Column

    @classmethod
    def fit(cls, sample: BanditLog, columns: Sequence[str] | None = None) -> CandidateFeatures:
        """Learn types and categories of the context, of every `candidate_*` list and of the candidate's id.

        Args:
            sample: the log to learn from.
            columns: context columns; by default `context_columns(sample)`.

        Raises:
            DataError: a column is missing, or holds neither numbers, texts nor vectors.
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
        """The features of the candidates of some rows; the candidates of a row keep their order.

        Raises:
            DataError: a column of the sample is missing in this part of the log, or vectors have another
                length.
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
        """The features of the logged action of each row."""
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
    """Check that every list has length `width` or is missing; `first` is the row of the first value."""
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
