"""Several statistics of the same rows, with shared sums: no array is summed twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from ctrkit.ope.estimators.base import EstimatorSums, LoggedRows
from ctrkit.ope.intervals.moments import ProductSums

# Rows that are copied at a time; they fit into a processor's cache.
BLOCK = 8_192


class Summaries:
    """Estimators and other summaries that are updated together; `members` gives each its own sums.

    An array that several of them need is one column of a shared `ProductSums`. For example, each user has one
    sum of the weights and one of the rewards for all estimators of a policy, and a sum of terms per
    estimator.

    Args:
        members: new summaries, without rows.
    """

    def __init__(self, members: Sequence[EstimatorSums]) -> None:
        self._members = tuple(members)
        self.sums = ProductSums(1)
        # For each `Moments` of each member: the indices of its four entries among the columns of z.
        self._columns: tuple[tuple[tuple[int, ...], ...], ...] = ()
        self._settled = True

    def update(self, rows: Sequence[LoggedRows]) -> None:
        """Take in the same rows as each member sees them: users and counts agree."""
        first = rows[0]
        arrays = [np.ones(len(first.rewards))]
        known: dict[int, int] = {}
        places = []
        for member, seen in zip(self._members, rows, strict=True):
            own = []
            for columns in member.observe(seen):
                for array in columns:
                    if id(array) not in known:
                        known[id(array)] = len(arrays)
                        arrays.append(array)
                own.append((0, *(known[id(array)] for array in columns)))
            places.append(tuple(own))
        self._start(tuple(places), len(arrays))
        users, counts = first.users, first.counts
        for start in range(0, len(counts), BLOCK):
            some = slice(start, start + BLOCK)
            block = np.stack([array[some] for array in arrays])
            self.sums.add(block, None if users is None else users[some], counts[some])

    def merge(self, other: Self) -> None:
        """Merge the rows of another with the same members, of the same or of other users."""
        for mine, theirs in zip(self._members, other._members, strict=True):
            mine.join(theirs)
        if other._columns:
            self._start(other._columns, len(other.sums.rows))
            self.sums.merge(other.sums)

    def _start(self, places: tuple[tuple[tuple[int, ...], ...], ...], columns: int) -> None:
        if not self._columns:
            self._columns, self.sums = places, ProductSums(columns)
        # Members share the same arrays, whatever the rows.
        assert self._columns == places
        self._settled = False

    @property
    def members(self) -> tuple[EstimatorSums, ...]:
        """The summaries, with all rows so far in their sums."""
        if not self._settled:
            rows, users, carriers = self.sums.rows, self.sums.users, self.sums.carriers
            largest, clustered = self.sums.largest, self.sums.clustered
            for member, places in zip(self._members, self._columns, strict=True):
                for one, own in zip(member.sums, places, strict=True):
                    square = np.ix_(own, own)
                    one.set(rows[square], users[square], largest, carriers[list(own)], clustered=clustered)
                member.settle()
            self._settled = True
        return self._members

    def columns_of(self, member: int) -> tuple[tuple[int, ...], ...]:
        """For each `Moments` of a member, the indices of its four entries among the columns of the sums."""
        return self._columns[member]
