"""Spend plans: the share of its budget that an episode is to have spent at each moment."""

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


# The weight of a part's expected traffic next to the traffic that is seen in it, as a share of the part.
_EXPECTED = 0.1


class Seen(NamedTuple):
    """What was seen of the current part of a plan.

    Attributes:
        part: the index of the part; −1 before any.
        since: the share of the part that was over at its first auction.
        auctions: the number of its auctions so far.
    """

    part: int = -1
    since: float = 0.0
    auctions: int = 0


NOTHING_SEEN = Seen()


@dataclass(frozen=True, eq=False)
class Clock:
    """When the parts of a plan are.

    Attributes:
        begin: [m], ascending; seconds since 1970, or with `daily` seconds since midnight (UTC).
        end: [m], in the same unit.
        auctions: [m], expected auctions of each part, above 0.
        daily: whether the parts repeat each day.
    """

    begin: Floats
    end: Floats
    auctions: Floats
    daily: bool = False

    def place(self, time: Floats) -> tuple[Indices, Floats, Booleans]:
        """For each moment [n]: the part that it lies in, or the next part; the share of that part that is
        over, from 0 to 1; and whether the moment lies in it."""
        moment = np.mod(time, DAY) if self.daily else time
        part = np.minimum(np.searchsorted(self.end, moment, side="right"), len(self.end) - 1)
        since, length = moment - self.begin[part], self.end[part] - self.begin[part]
        over = np.clip(since / np.maximum(length, _LEAST), 0.0, 1.0)
        return part, over, np.asarray((since >= 0) & (since <= length))


