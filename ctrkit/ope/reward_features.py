"""What a reward model reads: context, candidate features and the candidate's id, as one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ctrkit.errors import DataError, nearest
from ctrkit.ope.log import BanditLog
from ctrkit.ope.moments import Floats
from ctrkit.schema import BANDIT_LOG, CANDIDATE_PREFIX, TRUTH_PREFIX

# Boosted trees take 255 categories; rarer ones stand together as "missing".
MOST_CATEGORIES = 254
# A reward that this share of the rows has is a common one.
COMMON_REWARD = 0.1


def context_columns(log: BanditLog) -> tuple[str, ...]:
    """The columns of a log that, as far as the log itself shows, were known before the decision.

    These are the numbers and texts outside the schema, and `position`. Left out are `true_*`, what describes
    the logged action (`x` beside a list `candidate_x`, and any column that the action determines), and
    outcomes (columns that have a single value wherever the reward has one of its common values, and others
    elsewhere, as a conversion has where there is no click): a model that reads one of those makes the
    estimates wrong.
    """
    table = log.table
    known = {column.name for column in BANDIT_LOG.columns} - {"position"}
    names = [
        name
        for name, dtype in table.schema.items()
        if name
        and name not in known
        and not name.startswith((TRUTH_PREFIX, CANDIDATE_PREFIX))
        and f"{CANDIDATE_PREFIX}{name}" not in table.columns
        and _is_scalar(dtype)
    ]
    if not names:
        return ()
    values = pl.col(names).n_unique()
    of_one_action = table.group_by("action").agg(values).select(pl.col(names).max()).row(0, named=True)
    by_reward = table.group_by("reward").agg(pl.len().alias("rows"), values)
    of_one_reward = by_reward.filter(pl.col("rows") >= COMMON_REWARD * table.height).select(
        pl.col(names).min()
    )
    same_reward = of_one_reward.row(0, named=True)
    # Where no reward is common the least number of values is unknown (None), and nothing is left out for it.
    return tuple(name for name in names if of_one_action[name] > 1 and (same_reward[name] or 2) > 1)


def _is_scalar(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.Boolean, pl.String, pl.Categorical, pl.Enum)


@dataclass(frozen=True)
class _Column:
    """How a column becomes numbers; `codes` are those of its categories, None for a numeric one."""

    name: str
    codes: dict[object, int] | None

    @classmethod
    def of(cls, values: pl.Series) -> _Column:
        numeric = values.dtype.is_numeric() or values.dtype == pl.Boolean
        return cls(values.name, None) if numeric else cls.categorical(values)

    @classmethod
    def categorical(cls, values: pl.Series) -> _Column:
        counts = values.drop_nulls().alias("value").value_counts(name="count")
        frequent = counts.sort("count", "value", descending=[True, False])["value"].head(MOST_CATEGORIES)
        return cls(values.name, {value: code for code, value in enumerate(frequent)})

    def encode(self, values: pl.Series) -> Floats:
        if self.codes is not None:
            return values.replace_strict(self.codes, default=None, return_dtype=pl.Float64).to_numpy()
        return values.cast(pl.Float64).to_numpy()


class CandidateFeatures:
    """The features of every candidate of every row, built for some rows at a time.

    Args:
        log: the log.
        columns: context columns; by default `context_columns(log)`. With them go every `candidate_*` list
            and the candidate's id.

    Raises:
        DataError: for a column that is missing or holds neither numbers nor texts.
    """

    def __init__(self, log: BanditLog, columns: Sequence[str] | None = None) -> None:
        self.log = log
        self.columns = tuple(columns) if columns is not None else context_columns(log)
        for name in self.columns:
            _check_context(log, name)
        context = [_Column.of(log.table[name]) for name in self.columns]
        self._context = np.empty((len(log), len(context)))
        for place, column in enumerate(context):
            self._context[:, place] = column.encode(log.table[column.name])
        self._lists = [
            _Column.of(log.table[name].explode())
            for name, dtype in log.table.schema.items()
            if log.actions is None
            and name.startswith(CANDIDATE_PREFIX)
            and isinstance(dtype, pl.List)
            and _is_scalar(log.table[name].explode().dtype)
        ]
        self._action = _Column.categorical(log.table["action"])
        self.is_categorical = [c.codes is not None for c in (*context, *self._lists, self._action)]

    def of_candidates(self, rows: slice) -> Floats:
        """One line a candidate, the candidates of a row in their order: [Σ K_i, D]."""
        candidates = self.log.candidates(rows)
        lengths = candidates.list.len().to_numpy()
        table = self.log.table[rows]
        return np.column_stack(
            [
                np.repeat(self._context[rows], lengths, axis=0),
                *(column.encode(table[column.name].explode()) for column in self._lists),
                self._action.encode(candidates.explode()),
            ]
        )

    def of_logged_actions(self) -> Floats:
        """One line a row: [N, D]."""
        table = self.log.table
        place = pl.Series(self.log.action_index)
        return np.column_stack(
            [
                self._context,
                *(column.encode(table[column.name].list.get(place)) for column in self._lists),
                self._action.encode(table["action"]),
            ]
        )


def _check_context(log: BanditLog, name: str) -> None:
    if name not in log.table.columns:
        raise DataError(
            "no such context column", file=log.file, column=name, mend=nearest(name, log.table.columns)
        )
    if not _is_scalar(log.table.schema[name]):
        raise DataError(
            f"a reward model reads numbers and texts, not {log.table.schema[name]}",
            file=log.file,
            column=name,
            mend="Leave the column out or cast it",
        )
