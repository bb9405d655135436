"""Frequency caps: how often one user may be shown a bidder's ads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Floats, Indices, Integers
from ctrkit.errors import ConfigError, DataError


@dataclass(frozen=True)
class FrequencyCap:
    """At most so many impressions a user.

    Attributes:
        impressions: at least 1.
        period: seconds after which counting starts afresh, such as `DAY`, whose days are those of UTC;
            None for the whole run.

    Raises:
        ConfigError: impressions that are no whole number of at least 1, or a period that is not above 0.
    """

    impressions: int
    period: float | None = None

    def __post_init__(self) -> None:
        if not (self.impressions >= 1 and self.impressions % 1 == 0):
            raise ConfigError(
                f"a frequency cap of {self.impressions:g} impressions a user is none",
                hint="Give a whole number of at least 1",
            )
        if self.period is not None and not (np.isfinite(self.period) and self.period > 0):
            raise ConfigError(
                f"the period of the frequency cap is {self.period:g} and must be above 0",
                hint="Give seconds, 86400 for a day, or none for the whole run",
            )

    def periods(self, auctions: int, timestamp: Floats | None) -> Integers:
        """The number of the period that each auction falls into, [n].

        Raises:
            DataError: with a period, for auctions without a time.
        """
        if self.period is None:
            return np.zeros(auctions, np.int64)
        if timestamp is None:
            raise DataError(
                "a frequency cap by time needs the time of each auction",
                column="timestamp",
                hint="Add it, or cap the impressions of the whole run",
            )
        return np.asarray(np.floor(timestamp / self.period), np.int64)

    def groups(self, user: NDArray[np.integer[Any]] | None, timestamp: Floats | None = None) -> Integers:
        """Codes from 0 of the auctions that count together, [n]: of one user in one period.

        Raises:
            DataError: for auctions without users or, where it is needed, without a time.
        """
        user = _known(user)
        _, period = np.unique(self.periods(len(user), timestamp), return_inverse=True)
        _, group = np.unique(user * (int(period.max(initial=0)) + 1) + period, return_inverse=True)
        return np.asarray(group, np.int64)


@dataclass(frozen=True)
class Audience:
    """Who sees n auctions, and how often they were shown the bidder's ads before.

    Attributes:
        user: [n], codes from 0.
        period: [n], of each auction.
        limit: how many impressions a user may have in a period.
        count: [U], impressions by user in the period `counted` [U]; both are updated by `clear`.
    """

    user: Integers
    period: Integers
    limit: int
    count: Integers
    counted: Integers


class TimesShown:
    """How often each user was shown one bidder's ads; it grows with the highest user code it meets."""

    def __init__(self, cap: FrequencyCap) -> None:
        self.cap = cap
        self._count, self._counted = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def meet(self, user: NDArray[np.integer[Any]] | None, timestamp: Floats | None = None) -> Audience:
        """The audience of n auctions to come, for `clear`.

        Raises:
            DataError: for auctions without users or, where it is needed, without a time.
        """
        user = _known(user)
        short = int(user.max(initial=-1)) + 1 - len(self._count)
        if short > 0:  # at least twice as many, so that it happens rarely
            more = np.zeros(max(short, len(self._count)), np.int64)
            self._count, self._counted = np.append(self._count, more), np.append(self._counted, more)
        period = self.cap.periods(len(user), timestamp)
        return Audience(user, period, self.cap.impressions, self._count, self._counted)


def best_of_each(group: NDArray[np.integer[Any]], value: Floats, cost: Floats, most: int) -> Indices:
    """The places, ascending, of the largest `most` values of each group; of equals the cheaper, then earlier.

    Args:
        group: [n], codes from 0.
        value, cost: [n].
    """
    crowded = np.bincount(group)[group] > most
    rows = np.flatnonzero(crowded)
    order = rows[np.lexsort((cost[rows], -value[rows], group[rows]))]
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    chosen = ~crowded
    chosen[order[rank < most]] = True
    return np.flatnonzero(chosen)


def _known(user: NDArray[np.integer[Any]] | None) -> Integers:
    if user is None:
        raise DataError(
            "a frequency cap needs to know who sees each auction",
            column="user",
            hint="Add a column of users, or leave the cap out",
        )
    return user.astype(np.int64, copy=False)
