"""since: how many events a row knows, and how long ago the last one was."""

from __future__ import annotations

import polars as pl
from pydantic import Field

from ctrkit.data.derive.base import Names, Step, measures
from ctrkit.data.derive.part import Part
from ctrkit.settings import checked


@checked
class Since(Step):
    """Numbers of a history: `count` of its events, `seconds` since the newest (missing without events), and
    `freshness`, 1 / log2(2 + seconds), which is 0 without events."""

    name = "since"
    history: str = Field(description="name of the history")
    makes: measures("count", "seconds", "freshness") = Field(  # type: ignore[valid-type]
        description="new column -> count, seconds or freshness"
    )

    @property
    def new_columns(self) -> Names:
        return tuple(self.makes)

    @property
    def looks_at(self) -> str:
        return self.history

    def derive(self, part: Part) -> list[pl.Series]:
        known = part.known(self.history)
        found = {"count": pl.Series(known.count), "seconds": known.age, "freshness": freshness(known.age)}
        return [found[what].alias(name) for name, what in self.makes.items()]


def freshness(seconds: pl.Series) -> pl.Series:
    """1 / log2(2 + seconds): 1 at the same time, falling slowly; 0 for what never happened."""
    return (1 / (2 + seconds).log(2)).fill_null(0)
