"""Some rows with the events of their keys: what a step sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from ctrkit.arrays import Floats
from ctrkit.data.derive.known import KnownEvents

# Before the name of a column of times: the same times as unix seconds.
SECONDS = "seconds of "
# The name of the rows themselves as events.
ROWS = "rows"


class Opens(Protocol):
    """A history: finds the events that rows know.

    Attributes:
        length: events that its lists hold at most.
    """

    @property
    def length(self) -> int: ...

    def known_in(self, part: Part) -> KnownEvents:
        """The events that each row of a part knows."""
        ...


@dataclass(frozen=True)
class Part:
    """Some rows of a table, with all events that have the same keys.

    Attributes:
        rows: the rows, with each column of times also as unix seconds (`SECONDS` and its name).
        events: name -> events, likewise.
        histories: name -> history.
        content: name of a history -> columns of its events that steps read.
        opened: name of a history -> what the rows know of it, as far as it was looked at.
    """

    rows: pl.DataFrame
    events: Mapping[str, pl.DataFrame]
    histories: Mapping[str, Opens]
    content: Mapping[str, tuple[str, ...]]
    opened: dict[str, KnownEvents] = field(default_factory=dict)

    def table(self, name: str) -> pl.DataFrame:
        """The events of a name, or the rows themselves."""
        return self.rows if name == ROWS else self.events[name]

    def known(self, history: str) -> KnownEvents:
        """What the rows know of a history; found once."""
        if history not in self.opened:
            self.opened[history] = self.histories[history].known_in(self)
        return self.opened[history]


def seconds_in(table: pl.DataFrame, name: str) -> Floats:
    """A column of times as unix seconds, [n]; NaN where a time is missing."""
    return table[f"{SECONDS}{name}"].fill_null(float("nan")).to_numpy()
