"""Which events each row knows: the as-of join, as a start and an end into events in order.

A row knows the events of its keys at strictly earlier times. Events of the row's own time count only if a
session and a step say that they came before: the session is the row's, and the step is lower. So nothing from
the row itself or later is known, and what a row knows never changes when later rows or events come.

Events of equal time are in the order of their steps, then of the columns that a config names, then of their
content. So the order of the tables' rows never matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Floats, Indices
from ctrkit.compiled import kernel

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class KnownEvents:
    """The events that each of n rows knows: those at `start` to `end - 1`, oldest first.

    Attributes:
        events: m events, those of the same keys side by side, oldest first.
        seconds: unix time of each event, [m].
        group: number of each event's keys, [m].
        start: [n].
        end: [n]; equal to the start for a row without events.
        row_seconds: unix time of each row, [n].
        row_group: number of each row's keys, [n]; -1 for keys without events.
    """

    events: pl.DataFrame
    seconds: Floats
    group: Indices
    start: Indices
    end: Indices
    row_seconds: Floats
    row_group: Indices

    @property
    def count(self) -> Indices:
        """How many events each row knows, [n]."""
        return self.end - self.start

    @property
    def any(self) -> pl.Series:
        """Whether each row knows an event, [n]."""
        return pl.Series(self.end > self.start)

    @property
    def newest(self) -> pl.Series:
        """Index of the newest event that each row knows, [n]; null for a row without events."""
        return pl.Series(self.end - 1, dtype=pl.Int64).set(~self.any, None)

    @property
    def age(self) -> pl.Series:
        """Seconds from the newest known event to the row, [n]; null for a row without events."""
        newest = self.newest
        return pl.Series(self.row_seconds).set(~self.any, None) - pl.Series(self.seconds).gather(newest)

    def last(self, length: int) -> Newest:
        """The newest events of each row, at most `length`."""
        return Newest(self.end, np.minimum(self.count, length))


@dataclass(frozen=True)
class Newest:
    """The newest events of n rows, oldest first.

    Attributes:
        ends: the place behind the newest event of each row, [n].
        lengths: how many there are, [n].
    """

    ends: Indices
    lengths: Indices

    @cached_property
    def offsets(self) -> Indices:
        """Where the events of each row begin in `indices`, and the number of these, [n + 1]."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @cached_property
    def indices(self) -> Indices:
        """The events of all rows, one row after another."""
        of_all = np.arange(self.offsets[-1])
        return of_all + np.repeat(self.ends - self.offsets[1:], self.lengths)

    @cached_property
    def seen(self) -> tuple[Indices, Indices]:
        """The events that any row has, ascending, and the end of each row among them."""
        last = int(self.ends.max(initial=0)) + 1
        there = self.lengths > 0
        starts = np.bincount((self.ends - self.lengths)[there], minlength=last)
        known = np.cumsum(starts - np.bincount(self.ends[there], minlength=last)) > 0
        return np.flatnonzero(known), np.concatenate([[0], np.cumsum(known)])[self.ends]


@dataclass(frozen=True)
class Moments:
    """When rows happen, or events become known.

    Attributes:
        seconds: unix time, [n]; NaN where it is missing, which is no moment.
        session: number of the session, [n], the same in rows and events; None if steps are not compared.
        step: place of the row or event in its session, [n].
    """

    seconds: Floats
    session: Indices | None = None
    step: Floats | None = None


def group_codes(
    rows: pl.DataFrame,
    events: pl.DataFrame,
    by: Sequence[str],
    within: tuple[Indices, Indices] | None = None,
) -> tuple[Indices, Indices]:
    """Numbers of the groups of equal keys, [n] and [m], the same in rows and events.

    An event with a missing key, and a row of keys that no event has, has the number -1.

    Args:
        rows: n rows.
        events: m events.
        by: the columns of the keys.
        within: groups [n] and [m] that are to be divided further.
    """
    keys = [side_by_side([table[name] for name in by]) for table in (rows, events)]
    if within is not None:
        keys = [table.with_columns(within=group) for table, group in zip(keys, within, strict=True)]
    names = keys[0].columns
    groups = keys[1].drop_nulls().unique(maintain_order=True).with_row_index("group")
    row_group, event_group = (
        table.join(groups, names, how="left", maintain_order="left")["group"]
        .cast(pl.Int64)
        .fill_null(-1)
        .to_numpy()
        for table in keys
    )
    return row_group, event_group


