"""Columns of lists from known events: a list for each row, the newest event last."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.data.derive.base import Column, Names, Step
from ctrkit.data.derive.clock import hours_and_weekdays
from ctrkit.data.derive.known import KnownEvents
from ctrkit.data.derive.windows import Windows, list_series
from ctrkit.settings import checked

LONGEST = 1000


@checked
class EventLists(Step):
    """A step that makes lists of events. All lists of a step are aligned: place i is the same event in each.

    Attributes:
        history: name of the history.
        columns: new column -> the column of the events that it lists.
        gap: new column of the time from each event to the row, in buckets: floor(log2(1 + seconds)).
        hour: new column of the hour of each event, 0 to 23.
        weekday: new column of the weekday of each event, 1 (Monday) to 7.
        zone: time zone of hours and weekdays.
        length: events that a row lists at most.
    """

    history: str = Field(description="name of the history")
    columns: dict[str, str] = Field(
        default_factory=dict, kw_only=True, description="new column -> the column of the events that it lists"
    )
    gap: str | None = Field(
        default=None, kw_only=True, description="new column of floor(log2(1 + seconds to the row))"
    )
    hour: str | None = Field(default=None, kw_only=True, description="new column of hours, 0 to 23")
    weekday: str | None = Field(default=None, kw_only=True, description="new column of weekdays, 1 to 7")
    zone: str | None = Field(default=None, kw_only=True, description="time zone of hours and weekdays")
    length: Annotated[int, Field(ge=1, le=LONGEST)] = Field(
        default=50, kw_only=True, description="events that a row lists at most"
    )

    @property
    def listed(self) -> Names:
        """The columns of lists."""
        clock = (self.gap, self.hour, self.weekday)
        return (*self.columns, *(name for name in clock if name is not None))

    @property
    def new_columns(self) -> Names:
        return self.listed

    @property
    def reads_of_events(self) -> Names:
        return tuple(self.columns.values())

    def lists(self, known: KnownEvents) -> list[Column]:
        """The lists of each row's newest events."""
        if not self.listed:
            return []
        newest = known.last(self.length)
        made: list[Column] = [Windows(known.events[column], newest) for column in self.columns.values()]
        if self.gap is not None:
            since = np.repeat(known.row_seconds, newest.lengths) - known.seconds[newest.indices]
            made.append(list_series(buckets(since), newest.offsets))
        if self.hour is not None or self.weekday is not None:
            found = hours_and_weekdays(pl.Series(known.seconds), self.zone)
            for name, values in zip((self.hour, self.weekday), found, strict=True):
                if name is not None:
                    made.append(Windows(values, newest))
        return made


def buckets(seconds: Floats) -> pl.Series:
    """Times on a logarithmic scale, floor(log2(1 + seconds)): 0 below a second, 11 at an hour, 16 at a day.

    Args:
        seconds: the times.
    """
    return (pl.Series(seconds) + 1).log(2).floor().cast(pl.Int8)
