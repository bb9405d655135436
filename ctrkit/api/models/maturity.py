"""What is known of labels that come late: in a folder of prepared rows, and as a table of a report."""

from __future__ import annotations

from collections.abc import Sequence

from ctrkit.data.delays import Maturity, span
from ctrkit.data.store import Store
from ctrkit.reports import Table
from ctrkit.reports.cells import share


def maturity_of(store: Store) -> tuple[Maturity, ...]:
    """What is known of each late label of prepared rows."""
    return tuple(Maturity(**one) for one in store.record["data"].get("maturity", ()))


def maturity_table(late: Sequence[Maturity]) -> Table:
    """Late labels of a training, one in each row."""
    rows = tuple(
        (
            one.task,
            span(one.window),
            None if one.median_delay is None else span(one.median_delay),
            *(share(one.matured[part]) for part in ("train", "valid", "test")),
            one.late,
        )
        for one in late
    )
    matured = (f"{part} rows that have matured" for part in ("training", "validation", "test"))
    return Table(
        "Labels that come late", ("task", "window", "median delay", *matured, "after the window"), rows
    )
