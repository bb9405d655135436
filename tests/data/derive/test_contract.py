"""Every kind of step: columns as of each row, whatever the order of rows and whatever comes later."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrkit.data.derive import STEPS, derive, plan_of
from ctrkit.data.sources import SourceTables
from ctrkit.settings import content_of

TOUCHES = {
    "name": "history",
    "history": "touches",
    "events": "actions",
    "by": "user",
    "columns": {"seen": "item"},
}
OWN = {
    "name": "history", "history": "clicked", "by": "user", "where": {"click": 1}, "columns": {"own": "item"},
    "delay": 2, "length": 3, "gap": "own_gap", "hour": "own_hour", "weekday": "own_weekday",
}  # fmt: skip
# Of each kind one step and more, with all that it makes.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "calendar": [{"makes": {"h": "hour", "w": "weekday", "free": "holiday"}, "holidays": ["1970-01-02"]}],
    "cross": [{"of": ["user", "item"], "makes": "user_item"}],
    "history": [
        TOUCHES, OWN,
        {
            "history": "session", "events": "actions", "by": "user", "session": "session", "step": "step",
            "within_session": True, "present": "kind", "columns": {"kinds": "kind"},
            "same": {"again": "item"},
        },
    ],
    "last": [TOUCHES, {"history": "touches", "columns": {"last_kind": "kind"}, "missing": "none"}],
    "matched": [
        TOUCHES, OWN,
        {
            "history": "touches", "equal": "item", "columns": {"alike": "kind"}, "gap": "alike_gap",
            "length": 2,
            "makes": {"n": "count", "s": "seconds", "e": "events", "f": "freshness", "r": "recency"},
        },
        {"history": "clicked", "equal": ["item", "kind"], "where": {"item": [1, 2]}, "makes": {"m": "count"}},
    ],
    "places": [
        TOUCHES,
        {
            "history": "touches", "by": ["user", "timestamp"], "item": "item", "position": "position",
            "makes": {"b": "below", "any": "any", "at": "at", "d": "distances"}, "farthest": 2,
        },
    ],
    "rate": [
        {"by": "item", "prior": 0.1, "makes": {"ctr": "rate", "n": "count", "c": "clicks"}},
        {"by": ["user", "kind"], "prior": 0, "strength": 0, "delay": 3, "makes": {"pair": "rate"}},
    ],
    "since": [TOUCHES, {"history": "touches", "makes": {"n": "count", "s": "seconds", "f": "freshness"}}],
    "within": [
        {
            "by": ["user", "timestamp"], "of": "price", "order": "position", "least": 1, "most": 5,
            "makes": {
                measure: measure
                for measure in (
                    "size", "rank", "higher", "mean", "to_mean", "from_median", "to_above", "from_below",
                    "lowest_above", "positive_above",
                )
            },
        }
    ],
}  # fmt: skip
# A list is one moment of one user, whose rows are known together.
LISTS = ("within", "places")


def tables(draw: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows and events with many ties of users, items and times, and some missing values."""
    one_of = st.sampled_from
    rows = draw(
        st.lists(
            st.tuples(
                one_of(["a", "b", None]), one_of([1, 2, 3, None]), one_of(["x", "y"]), one_of([0, 1, None]),
                st.integers(0, 6), one_of([0.0, 0.1, 2.5, 7.0]), st.integers(0, 1), st.integers(0, 2),
            ),
            min_size=1, max_size=12,
        )
    )  # fmt: skip
    names = ["user", "item", "kind", "click", "timestamp", "price", "session", "step"]
    types = [pl.String, pl.Int32, pl.String, pl.Int8, pl.Int64, pl.Float64, pl.Int64, pl.Int64]
    schema = dict(zip(names, types, strict=True))
    table = pl.DataFrame(rows, schema=schema, orient="row").with_row_index("position")
    events = draw(
        st.lists(
            st.tuples(
                one_of(["a", "b", "c"]), one_of([1, 2, 3, None]), one_of(["x", "y", None]),
                one_of([0, 1, 2, 3, 4, 5, None]), st.integers(0, 1), st.integers(0, 2),
            ),
            max_size=12,
        )
    )  # fmt: skip
    kept = ["user", "item", "kind", "timestamp", "session", "step"]
    return table, pl.DataFrame(events, schema={name: schema[name] for name in kept}, orient="row")


both = st.composite(tables)()


def steps(kind: str) -> list[dict[str, Any]]:
    return [{"name": kind, **step} for step in SETTINGS[kind]]


def derived(kind: str, rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    return derive(plan_of(steps(kind)), SourceTables(rows.lazy(), {"actions": events.lazy()}))


def test_every_kind_is_tested() -> None:
    assert {*SETTINGS} == {*STEPS}


@pytest.mark.parametrize("kind", STEPS)
def test_a_plan_is_written_down_as_it_is_read(kind: str) -> None:
    plan = plan_of(steps(kind))
    assert plan_of([content_of(step) for step in plan.steps]) == plan
    assert {*STEPS[kind].__pydantic_fields__} >= {*content_of(plan.steps[-1])} - {"name"}


@pytest.mark.parametrize("kind", STEPS)
@settings(max_examples=8)
@given(both=both, order=st.randoms(use_true_random=False))
def test_the_order_of_rows_and_events_does_not_matter(
    kind: str, both: tuple[pl.DataFrame, pl.DataFrame], order: Any
) -> None:
    rows, events = both
    expected = derived(kind, rows, events)
    assert expected.select(rows.columns).equals(rows)
    shuffled = order.sample(range(rows.height), rows.height)
    moved = order.sample(range(events.height), events.height)
    found = derived(kind, rows[shuffled], events[moved])
    assert found.equals(expected[shuffled])


@pytest.mark.parametrize("kind", STEPS)
@settings(max_examples=8)
@given(both=both, now=st.integers(1, 6))
def test_what_is_later_does_not_matter(kind: str, both: tuple[pl.DataFrame, pl.DataFrame], now: int) -> None:
    """Neither do other rows of the same time, unless a list is what a step is about."""
    rows, events = both
    expected = derived(kind, rows, events)
    early, before = rows.filter(pl.col("timestamp") <= now), events.filter(pl.col("timestamp") <= now)
    assert derived(kind, early, before).equals(expected.filter(pl.col("timestamp") <= now))
    if kind not in LISTS:
        past = pl.col("timestamp") < rows["timestamp"][-1]
        alone = pl.concat([rows.filter(past), rows[-1]])
        assert derived(kind, alone, events)[-1].equals(expected[-1])


def test_the_steps_of_the_page_can_be_read() -> None:
    page = (Path(__file__).parents[3] / "docs" / "features.md").read_text(encoding="utf-8")
    text = dedent(page[page.index("    events:") : page.index("| step |")])
    plan = plan_of(yaml.safe_load(text)["derive"])
    assert {step.name for step in plan.steps} == {"calendar", "rate", "history", "since", "matched", "cross"}
    assert all(f"| `{kind}` |" in page for kind in STEPS)
