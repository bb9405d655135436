"""places: a row's position in its list, beside the positions of the items that its user touched."""

from __future__ import annotations

import numpy as np
import polars as pl
from pydantic import Field

from ctrkit.data.derive.base import Names, SomeNames, Step, measures
from ctrkit.data.derive.known import KnownEvents, side_by_side
from ctrkit.data.derive.matched import matching
from ctrkit.data.derive.part import Part
from ctrkit.data.derive.windows import list_series
from ctrkit.settings import Count, checked


@checked
class Places(Step):
    """How many positions a row stands below the items of its list that its history holds.

    Of the newest event on an item of the list: `below` is the distance (0 without one), `any` whether there
    is one, `at` whether it is at the row's own position. `distances` lists the distance of each of the newest
    events, aligned with the lists of the history; an item outside the list has `farthest` + 1.
    """

    name = "places"
    history: str = Field(description="name of the history")
    by: SomeNames = Field(description="columns whose values the rows of a list share")
    item: str = Field(description="column of the item, in rows and events")
    position: str = Field(description="column of the position in the list, a whole number")
    makes: measures("below", "any", "at", "distances") = Field(  # type: ignore[valid-type]
        description="new column -> below, any, at or distances"
    )
    farthest: Count = Field(default=10, description="distances are cut off here, on both sides")

    @property
    def new_columns(self) -> Names:
        return tuple(self.makes)

    @property
    def reads(self) -> Names:
        return (*self.by, self.item, self.position)

    @property
    def ids(self) -> Names:
        return (self.item,)

    @property
    def looks_at(self) -> str:
        return self.history

    @property
    def reads_of_events(self) -> Names:
        return (self.item,)

    def derive(self, part: Part) -> list[pl.Series]:
        known = part.known(self.history)
        lists = self._lists(part.rows, known)
        matches, places = matching(known, part.rows, (self.item,))
        newest = pl.Series(places).gather(matches.newest)
        # Of the rows with a match, the one whose match is the newest.
        at_newest = pl.col("position").filter(pl.col("newest") == pl.col("newest").max()).min()
        place = lists.with_columns(newest=newest).select(at_newest.over("list")).to_series()
        distance = self._cut(lists["position"] - place)
        found = {
            "below": distance.fill_null(0),
            "any": place.is_not_null().cast(pl.Int8),
            "at": (distance == 0).fill_null(False).cast(pl.Int8),
        }
        if "distances" in self.makes.values():
            found["distances"] = self._distances(lists, known, part.histories[self.history].length)
        return [found[what].alias(name) for name, what in self.makes.items()]

    def _lists(self, rows: pl.DataFrame, known: KnownEvents) -> pl.DataFrame:
        """The number of each row's list, its item and position.

        Rows of a list that know different events, as at different times, are looked at apart.
        """
        keys = side_by_side(
            [pl.Series(known.row_group), pl.Series(known.end), *(rows[name] for name in self.by)]
        )
        return pl.DataFrame(
            {
                "item": rows[self.item],
                "position": rows[self.position].cast(pl.Int64),
                "list": keys.select(pl.struct(pl.all()).rank("dense")).to_series(),
            }
        )

    def _distances(self, lists: pl.DataFrame, known: KnownEvents, length: int) -> pl.Series:
        """The distance of each of the newest events, as lists."""
        newest = known.last(length)
        row = np.repeat(np.arange(lists.height), newest.lengths)
        events = lists.select("list", own="position")[row].with_columns(
            known.events[self.item].gather(newest.indices).alias("item")
        )
        first = lists.group_by("list", "item").agg(pl.col("position").min())
        placed = events.join(first, on=("list", "item"), how="left", maintain_order="left")
        distance = self._cut(placed["own"] - placed["position"]).fill_null(self.farthest + 1)
        return list_series(distance.cast(pl.Int16), newest.offsets)

    def _cut(self, distance: pl.Series) -> pl.Series:
        return distance.clip(-self.farthest, self.farthest)