@dataclass(frozen=True, eq=False)
class SpendPlan:
    """The share of its budget that an episode spends in each of m parts of its auctions, evenly within each.

    An even spend per auction is best if all hours are alike. If prices and values change with the hour, so
    does the best spend, and an earlier day shows how.

    Attributes:
        share: [m], at least 0 and not all 0, in any unit; scaled to add up to 1. In a part with share 0 there
            are no bids.
        traffic: [m], the number of auctions in each part, at least 0, in any unit; equal by default. Parts
            without auctions are left out, and their share goes to the others in proportion.
        at_once: whether all the money left may be spent in the next tick (see `asap`).
        clock: the times of the parts, for plans by hour. If the time of auctions is known, the plan goes by
            it; else by the number of auctions that are over.
        edges: [m + 1], from 0 to 1: where the parts that have auctions begin and end.

    Raises:
        ConfigError: no parts, shares or traffic out of range, or no share where there are auctions.
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
                f"the shares of a spend plan have shape {share.shape}, but its traffic has {traffic.shape}",
                hint="Give one number of each for every part of the episode",
            )
        if not all((np.isfinite(one) & (one >= 0)).all() for one in (share, traffic)):
            raise ConfigError(
                "the shares and traffic of a spend plan must be finite and at least 0",
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
        """As soon as possible: every tick may spend all the money left."""
        return cls(np.ones(1), at_once=True)

    @classmethod
    def by_hour(cls, share_of_hour: Mapping[int, float] | ArrayLike, timestamps: ArrayLike) -> Self:
        """A plan by hour: at the end of each hour its share has been spent, whatever the traffic in it.

        An hour of the day that has auctions on several days gets its share on each of them. The share of
        hours without auctions goes to the others in proportion. (If only the numbers of auctions by hour are
        known, the plan is `SpendPlan(shares, counts)`.)

        Args:
            share_of_hour: [24], the share of each hour of the day (UTC), or a mapping of hour (0 to 23) to
                share, in which a missing hour gets 0; at least 0, in any unit, for example the spends of a
                budget plan.
            timestamps: [n], the times of the auctions, ascending, in seconds since 1970.

        Raises:
            ConfigError: an hour out of range, shares out of range, or no share where there are auctions.
            DataError: times that are not finite or not ascending.
        """
        share = _of_a_day(share_of_hour)
        time = np.asarray(timestamps, np.float64)
        wrong = ~np.isfinite(time)
        wrong[1:] |= time[1:] < time[:-1]
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"{time[row]:g} is not finite, or before the time of the row above",
                column="timestamp",
                row=row,
                hint="Sort the auctions by time, and drop those without one",
            )
        hour, counts = np.unique(np.floor(time / HOUR).astype(np.int64), return_counts=True)
        auctions, begin = counts.astype(np.float64), np.asarray(hour * HOUR, np.float64)
        # The first hour begins with the first auction, and the last hour ends with the last.
        clock = Clock(
            np.maximum(begin, time.min(initial=np.inf)).astype(np.float64),
            np.minimum(begin + HOUR, time.max(initial=-np.inf)).astype(np.float64),
            auctions,
        )
        return cls(share[hour % HOURS], auctions, clock=clock)

    @classmethod
    def of_day(cls, share_of_hour: Mapping[int, float] | ArrayLike, timestamps: ArrayLike) -> Self:
        """The plan of episodes that are days (UTC), with the mean traffic by hour of all days.

        A day that begins late has its whole budget for the hours that are left. A day that ends early keeps
        the money of the hours that are missing.

        Args:
            share_of_hour: as in `by_hour`.
            timestamps: [n], the times of the auctions in any order, in seconds since 1970.

        Raises:
            ConfigError: as in `by_hour`.
        """
        hours = np.floor(np.asarray(timestamps, np.float64) / HOUR).astype(np.int64)
        seen, counts = np.unique(hours % HOURS, return_counts=True)
        auctions, begin = counts.astype(np.float64), np.asarray(seen * HOUR, np.float64)
        days = np.unique(np.unique(hours) % HOURS, return_counts=True)[1]  # on which each hour has auctions
        clock = Clock(begin, begin + HOUR, auctions / days, daily=True)
        return cls(_of_a_day(share_of_hour)[seen], auctions, clock=clock)

    def spent(self, gone: float) -> float:
        """The share of the budget that is to be spent when this share of the episode's auctions is over."""
        if self.at_once:
            return float(gone > 0)
        return float(np.interp(gone, self.edges, self._spent))

    def left_over_next(self, begun: float, then: float) -> float:
        """What the plan has left after the share `begun` of the auctions, divided by what it gives to those
        from `begun` to `then`: at least 1; infinite where it gives them nothing."""
        if self.at_once:
            return 1.0
        now, next_ = self.spent(begun), self.spent(then)
        return (1.0 - now) / (next_ - now) if next_ > now else np.inf

    def given(
        self, gone: int, n: int, auctions: int, time: Floats | None = None, seen: Seen = NOTHING_SEEN
    ) -> Floats:
        """The share of what the plan has left that each of the next n auctions gets, [n]; at most 1 together.

        Args:
            gone: the number of auctions of the episode that are over.
            n: the number of the next auctions.
            auctions: the expected number of auctions of the episode.
            time: [n], the times of the next auctions, in seconds since 1970.
            seen: what was seen before them (see `by_clock`).
        """
        if self.goes_by(time):
            left, each, _ = self.by_clock(time, seen)
            return np.asarray(each / max(float(left[0]), float(each.sum()), _LEAST))
        if self.at_once or gone >= auctions:
            return np.full(n, 1.0 / n)
        # Divided as the plan's edges are, so that an auction at an edge is there without rounding.
        spent = np.interp((gone + np.arange(n + 1)) / auctions, self.edges, self._spent)
        given = np.diff(spent) / max(1.0 - spent[0], _LEAST)
        given[auctions - gone :] = 1.0 / n  # more than were expected
        return np.asarray(given)

    def goes_by(self, time: Floats | None) -> TypeGuard[Floats]:
        """Whether the plan goes by the time of auctions, and not by the number that are over."""
        return self.clock is not None and time is not None

    def by_clock(self, time: Floats, seen: Seen = NOTHING_SEEN) -> tuple[Floats, Floats, Seen]:
        """The share of the budget that the plan has left at each moment [n], the share that it gives to an
        auction then, [n], and what was seen by the end.

        A part gives each auction its share divided by the traffic of the part. That traffic is the expected
        traffic T, corrected by what is seen: after c auctions in a share f of the part it is
        (c + T/10) / (f + 1/10).
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
        ConfigError: an hour out of range, or shares out of range.
    """
    if isinstance(share_of_hour, Mapping):
        if unknown := [hour for hour in share_of_hour if hour not in range(HOURS)]:
            raise ConfigError(f"a day has no hour {unknown[0]}", hint="Give hours from 0 to 23, in UTC")
        share = np.array([share_of_hour.get(hour, 0.0) for hour in range(HOURS)], np.float64)
    else:
        share = np.asarray(share_of_hour, np.float64)
    if share.shape != (HOURS,):
        raise ConfigError(
            f"the shares by hour have shape {share.shape}, but must be 24 numbers",
            hint="Give one share for each of 24 hours",
        )
    # Checks the shares of all hours, so that a wrong table is an error whatever hours the log has.
    SpendPlan(share)
    return share
