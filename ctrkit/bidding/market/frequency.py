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
    """A largest number of impressions per user.

    Attributes:
        impressions: the largest number of impressions per user and period, at least 1.
        period: the length of a period in seconds, such as `DAY`; periods are counted from 1970 (UTC). None
            is one period for the whole run.

    Raises:
        ConfigError: `impressions` is not a whole number of at least 1, or `period` is not above 0.
    """

    impressions: int
    period: float | None = None

    def __post_init__(self) -> None:
        if not (self.impressions >= 1 and self.impressions % 1 == 0):
            raise ConfigError(
                f"the frequency cap is {self.impressions:g} impressions per user, but must be at least 1",
                hint="Give a whole number of at least 1",
            )
        if self.period is not None and not (np.isfinite(self.period) and self.period > 0):
            raise ConfigError(
                f"the period of the frequency cap is {self.period:g} and must be above 0",
                hint="Give seconds (86400 for a day), or no period for the whole run",
            )

    def periods(self, auctions: int, timestamp: Floats | None) -> Integers:
        """The number of the period of each auction, [n].

        Args:
            auctions: n.
            timestamp: [n], seconds since 1970; only read where the cap has a period.

        Raises:
            DataError: the cap has a period, and the auctions have no time.
        """
        if self.period is None:
            return np.zeros(auctions, np.int64)
        if timestamp is None:
            raise DataError(
                "a frequency cap with a period needs the time of each auction",
                column="timestamp",
                hint="Add the column, or cap the impressions of the whole run",
            )
        return np.asarray(np.floor(timestamp / self.period), np.int64)

    def groups(self, user: NDArray[np.integer[Any]] | None, timestamp: Floats | None = None) -> Integers:
        """Codes from 0, [n]: auctions of one user in one period have the same code.

        Args:
            user: [n], codes of users from 0.
            timestamp: [n], seconds since 1970; only read where the cap has a period.

        Raises:
            DataError: auctions without users or, for a cap with a period, without a time.
        """
        user = _known(user)
        _, period = np.unique(self.periods(len(user), timestamp), return_inverse=True)
        _, group = np.unique(user * (int(period.max(initial=0)) + 1) + period, return_inverse=True)
        return np.asarray(group, np.int64)


@dataclass(frozen=True)
class Audience:
    """Who sees n auctions, and how often they were shown the bidder's ads before.

    Attributes:
        user: [n], codes of users from 0.
        period: [n], the number of the period of each auction.
        limit: the largest number of impressions per user and period.
        count: [U], impressions of each user in its period `counted`; `clear` updates it.
        counted: [U], the period that `count` is about; `clear` updates it.
    """

    user: Integers
    period: Integers
    limit: int
    count: Integers
    counted: Integers


class TimesShown:
    """How often each user was shown one bidder's ads; it grows with the highest user code so far.

    Args:
        cap: the frequency cap.
    """

    def __init__(self, cap: FrequencyCap) -> None:
        self.cap = cap
        self._count, self._counted = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def meet(self, user: NDArray[np.integer[Any]] | None, timestamp: Floats | None = None) -> Audience:
        """The audience of the next n auctions, for `clear`.

        Args:
            user: [n], codes of users from 0.
            timestamp: [n], seconds since 1970; only read where the cap has a period.

        Raises:
            DataError: auctions without users or, for a cap with a period, without a time.
        """
        user = _known(user)
        short = int(user.max(initial=-1)) + 1 - len(self._count)
        if short > 0:  # at least twice as many, so that it happens rarely
            more = np.zeros(max(short, len(self._count)), np.int64)
            self._count, self._counted = np.append(self._count, more), np.append(self._counted, more)
        period = self.cap.periods(len(user), timestamp)
        return Audience(user, period, self.cap.impressions, self._count, self._counted)


def best_of_each(group: NDArray[np.integer[Any]], value: Floats, cost: Floats, most: int) -> Indices:
    """The indices, ascending, of the `most` largest values of each group.

    Among equal values the cheaper one comes first, then the earlier one.

    Args:
        group: [n], codes from 0.
        value: [n].
        cost: [n].
        most: the largest number per group.
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
            "a frequency cap needs the user of each auction",
            column="user",
            hint="Add a column of users, or leave the cap out",
        )
    return user.astype(np.int64, copy=False)
