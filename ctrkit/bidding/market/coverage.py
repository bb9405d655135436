"""Which hours a log covers: the first and last hour only in part, and gaps not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.bidding.market.auctions import DAY, HOUR

HOURS = DAY // HOUR
# Where this many auctions are usual, an hour has none by chance in only 5 of 100,000 cases (Poisson).
_USUAL = 10.0


@dataclass(frozen=True)
class Coverage:
    """The hours of a log, from that of its first auction to that of its last.

    Attributes:
        hour: [H], hours since 1970.
        share: [H], how much of each hour the log covers, from 0 to 1.
        auctions: [H], the number of auctions in each hour.
        gaps: [H], bool, whether an hour has no auctions where 10 or more are usual.
    """

    hour: Integers
    share: Floats
    auctions: Integers
    gaps: Booleans

    @classmethod
    def of(cls, timestamps: Floats) -> Self:
        """The coverage of a log with auctions at these moments.

        The log is assumed to begin half a mean time between auctions before its first auction, and to end as
        much after its last. A day without auctions is a gap if the other days have 10 or more on average. An
        hour without auctions is a gap if the same hour of the other days has 10 or more on average.

        Args:
            timestamps: [n], seconds since 1970, in any order, at least one.
        """
        first, last = float(timestamps.min()), float(timestamps.max())
        margin = (last - first) / max(len(timestamps) - 1, 1) / 2
        hour = np.arange(np.floor(first / HOUR), np.floor(last / HOUR) + 1).astype(np.int64)
        within = np.minimum(last + margin, (hour + 1) * HOUR) - np.maximum(first - margin, hour * HOUR)
        auctions = np.bincount(np.floor(timestamps / HOUR).astype(np.int64) - hour[0], minlength=len(hour))
        by_day = np.bincount(_day(hour), auctions)
        gaps = _unusual(by_day, np.zeros(len(by_day), np.int64))[_day(hour)]
        gaps[~gaps] = _unusual(auctions[~gaps], hour[~gaps] % HOURS)
        return cls(hour, np.where(gaps, 0.0, within / HOUR), auctions, gaps)

    @property
    def days(self) -> int:
        """How many days the log covers, or parts of them."""
        return int((self.hours_by_day() > 0).sum())

    def hours_by_day(self) -> Floats:
        """The number of hours that the log covers of each day, from its first to its last, [days]."""
        return np.bincount(_day(self.hour), self.share).astype(np.float64)

    def times(self, place: Integers, size: int) -> Floats:
        """How often the log covers each place of a period, [size], such as the hours of a day.

        Args:
            place: [H], the place of each of the log's hours in the period.
            size: the number of places of the period.
        """
        return np.bincount(place, self.share, minlength=size).astype(np.float64)

    def notes(self) -> tuple[str, ...]:
        """Notes on gaps, for results by day or by hour."""
        covered = np.bincount(_day(self.hour), ~self.gaps) > 0
        said = []
        if not covered.all():
            days = f"{(~covered).sum()} of {len(covered)} days"
            said.append(f"{days} have no auctions and count as gaps in the log.")
        if hours := int(self.gaps[covered[_day(self.hour)]].sum()):
            said.append(f"{hours} hours have no auctions, on days with many, and count as gaps in the log.")
        return tuple(said)


def _day(hour: Integers) -> Integers:
    """The day of each hour, from 0."""
    return np.asarray(hour // HOURS - hour[0] // HOURS)


def _unusual(count: NDArray[Any], kind: Integers) -> Booleans:
    """Which counts [m] are 0 although the other counts of their kind [m] are large on average."""
    some = np.bincount(kind, count > 0)
    usual = np.bincount(kind, count) / np.maximum(some, 1)
    return np.asarray((count == 0) & (usual[kind] >= _USUAL))
