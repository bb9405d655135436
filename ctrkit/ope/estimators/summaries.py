"""Several statistics of the same rows, in whose sums nothing stands twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from ctrkit.ope.estimators.base import LoggedRows, Summary
from ctrkit.ope.intervals.moments import ProductSums

# Rows whose columns are in memory twice; they fit into a processor's cache.
BLOCK = 8_192


class Summaries:
    """Estimators and others, fed together; each has its sums when it is asked for by `members`.

    An array that several of them sum up is one column of one `ProductSums`. So of a user are kept, say, a sum
    of the weights and one of the rewards for all estimators of a policy, and a sum of terms for each.

    Args:
        members: new ones, without rows.
    """

    def __init__(self, members: Sequence[Summary]) -> None:
        self._members = tuple(members)
        self.sums = ProductSums(1)
        # Of each `Moments` of each member: the places of its four entries among the columns.
        self._places: tuple[tuple[tuple[int, ...], ...], ...] = ()
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
        """Take in what another of the same members has seen, of these or of other users."""
        for mine, theirs in zip(self._members, other._members, strict=True):
            mine.join(theirs)
        if other._places:
            self._start(other._places, len(other.sums.rows))
            self.sums.merge(other.sums)

    def _start(self, places: tuple[tuple[tuple[int, ...], ...], ...], columns: int) -> None:
        if not self._places:
            self._places, self.sums = places, ProductSums(columns)
        # Members share the same arrays, whatever the rows.
        assert self._places == places
        self._settled = False

    @property
    def members(self) -> tuple[Summary, ...]:
        """With all rows so far in their sums."""
        if not self._settled:
            rows, users, carriers = self.sums.rows, self.sums.users, self.sums.carriers
            largest, clustered = self.sums.largest, self.sums.clustered
            for member, places in zip(self._members, self._places, strict=True):
                for one, own in zip(member.sums, places, strict=True):
                    square = np.ix_(own, own)
                    one.set(rows[square], users[square], largest, carriers[list(own)], clustered=clustered)
                member.settle()
            self._settled = True
        return self._members

    def places(self, member: int) -> tuple[tuple[int, ...], ...]:
        """Of each of a member's `Moments`, the places of its four entries among the columns of the sums."""
        return self._places[member]
