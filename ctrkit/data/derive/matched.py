"""matched: the part of a history that has the row's own value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from pydantic import Field

from ctrkit.arrays import Indices
from ctrkit.data.derive.base import Column, Names, SomeNames, Values, measures
from ctrkit.data.derive.history import having
from ctrkit.data.derive.known import KnownEvents, first_not_below, group_codes, group_starts, grouped
from ctrkit.data.derive.lists import EventLists
from ctrkit.data.derive.part import Part
from ctrkit.data.derive.since import freshness
from ctrkit.settings import checked


@checked
class Matched(EventLists):
    """The events of a history with the row's own item (or category, or advertiser), however long ago.

    This is the hard search of "Search-based User Interest Modeling with Lifelong Sequential Behavior Data for
    Click-Through Rate Prediction" (SIM, Pi et al., CIKM 2020). Its numbers are `count`; `seconds` since the
    newest match and `events` since then, both missing without a match; and `freshness`,
    1 / log2(2 + seconds), and `recency`, 1 / (1 + events), both 0 without one. Lists hold the newest matches.
    """

    name = "matched"
    equal: SomeNames = Field(description="columns of rows and events that must be equal")
    makes: measures("count", "seconds", "events", "freshness", "recency") | None = Field(  # type: ignore[valid-type]
        default=None, description="new column -> count, seconds, events, freshness or recency"
    )
    where: dict[str, Values] = Field(
        default_factory=dict, description="column of the events -> its values in the events that match"
    )

    @property
    def new_columns(self) -> Names:
        return (*super().new_columns, *(self.makes or ()))

    @property
    def ids(self) -> Names:
        return self.equal

    @property
    def reads(self) -> Names:
        return self.equal

    @property
    def looks_at(self) -> str:
        return self.history

    @property
    def reads_of_events(self) -> Names:
        return (*super().reads_of_events, *self.equal, *self.where)

    def derive(self, part: Part) -> list[Column]:
        known = part.known(self.history)
        matches, places = matching(known, part.rows, self.equal, self.where)
        newest = matches.newest
        events = pl.Series(known.end - 1) - pl.Series(places).gather(newest)
        found = {
            "count": pl.Series(matches.count),
            "seconds": matches.age,
            "events": events,
            "freshness": freshness(matches.age),
            "recency": (1 / (1 + events)).fill_null(0),
        }
        numbers = [found[what].alias(name) for name, what in (self.makes or {}).items()]
        return [*self.lists(matches), *numbers]


def matching(
    known: KnownEvents, rows: pl.DataFrame, equal: Sequence[str], where: Mapping[str, Values] | None = None
) -> tuple[KnownEvents, Indices]:
    """The events that each row knows and that have its own values.

    Args:
        known: the events that each row knows.
        rows: the rows, [n].
        equal: columns of rows and events that must be equal.
        where: column of the events -> its values in the events that match.

    Returns:
        The matches, and the place of each of them among all events.
    """
    fits = known.events.select(
        pl.all_horizontal(pl.repeat(True, pl.len()), *having(known.events, where or {}))
    )
    place = fits.to_series().fill_null(False).arg_true().cast(pl.Int64).to_numpy()
    events, within = known.events[place], (known.row_group, known.group[place])
    code, of_event = group_codes(rows, events, equal, within)
    there = np.flatnonzero(of_event >= 0)
    order = there[grouped(of_event[there])]
    places = place[order]
    starts = group_starts(of_event[order])
    # Known events come before all others of their group.
    end = first_not_below(places.astype(np.float64), starts, code, known.end.astype(np.float64))
    start = np.where(code < 0, 0, starts[code])
    found = events[order], known.seconds[places], of_event[order], start, end, known.row_seconds, code
    return KnownEvents(*found), places
