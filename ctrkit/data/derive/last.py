"""last: what the newest event of a history says."""

from __future__ import annotations

import polars as pl
from pydantic import Field

from ctrkit.data.derive.base import Names, Step
from ctrkit.data.derive.part import Part
from ctrkit.settings import checked


@checked
class Last(Step):
    """Values of the newest event that a row knows, such as the sort order that its user chose last."""

    name = "last"
    history: str = Field(description="name of the history")
    columns: dict[str, str] = Field(description="new column -> the column of the event")
    missing: str | None = Field(default=None, description="the value of a row without events, or without one")

    @property
    def new_columns(self) -> Names:
        return tuple(self.columns)

    @property
    def looks_at(self) -> str:
        return self.history

    @property
    def reads_of_events(self) -> Names:
        return tuple(self.columns.values())

    def derive(self, part: Part) -> list[pl.Series]:
        known = part.known(self.history)
        newest = known.newest
        found = (known.events[column].gather(newest).alias(name) for name, column in self.columns.items())
        if self.missing is None:
            return list(found)
        return [values.cast(pl.String).fill_null(self.missing) for values in found]
