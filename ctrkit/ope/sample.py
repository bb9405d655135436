"""Rows of a log to fit a model on: all of them, or of a long log those of as many users as there is room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import polars as pl

from ctrkit.hashing import GOLDEN, Words, mixed
from ctrkit.ope.log import BanditLog
from ctrkit.policies.candidates import Mask
from ctrkit.schema import CANDIDATE_PREFIX
from ctrkit.tables import join_tables

LOGGED = "logging_probabilities"


class Sample:
    """The rows of the users with the least hashes, at most `most` rows in all.

    So a user's rows are there together or not at all, and which they are depends neither on how the log is
    cut nor on the order of its parts.

    Args:
        most: rows.
        seed: of the hash.
        narrow: whether of the candidates only the logged one is kept.
    """

    def __init__(self, most: int, seed: int = 0, narrow: bool = True) -> None:
        self.most, self.seed, self.narrow = most, seed, narrow
        self.parts: list[BanditLog] = []
        self.seen = 0

    def update(self, log: BanditLog) -> None:
        """Take in a batch."""
        self.parts.append(narrowed(log) if self.narrow else log)
        self.seen += len(log)
        # Not at every batch, as each pruning looks at all that is kept.
        if sum(len(part) for part in self.parts) > 2 * self.most:
            self._prune()

    def merge(self, other: Self) -> None:
        """Take in what another has seen."""
        self.parts += other.parts
        self.seen += other.seen
        self._prune()

    def log(self) -> BanditLog:
        """The rows, as a log of their own."""
        self._prune()
        return join_logs(self.parts)

    @property
    def whole(self) -> bool:
        """Whether all rows are there."""
        return self.seen == sum(len(part) for part in self.parts)

    def _prune(self) -> None:
        sizes = [len(part) for part in self.parts]
        if sum(sizes) <= self.most:
            return
        hashes = np.concatenate([self._hash(part.units) for part in self.parts])
        known, rows = np.unique(hashes, return_counts=True)
        kept = known[: np.searchsorted(np.cumsum(rows), self.most, side="right")]
        inside = hashes <= kept[-1] if len(kept) else np.zeros(len(hashes), dtype=bool)
        masks = np.split(inside, np.cumsum(sizes)[:-1])
        self.parts = [taken(part, mask) for part, mask in zip(self.parts, masks, strict=True) if mask.any()]

    def _hash(self, units: Words) -> Words:
        start = mixed(np.array([self.seed & (2**64 - 1)], dtype=np.uint64) * GOLDEN + GOLDEN)
        return mixed(units ^ start)


def taken(log: BanditLog, mask: Mask) -> BanditLog:
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


def narrowed(log: BanditLog) -> BanditLog:
    """The log as if the logged action had been each row's only candidate; as it is where it names none."""
    if log.actions is not None:
        return log
    place = pl.Series(log.action_index)
    lists = [
        name
        for name, dtype in log.table.schema.items()
        if isinstance(dtype, pl.List) and (name == "candidates" or name.startswith(CANDIDATE_PREFIX))
    ]
    table = log.table.drop(LOGGED, strict=False).with_columns(
        log.table[name].list.get(place).reshape((-1, 1)).cast(log.table.schema[name]) for name in lists
    )
    return replace(log, table=table, action_index=np.zeros(len(log), dtype=np.int64))


def among(log: BanditLog, actions: pl.Series | None) -> BanditLog:
    """A batch of a log that names no candidates, with the actions of the whole log."""
    if log.actions is None or actions is None:
        return log
    place = actions.search_sorted(log.table["action"]).to_numpy().astype(np.int64)
    return replace(log, actions=actions, action_index=place)


def join_logs(logs: Sequence[BanditLog]) -> BanditLog:
    """Batches of one log as one; where it names no candidates, with the actions of all of them."""
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
    return among(joined, joined.table["action"].unique().sort())
