"""Draws of items for negatives: by popularity, alike, or from a session; none from the future, none known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.data.sampling import NegativesConfig
from ctrkit.hashing import GOLDEN, mixed

# Weights of items are whole numbers, so that draws are exact: an item with one positive has this weight.
_ONE = 1 << 10


@dataclass(frozen=True)
class LogRows:
    """The rows of a log, as far as draws read them. Arrays are [n].

    Attributes:
        items: number of the item, below 0 for none.
        units: number of the user or of the session whose items are left out or drawn from.
        times: times; None if all rows are of the same moment.
        positive: whether the row is a positive that counts.
    """

    items: Integers
    units: Integers
    times: Floats | None
    positive: Booleans

    def moments(self, rows: Integers) -> Floats:
        """The times of some rows."""
        return np.zeros(rows.size) if self.times is None else self.times[rows]


@dataclass(frozen=True)
class Room:
    """What m rows may get. Arrays are [m].

    Attributes:
        there: number of items that the log has had by then.
        start: place of the first pair of the row's unit.
        end: end of the unit's pairs with such items.
        total: sum of the weights to draw from; 0 where there is no item for the row.
        own: place of the pair of the row's own item, `end` if there is none; None unless by session.
    """

    there: Integers
    start: Integers
    end: Integers
    total: Integers
    own: Integers | None = None


class ItemDraws:
    """Draws items for the rows of a part of a log.

    Items stand in the order of their first rows, so that those which a row may get are a prefix of them.
    Draws are exact and need no second try: a number is drawn below the sum of the weights of all items that a
    row may get, and bisection finds how many of the items to leave out come before it.

    Args:
        log: the rows.
        seen: the rows that the part knows: its own and those of earlier parts, [n].
        config: how items are drawn.
        seed: random seed.
    """

    def __init__(self, log: LogRows, seen: Booleans, config: NegativesConfig, seed: int) -> None:
        self.log, self.config = log, config
        self._seed = mixed(np.array([seed], dtype=np.uint64) + GOLDEN)
        count = int(log.items.max(initial=-1)) + 1
        there, taken = np.flatnonzero(seen & (log.items >= 0)), seen & log.positive & (log.items >= 0)
        firsts = np.full(count, np.inf)
        np.minimum.at(firsts, log.items[there], log.moments(there))
        known = np.argsort(firsts, kind="stable")[: np.count_nonzero(firsts < np.inf)]
        self.items, self.firsts = known, firsts[known]
        ranks = np.full(count, -1)
        ranks[known] = np.arange(known.size)
        positives = np.bincount(log.items[taken], minlength=count)[known]
        power = config.power if config.by == "popularity" else 0.0
        weights = np.where(positives > 0, np.rint(_ONE * positives.astype(np.float64) ** power), 0.0)
        self.ends = np.concatenate([[0], np.cumsum(weights.astype(np.int64))])
        # Pairs of a unit and the rank of one of its items, as one number each.
        self.width = max(known.size, 1)
        rows = there if config.by == "session" else np.flatnonzero(taken)
        self.pairs = np.unique(log.units[rows] * self.width + ranks[log.items[rows]])
        self.ranks = np.append(ranks, -1)  # that of no item is the last
        # Of the items in their order, and of the items of the pairs: summed weights before each, and of all.
        of_pairs = self.pairs % self.width
        self.known_ends = np.concatenate([[0], np.cumsum(np.diff(self.ends)[of_pairs])])
        self.drawable = np.concatenate([[0], np.cumsum(weights > 0.0)])

    def room(self, rows: Integers) -> Room:
        """What some rows may get."""
        units = self.log.units[rows] * self.width
        there = np.searchsorted(self.firsts, self.log.moments(rows), side="right")
        start, end = (np.searchsorted(self.pairs, units + more) for more in (0, there))
        if self.config.by != "session":
            total = self.ends[there] - (self.known_ends[end] - self.known_ends[start])
            return Room(there, start, end, total)
        rank = self.ranks[self.log.items[rows]]
        own = np.where(rank < 0, end, np.searchsorted(self.pairs, units + rank))
        return Room(there, start, end, end - start - (own < end), own)

    def draw(self, rows: Integers) -> tuple[Integers, Floats]:
        """Items for some rows that have room, and by how much each counts, both [m, per_positive].

        What a row gets depends on the seed and its place in the log alone, not on the other rows.
        """
        room, shape = self.room(rows), (rows.size, self.config.per_positive)
        start, end, total = (one[:, None] for one in (room.start, room.end, room.total))
        place = np.minimum((self._uniform(rows) * total).astype(np.int64), total - 1)
        if room.own is not None:
            pair = start + place
            pair += pair >= room.own[:, None]
            return self.items[self.pairs[pair] % self.width], np.ones(shape)
        low, high = (np.broadcast_to(one, shape).copy() for one in (start, end))
        before = self.known_ends[start]
        while (open_ := low < high).any():
            middle = np.where(open_, (low + high) // 2, 0)
            weight = self.ends[self.pairs[middle] % self.width] - (self.known_ends[middle] - before)
            skipped = weight <= place
            low, high = np.where(open_ & skipped, middle + 1, low), np.where(open_ & ~skipped, middle, high)
        place += self.known_ends[low] - before
        ranks = np.searchsorted(self.ends, place, side="right") - 1
        if not self.config.corrected:
            return self.items[ranks], np.ones(shape)
        possible = (self.drawable[room.there] - (room.end - room.start))[:, None]
        return self.items[ranks], total / (possible * np.diff(self.ends)[ranks])

    def _uniform(self, rows: Integers) -> Floats:
        """A number between 0 and 1 for each draw of some rows, [m, per_positive]."""
        count = self.config.per_positive
        numbers = (rows[:, None] * count + np.arange(1, count + 1)).astype(np.uint64)
        words = mixed((numbers * GOLDEN) ^ self._seed)
        return np.asarray((words >> np.uint64(11)).astype(np.float64) / 2.0**53)
