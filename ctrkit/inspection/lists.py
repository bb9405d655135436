"""What lists of a table are taken for: events, vectors, or neither; and of which column their events are."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Literal

import polars as pl

from ctrkit.tables.cells import ids_as_text, values_of

# Lists that are looked at to tell vectors from histories.
FEW_LISTS = 1000
# Share of the events that are ids of a column whose ids they are taken for.
SHARED = 0.5


def kind_of_lists(lists: pl.Series) -> Literal["list", "vector", "numbers"]:
    """Lists of events; vectors, which are numbers, not all of them whole, as many in every list that is not
    empty, two at least; or numbers that are neither, as more of them are in some lists than in others."""
    inner = lists.dtype.inner if isinstance(lists.dtype, pl.List | pl.Array) else None
    if inner is None or not (inner.is_numeric() or inner == pl.String):
        return "list"
    lists = lists.head(FEW_LISTS).cast(pl.List(pl.Float64), strict=False)
    numbers, widths = values_of(lists), lists.list.len().filter(lists.list.len() > 0).unique()
    # Text that is no number has become null.
    if not numbers.len() or numbers.null_count() or not numbers.is_finite().all():
        return "list"
    if (numbers == numbers.round()).all():
        return "list"
    return "vector" if widths.len() == 1 and widths[0] >= 2 else "numbers"


def owner_of(name: str, lists: pl.Series, known: Mapping[str, pl.Series]) -> str | None:
    """The column whose ids the events of lists are; None where there is none.

    Args:
        name: the column of the lists.
        lists: the lists.
        known: column -> its ids as text, once each.
    """
    events = ids_as_text(values_of(lists).cast(pl.String)).drop_nulls()
    found = {
        one: int(events.is_in(values.implode()).sum()) / max(events.len(), 1) for one, values in known.items()
    }
    # Small numbers are ids of many columns: then the names decide.
    alike = {one: (found[one] > SHARED, _likeness(name, one), found[one]) for one in found}
    best = max(alike, key=lambda one: alike[one], default=None)
    return best if best is not None and found[best] > SHARED else None


def _likeness(one: str, other: str) -> float:
    """How alike two names are, from 0 to 1, by their last words: "history_ads" and "ad_id" share "ad"."""
    words = [[word.rstrip("s") for word in name.lower().split("_") if word != "id"] for name in (one, other)]
    return max((SequenceMatcher(None, a, b).ratio() for a in words[0] for b in words[1][-1:]), default=0.0)