def in_order(events: pl.DataFrame, group: Indices, moments: Moments, order: Sequence[str]) -> Indices:
    """Indices of the events that count, [m' <= m], by group, time, step, the columns of `order`, content.

    Events without keys or time do not count.
    """
    keys = [group, moments.seconds, *(one for one in (moments.session, moments.step) if one is not None)]
    frame = side_by_side([*map(pl.Series, keys), *(events[name] for name in order)])
    names = frame.columns
    frame = frame.with_row_index("event").filter(pl.col("0") >= 0, pl.col("1").is_not_nan())
    in_time = len(names) == 2 and frame["1"].is_sorted()
    frame = frame if in_time else frame.sort(names[1:], maintain_order=True)
    frame = frame[grouped(frame["0"].to_numpy())]
    found = frame["event"].cast(pl.Int64).to_numpy(writable=True)
    same = frame.select(pl.all_horizontal(pl.col(n).eq_missing(pl.col(n).shift()) for n in names)).to_series()
    tied = (same | same.shift(-1, fill_value=False)).to_numpy()
    if tied.any():
        run = pl.Series((~same).cum_sum().filter(tied))
        content = [events[name].gather(found[tied]) for name in events.columns]
        plain = side_by_side([run, *(one for one in content if not one.dtype.is_nested())])
        found[tied] = found[tied][plain.select(pl.arg_sort_by(plain.columns)).to_series().to_numpy()]
    return found


def side_by_side(columns: Sequence[pl.Series]) -> pl.DataFrame:
    """Columns under the names 0, 1, 2, ..., as users' names may be any."""
    return pl.DataFrame([column.alias(str(index)) for index, column in enumerate(columns)])


def known_events(
    events: pl.DataFrame,
    row_group: Indices,
    event_group: Indices,
    rows_at: Moments,
    events_at: Moments,
    *,
    delay: float = 0.0,
    order: Sequence[str] = (),
) -> KnownEvents:
    """Which events each row knows.

    Args:
        events: m events.
        row_group: number of each row's keys, [n] (see `group_codes`).
        event_group: number of each event's keys, [m].
        rows_at: when the rows happen.
        events_at: when the events happen.
        delay: seconds after an event when it becomes known.
        order: columns by which events of the same time are ordered.
    """
    place = in_order(events, event_group, events_at, order)
    group, seconds = event_group[place], events_at.seconds[place]
    starts = group_starts(group)
    known = np.where(np.isnan(rows_at.seconds) | (row_group >= len(starts) - 1), -1, row_group)
    end = first_not_below(seconds + delay if delay else seconds, starts, known, rows_at.seconds)
    start = np.where(known < 0, 0, starts[known])
    if rows_at.step is not None and events_at.step is not None and not delay:
        session, step = events_at.session, events_at.step[place]
        assert session is not None
        assert rows_at.session is not None
        session = session[place]
        last = np.where(known < 0, 0, starts[known + 1])
        rows = np.flatnonzero(end < last)
        while rows.size:  # as many times as a second has events
            at = end[rows]
            before = (seconds[at] == rows_at.seconds[rows]) & (session[at] == rows_at.session[rows])
            rows = rows[before & (step[at] < rows_at.step[rows])]
            end[rows] += 1
            rows = rows[end[rows] < last[rows]]
    return KnownEvents(events[place], seconds, group, start, end, rows_at.seconds, known)


def group_starts(group: Indices) -> Indices:
    """Where each group begins in ascending numbers of groups [m], and m, [g + 1]."""
    return np.searchsorted(group, np.arange(group[-1] + 2 if len(group) else 1)).astype(np.int64)


def grouped(group: Indices) -> Indices:
    """Indices that put groups side by side, in the order of their numbers, each in the order that it has.

    Args:
        group: numbers from 0, [m].
    """
    found = np.empty(len(group), dtype=np.int64)
    _grouped(_owned(group), np.concatenate([[0], np.cumsum(np.bincount(group))]), found)
    return found


@kernel("void(i8[::1], i8[::1], i8[::1])", "group: M; found: M")
def _grouped(group: Indices, free: Indices, found: Indices) -> None:
    """The loop of `grouped`: a counting sort. `free` is the next free place of each group."""
    for event in range(group.shape[0]):
        found[free[group[event]]] = event
        free[group[event]] += 1


def first_not_below(values: Floats, starts: Indices, group: Indices, limit: Floats) -> Indices:
    """For each row the index of the first value of its group that is at least its limit.

    Args:
        values: [m], ascending within each group.
        starts: [g + 1], where each group begins, and m.
        group: [n]; -1 for none, which gives 0.
        limit: [n].

    Returns:
        [n]; the end of the group where all its values are lower.
    """
    found = np.zeros(len(group), dtype=np.int64)
    _first_not_below(_owned(values), starts, _owned(group), _owned(limit), found)
    return found


def _owned(array: NDArray[T]) -> NDArray[T]:
    """An array that can be written, as the loop was compiled for: those that Polars lends cannot."""
    return np.require(array, requirements=["C", "W"])


@kernel("void(f8[::1], i8[::1], i8[::1], f8[::1], i8[::1])", "group: N; limit: N; found: N")
def _first_not_below(values: Floats, starts: Indices, group: Indices, limit: Floats, found: Indices) -> None:
    """The loop of `first_not_below`: a binary search in each row's group."""
    for row in range(group.shape[0]):
        if group[row] < 0:
            continue
        low, high = starts[group[row]], starts[group[row] + 1]
        while low < high:
            middle = (low + high) // 2
            if values[middle] < limit[row]:
                low = middle + 1
            else:
                high = middle
        found[row] = low
