"""Spend plans: what part of its budget an episode is to have spent, by how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Booleans, Floats, Indices
from ctrkit.bidding.market.auctions import DAY, HOUR
from ctrkit.errors import ConfigError, DataError

HOURS = 24
_LEAST = 1e-300


# The expected traffic of a part counts as so much of it, beside the traffic that is seen in it.
_EXPECTED = 0.1


class Seen(NamedTuple):
    """What was seen of the part of a plan that an episode is in: since which share of it, how many."""

    part: int = -1
    since: float = 0.0
    auctions: int = 0


NOTHING_SEEN = Seen()


@dataclass(frozen=True, eq=False)
class Clock:
    """When the parts of a plan are.

    Attributes:
        begin, end: [m], ascending; seconds since 1970, or since midnight (UTC) of any day where `daily`.
        auctions: [m], expected in each part, above 0.
        daily: whether the parts come again each day.
    """

    begin: Floats
    end: Floats
    auctions: Floats
    daily: bool = False

    def place(self, time: Floats) -> tuple[Indices, Floats, Booleans]:
        """The part that each moment [n] lies in, or that comes next, how much of it is over by then, from 0
        to 1, and whether the moment lies in it."""
        moment = np.mod(time, DAY) if self.daily else time
        part = np.minimum(np.searchsorted(self.end, moment, side="right"), len(self.end) - 1)
        since, length = moment - self.begin[part], self.end[part] - self.begin[part]
        over = np.clip(since / np.maximum(length, _LEAST), 0.0, 1.0)
        return part, over, np.asarray((since >= 0) & (since <= length))


@dataclass(frozen=True, eq=False)
class SpendPlan:
    """What part of its budget an episode spends in each of m parts of its auctions, evenly within each.

    Even spend an auction is best where all hours are alike. Where prices and values move with the hour, the
    best spend does too, and the shape of an earlier day tells how.

    Attributes:
        share: [m], at least 0 and not all 0, in any unit; made to add up to 1. In a part without a share
            nothing is bid.
        traffic: [m], how many of the auctions are in each part, at least 0, in any unit; equally many by
            default. Parts without auctions are left out, so their share goes to the others in proportion.
        at_once: whether all that is left may be spent in the next tick instead, see `asap`.
        clock: when the parts are, for plans by hour. Where the time is known, they go by it; else by how many
            of the auctions are over.
        edges: [m + 1], from 0 to 1: where the parts that have auctions begin and end.

    Raises:
        ConfigError: for no parts, shares or traffic out of range, or no share where there are auctions.
    """

    share: Floats
    traffic: Floats | None = None
    at_once: bool = False
    clock: Clock | None = field(default=None, repr=False)
    edges: Floats = field(init=False, repr=False)
    _spent: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        share = np.asarray(self.share, np.float64)
        traffic = np.ones(share.shape) if self.traffic is None else np.asarray(self.traffic, np.float64)
        if share.ndim != 1 or share.shape != traffic.shape:
            raise ConfigError(
                f"a spend plan has shares of the shape {share.shape} and traffic of {traffic.shape}",
                hint="Give one number of each for every part of the episode",
            )
        if not all((np.isfinite(one) & (one >= 0)).all() for one in (share, traffic)):
            raise ConfigError(
                "the parts of a spend plan are not all finite and at least 0",
                hint="Give each part of the episode its share of the budget, 0 where nothing is to be spent",
            )
        share, traffic = share[traffic > 0], traffic[traffic > 0]
        if not share.any():
            raise ConfigError(
                "no part of a spend plan that has auctions has a share above 0",
                hint="Give at least one such part a share of the budget",
            )
        spent, gone = np.cumsum(share), np.cumsum(traffic)
        object.__setattr__(self, "share", share / spent[-1])
        object.__setattr__(self, "traffic", traffic)
        object.__setattr__(self, "edges", np.append(0.0, gone / gone[-1]))
        object.__setattr__(self, "_spent", np.append(0.0, spent / spent[-1]))

    @classmethod
    def asap(cls) -> Self:
        """As soon as possible: every tick may spend all that is left, until it is gone."""
        return cls(np.ones(1), at_once=True)

    @classmethod
    def by_hour(cls, share_of_hour: Mapping[int, float] | ArrayLike, timestamps: ArrayLike) -> Self:
        """By the end of each hour its share has been spent, whatever the traffic in it.

        Of hours that have auctions on several days each gets its share every day. The share of hours without
        auctions goes to the others in proportion. (Where only counts of auctions to come are known, by hour
        in their order, the plan is `SpendPlan(shares, counts)`.)

        Args:
            share_of_hour: [24], of hours of the day (UTC), or by hour from 0 to 23, where those that are
                missing get nothing; at least 0, in any unit, for example the spends of a budget plan.
            timestamps: [n], of the auctions to come, in order of time; seconds since 1970.

        Raises:
            ConfigError: an hour that the day has not, shares out of range, or none where there are auctions.
            DataError: times that are not finite or not in their order.
        """
        share = _of_a_day(share_of_hour)
        time = np.asarray(timestamps, np.float64)
        wrong = ~np.isfinite(time)
        wrong[1:] |= time[1:] < time[:-1]
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"{time[row]:g} is not finite, or earlier than the one before",
                column="timestamp",
                row=row,
                hint="Sort the auctions by time, and drop those without one",
            )
        hour, counts = np.unique(np.floor(time / HOUR).astype(np.int64), return_counts=True)
        auctions, begin = counts.astype(np.float64), np.asarray(hour * HOUR, np.float64)
        # The first and the last hour are there from the first auction and to the last.
        clock = Clock(
            np.maximum(begin, time.min(initial=np.inf)).astype(np.float64),
            np.minimum(begin + HOUR, time.max(initial=-np.inf)).astype(np.float64),
            auctions,
        )
        return cls(share[hour % HOURS], auctions, clock=clock)

    @classmethod
    def of_day(cls, share_of_hour: Mapping[int, float] | ArrayLike, timestamps: ArrayLike) -> Self:
        """The plan of episodes that are days (UTC), with the traffic by hour of all their auctions together.

        A day that begins late has all its budget for the hours that are left of it, and one that ends early
        keeps what was for those that do not come.

        Args: as of `by_hour`; the timestamps in any order.

        Raises:
            ConfigError: as `by_hour`.
        """
        hours = np.floor(np.asarray(timestamps, np.float64) / HOUR).astype(np.int64)
        seen, counts = np.unique(hours % HOURS, return_counts=True)
        auctions, begin = counts.astype(np.float64), np.asarray(seen * HOUR, np.float64)
        days = np.unique(np.unique(hours) % HOURS, return_counts=True)[1]  # on which each hour has auctions
        clock = Clock(begin, begin + HOUR, auctions / days, daily=True)
        return cls(_of_a_day(share_of_hour)[seen], auctions, clock=clock)

    def spent(self, gone: float) -> float:
        """The part of the budget that is to be spent when this part of the episode's auctions is over."""
        if self.at_once:
            return float(gone > 0)
        return float(np.interp(gone, self.edges, self._spent))

    def left_over_next(self, begun: float, then: float) -> float:
        """What the plan has left after a part `begun` of the auctions, in terms of what it gives those up to
        `then`: at least 1, and infinite where it gives them nothing."""
        if self.at_once:
            return 1.0
        now, next_ = self.spent(begun), self.spent(then)
        return (1.0 - now) / (next_ - now) if next_ > now else np.inf

    def given(
        self, gone: int, n: int, auctions: int, time: Floats | None = None, seen: Seen = NOTHING_SEEN
    ) -> Floats:
        """Of all that the plan has left, what part each of the next n auctions gets, [n]; together at most 1.

        Args:
            gone: so many auctions of the episode are over, of `auctions` that are expected in it.
            time: [n], of the next ones, in seconds since 1970.
            seen: before them, see `by_clock`.
        """
        if self.goes_by(time):
            left, each, _ = self.by_clock(time, seen)
            return np.asarray(each / max(float(left[0]), float(each.sum()), _LEAST))
        if self.at_once or gone >= auctions:
            return np.full(n, 1.0 / n)
        # Divided as the plan's edges are, so that what begins at an edge does so to the last place.
        spent = np.interp((gone + np.arange(n + 1)) / auctions, self.edges, self._spent)
        given = np.diff(spent) / max(1.0 - spent[0], _LEAST)
        given[auctions - gone :] = 1.0 / n  # more than were expected
        return np.asarray(given)

    def goes_by(self, time: Floats | None) -> TypeGuard[Floats]:
        """Whether the plan goes by the time of auctions, and not by how many are over."""
        return self.clock is not None and time is not None

    def by_clock(self, time: Floats, seen: Seen = NOTHING_SEEN) -> tuple[Floats, Floats, Seen]:
        """What the plan has left of the budget at each moment [n], what it gives an auction then, [n], and
        what is seen when they are over.

        A part gives each auction its share over the traffic that is expected in it, which what is seen of it
        corrects: c auctions in a share f of it make (c + T/10) / (f + 1/10) of an expected T.
        """
        assert self.clock is not None
        part, over, within = self.clock.place(time)
        rows = np.arange(len(time))
        first = np.maximum.accumulate(np.where(np.diff(part, prepend=-1) != 0, rows, 0))
        same = (first == 0) & (part == seen.part)
        count = rows - first + np.where(same, seen.auctions, 0)
        since = np.where(same, seen.since, over[first])
        traffic = (count + _EXPECTED * self.clock.auctions[part]) / (over - since + _EXPECTED)
        each = np.where(within, self.share[part] / traffic, 0.0)
        left = np.maximum(1.0 - self._spent[part] - self.share[part] * over, 0.0)
        return left, each, Seen(int(part[-1]), float(since[-1]), int(count[-1]) + 1)


def _of_a_day(share_of_hour: Mapping[int, float] | ArrayLike) -> Floats:
    """The shares [24] of the hours of a day.

    Raises:
        ConfigError: an hour that the day has not, or shares out of range.
    """
    if isinstance(share_of_hour, Mapping):
        if unknown := [hour for hour in share_of_hour if hour not in range(HOURS)]:
            raise ConfigError(f"a day has no hour {unknown[0]}", hint="Give hours from 0 to 23, in UTC")
        share = np.array([share_of_hour.get(hour, 0.0) for hour in range(HOURS)], np.float64)
    else:
        share = np.asarray(share_of_hour, np.float64)
    if share.shape != (HOURS,):
        raise ConfigError(
            f"the shares by hour have the shape {share.shape}", hint="Give one for each of 24 hours"
        )
    # Also those of hours that have no auctions, so that a wrong table is told whatever the log.
    SpendPlan(share)
    return share
