"""history: what a row's user did before it, as lists of events."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.data.derive.base import Column, Names, SomeNames, Values
from ctrkit.data.derive.known import KnownEvents, Moments, group_codes, known_events
from ctrkit.data.derive.lists import EventLists
from ctrkit.data.derive.part import ROWS, SECONDS, Part, seconds_in
from ctrkit.data.derive.windows import list_series
from ctrkit.errors import ConfigError
from ctrkit.settings import NotNegative, checked, title


@checked
class History(EventLists):
    """The events that each row knows, those of its keys at earlier times, and lists of the newest of them.

    Other steps look at it by its name. `ctrkit.data.derive.known` has the rules of times.

    Raises:
        ConfigError: a step without a session, or with a delay.
    """

    name = "history"
    by: SomeNames = Field(description="columns that rows and their events have in common, such as the user")
    events: str = Field(default=ROWS, description="name of the table of events; 'rows': the rows themselves")
    time: str = Field(default="timestamp", description="column of the rows' times")
    event_time: str | None = Field(default=None, description="column of the events' times, if it differs")
    delay: NotNegative = Field(default=0.0, description="seconds after an event when it becomes known")
    session: str | None = Field(default=None, description="column of the session, in rows and events")
    step: str | None = Field(
        default=None,
        description="column of numbers in rows and events: within a time and session, lower ones are earlier",
    )
    within_session: bool = Field(default=False, description="whether a row knows events of its session only")
    order: Names = Field(default=(), description="columns that order events of the same time")
    where: dict[str, Values] = Field(
        default_factory=dict, description="column of the events -> its values in the events that count"
    )
    present: Names = Field(default=(), description="columns that are not missing in the events that count")
    same: dict[str, str] = Field(
        default_factory=dict,
        description="new column -> a column of rows and events: lists 1 where the event has the row's value, "
        "else 0",
    )

    def __post_init__(self) -> None:
        if self.session is None and (self.step is not None or self.within_session):
            raise ConfigError(f"{title(self)} needs the column of the session", hint="Give session")
        if self.step is not None and self.delay:
            raise ConfigError(
                f"{title(self)} has a delay: no event of the row's own time is known",
                hint="Leave out step or delay",
            )

    @property
    def new_columns(self) -> Names:
        return (*super().new_columns, *self.same)

    @property
    def keys(self) -> Names:
        return self.by

    @property
    def ids(self) -> Names:
        return (*self.by, *filter(None, (self.session,)), *self.same.values())

    @property
    def times(self) -> Names:
        return (self.time,)

    @property
    def reads(self) -> Names:
        return (*filter(None, (self.session, self.step)), *self.same.values())

    @property
    def looks_at(self) -> str:
        return self.history

    @property
    def reads_of_events(self) -> Names:
        chosen = (*self.order, *self.where, *self.present)
        return (
            *super().reads_of_events,
            *filter(None, (self.session, self.step)),
            *chosen,
            *self.same.values(),
        )

    @property
    def time_of_events(self) -> str:
        """The column of the events' times."""
        return self.event_time or self.time

    def known_in(self, part: Part) -> KnownEvents:
        """The events that each row of a part knows."""
        kept = (*self.by, *part.content[self.history], f"{SECONDS}{self.time_of_events}")
        events = part.table(self.events).select(*dict.fromkeys(kept))
        events = events.filter(*having(events, self.where), *(pl.col(n).is_not_null() for n in self.present))
        by = [*self.by, *([self.session] if self.within_session and self.session else [])]
        return known_events(
            events,
            *group_codes(part.rows, events, by),
            *self._moments(part.rows, events),
            delay=self.delay,
            order=self.order,
        )

    def derive(self, part: Part) -> list[Column]:
        if not self.new_columns:
            return []
        known = part.known(self.history)
        newest = known.last(self.length)
        row = np.repeat(np.arange(part.rows.height), newest.lengths)
        same = [
            list_series(
                (part.rows[column].gather(row) == known.events[column].gather(newest.indices))
                .fill_null(False)
                .cast(pl.Int8),
                newest.offsets,
            )
            for column in self.same.values()
        ]
        return [*self.lists(known), *same]

    def _moments(self, rows: pl.DataFrame, events: pl.DataFrame) -> tuple[Moments, Moments]:
        at, events_at = seconds_in(rows, self.time), seconds_in(events, self.time_of_events)
        if self.session is None or self.step is None:
            return Moments(at), Moments(events_at)
        sessions = group_codes(rows, events, (self.session,))
        return (
            Moments(at, sessions[0], _numbers(rows[self.step])),
            Moments(events_at, np.where(sessions[1] < 0, -2, sessions[1]), _numbers(events[self.step])),
        )


def having(events: pl.DataFrame, where: Mapping[str, Values]) -> list[pl.Expr]:
    """Conditions: each column has one of its values."""
    found = []
    for name, values in where.items():
        if events.schema[name].is_numeric() or events.schema[name] == pl.Boolean:
            numbers = [float(value) for value in values]
            found.append(pl.col(name).cast(pl.Float64).is_in(numbers))
        else:
            texts = [f"{value:g}" if isinstance(value, float) else value for value in values]
            found.append(pl.col(name).cast(pl.String).is_in(texts))
    return found


def _numbers(values: pl.Series) -> Floats:
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
