"""A sample of a log to fit a model on: all rows, or in a long log all rows of some users."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import polars as pl

from ctrkit.arrays import Booleans
from ctrkit.errors import DataError
from ctrkit.hashing import GOLDEN, Words, mixed
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.schema import CANDIDATE_PREFIX
from ctrkit.tables import join_tables

LOGGED = "logging_probabilities"


class Sample:
    """All rows of the users with the smallest hashes, at most `most` rows.

    A user's rows are in the sample together or not at all. Which users those are depends neither on how the
    log is cut nor on the order of its parts.

    Args:
        most: largest number of rows.
        seed: seed of the hash.
        narrow: whether to keep only the logged candidate, and only lists of floats and lists in `named`.
        named: columns that a model was told to read.
    """

    def __init__(self, most: int, seed: int = 0, narrow: bool = True, named: Collection[str] = ()) -> None:
        self.most, self.seed, self.narrow, self.named = most, seed, narrow, named
        self.parts: list[BanditLog] = []
        self.seen = 0
        # There was no room for the user with this hash. Some of the user's rows are gone, so this user and
        # all with a larger hash stay out, even if there seems to be room later.
        self.end: np.uint64 | None = None

    def update(self, log: BanditLog) -> None:
        """Add a batch."""
        self.parts.append(narrowed(log, self.named) if self.narrow else log)
        self.seen += len(log)
        # Not at every batch, because each pruning reads all rows that are kept.
        if sum(len(part) for part in self.parts) > 2 * self.most:
            self._prune()

    def merge(self, other: Self) -> None:
        """Add the rows of another sample of the same log."""
        self.parts += other.parts
        self.seen += other.seen
        self.end = min((end for end in (self.end, other.end) if end is not None), default=None)
        self._prune()

    def log(self) -> BanditLog:
        """The sample as a log.

        Raises:
            DataError: the first user alone has more than `most` rows.
        """
        self._prune()
        if not self.parts:
            raise DataError(
                f"one user has more than {self.most:,} rows, the most that a model is fitted on",
                hint="Set cluster_by to a column with more values",
            )
        return join_logs(self.parts)

    @property
    def whole(self) -> bool:
        """Whether the sample is the whole log."""
        return self.seen == sum(len(part) for part in self.parts)

    def _prune(self) -> None:
        if not self.parts or (self.end is None and sum(len(part) for part in self.parts) <= self.most):
            return
        hashes = [self._hash(part.units) for part in self.parts]
        flat = np.concatenate(hashes)
        known, rows = np.unique(flat if self.end is None else flat[flat < self.end], return_counts=True)
        room = int(np.searchsorted(np.cumsum(rows), self.most, side="right"))
        if room < len(known):
            self.end = known[room]
        if self.end is not None:
            masks = [own < self.end for own in hashes]
            self.parts = [
                taken(part, mask) for part, mask in zip(self.parts, masks, strict=True) if mask.any()
            ]

    def _hash(self, units: Words) -> Words:
        start = mixed(np.array([self.seed & (2**64 - 1)], dtype=np.uint64) * GOLDEN + GOLDEN)
        return mixed(units ^ start)


def taken(log: BanditLog, mask: Booleans) -> BanditLog:
    """The rows of a log where a mask [N] is True."""
    return replace(
        log,
        table=log.table.filter(pl.Series(mask)),
        reward=log.reward[mask],
        propensity=log.propensity[mask],
        action_index=log.action_index[mask],
        units=log.units[mask],
        parts=(),
    )


def narrowed(log: BanditLog, named: Collection[str] = ()) -> BanditLog:
    """The log with the logged action as each row's only candidate, without lists that no model reads.

    Args:
        named: list columns to keep whatever their type.
    """
    idle = [
        name
        for name, dtype in log.table.schema.items()
        if isinstance(dtype, pl.List)
        and not (dtype.inner.is_float() or name in named)
        and name != "candidates"
        and not name.startswith(CANDIDATE_PREFIX)
    ]
    log = replace(log, table=log.table.drop(idle))
    if log.actions is not None:
        return log
    index = pl.Series(log.action_index)
    lists = [
        name
        for name, dtype in log.table.schema.items()
        if isinstance(dtype, pl.List) and (name == "candidates" or name.startswith(CANDIDATE_PREFIX))
    ]
    table = log.table.drop(LOGGED, strict=False).with_columns(
        log.table[name].list.get(index).reshape((-1, 1)).cast(log.table.schema[name]) for name in lists
    )
    return replace(log, table=table, action_index=np.zeros(len(log), dtype=np.int64))


def with_all_actions(log: BanditLog, actions: pl.Series | None) -> BanditLog:
    """A batch of a log without a candidates column, with all actions of the log as candidates."""
    if log.actions is None or actions is None:
        return log
    index = actions.search_sorted(log.table["action"]).to_numpy().astype(np.int64)
    return replace(log, actions=actions, action_index=index)


def join_logs(logs: Sequence[BanditLog]) -> BanditLog:
    """Batches of one log, joined; without a candidates column, with the actions of all of them."""
    if len(logs) == 1:
        return logs[0]
    first = logs[0]
    joined = replace(
        first,
        table=join_tables([log.table for log in logs], [log.file for log in logs]),
        reward=np.concatenate([log.reward for log in logs]),
        propensity=np.concatenate([log.propensity for log in logs]),
        action_index=np.concatenate([log.action_index for log in logs]),
        units=np.concatenate([log.units for log in logs]),
        parts=(),
    )
    if first.actions is None:
        return joined
    every = [log.actions.to_frame("action") for log in logs if log.actions is not None]
    return with_all_actions(joined, pl.concat(every, how="vertical_relaxed")["action"].unique().sort())
