"""calendar: hour, weekday and holiday of a time."""

from __future__ import annotations

from datetime import date

import polars as pl
from pydantic import Field

from ctrkit.data.derive.base import Names, Step, measures
from ctrkit.data.derive.clock import dates, hours_and_weekdays
from ctrkit.data.derive.part import Part, seconds_in
from ctrkit.errors import ConfigError
from ctrkit.settings import checked, title


@checked
class Calendar(Step):
    """The hour (0 to 23), the weekday (1 is Monday, 7 is Sunday), and whether the day is a holiday (1 or 0).

    Raises:
        ConfigError: holidays are asked for, and none are given.
    """

    name = "calendar"
    makes: measures("hour", "weekday", "holiday") = Field(  # type: ignore[valid-type]
        description="new column -> hour, weekday or holiday"
    )
    time: str = Field(default="timestamp", description="column of times")
    zone: str | None = Field(default=None, description="time zone, such as Europe/Berlin; by default UTC")
    holidays: tuple[date, ...] = Field(default=(), description="the holidays, such as 2024-12-25")

    def __post_init__(self) -> None:
        if "holiday" in self.makes.values() and not self.holidays:
            raise ConfigError(f"{title(self)} knows no holidays", hint="Give holidays, a list of dates")

    @property
    def new_columns(self) -> Names:
        return tuple(self.makes)

    @property
    def times(self) -> Names:
        return (self.time,)

    def derive(self, part: Part) -> list[pl.Series]:
        seconds = pl.Series(seconds_in(part.rows, self.time))
        hour, weekday = hours_and_weekdays(seconds, self.zone)
        free = dates(seconds, self.zone).is_in(list(self.holidays)).cast(pl.Int8)
        found = {"hour": hour, "weekday": weekday, "holiday": free}
        return [found[what].alias(name) for name, what in self.makes.items()]
