"""Histories, matches, rates and clocks against loops over all events."""

from __future__ import annotations

from datetime import datetime
from math import floor, log2
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.data.derive import EventFiles, derive, derive_in_parts, plan_of
from ctrkit.data.derive.windows import lists_at
from ctrkit.data.sources import SourceTables
from ctrkit.errors import DataError
from ctrkit.schema.times import reader_between, unix_seconds

START = 1_700_000_000


def log(rows: int, users: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    whole = {"user": users, "item": 6, "click": 2, "session": 2, "step": 5}
    columns = {name: rng.integers(0, high, rows) for name, high in whole.items()}
    return pl.DataFrame({**columns, "timestamp": START + rng.integers(0, 40, rows)})


def test_a_history_and_its_matches_are_those_of_a_loop() -> None:
    rows, events = log(150, 5, 1), log(400, 6, 2)
    steps = [
        {
            "name": "history", "history": "h", "events": "events", "by": "user", "session": "session",
            "step": "step", "order": "item", "columns": {"items": "item", "sessions": "session"},
            "gap": "gap", "length": 7,
        },
        {"name": "since", "history": "h", "makes": {"n": "count", "s": "seconds"}},
        {
            "name": "matched", "history": "h", "equal": "item", "columns": {"clicks": "click"}, "length": 3,
            "makes": {"m": "count", "ago": "events", "ms": "seconds"},
        },
    ]  # fmt: skip
    found = derive(plan_of(steps), SourceTables(rows.lazy(), {"events": events.lazy()}))
    ordered = events.sort("timestamp", "session", "step", "item", "click").to_dicts()
    for row in found.to_dicts():
        known = []
        for event in (one for one in ordered if one["user"] == row["user"]):
            same = event["timestamp"] == row["timestamp"] and event["session"] == row["session"]
            if event["timestamp"] < row["timestamp"] or (same and event["step"] < row["step"]):
                known.append(event)
            elif event["timestamp"] == row["timestamp"]:
                break  # after another session's event of the same second nothing is known to be earlier
        assert row["n"] == len(known)
        assert row["items"] == [event["item"] for event in known][-7:]
        assert row["gap"] == [floor(log2(1 + row["timestamp"] - event["timestamp"])) for event in known][-7:]
        assert row["s"] == (row["timestamp"] - known[-1]["timestamp"] if known else None)
        places = [place for place, event in enumerate(known) if event["item"] == row["item"]]
        assert row["m"] == len(places)
        assert row["clicks"] == [known[place]["click"] for place in places][-3:]
        assert row["ago"] == (len(known) - 1 - places[-1] if places else None)


def test_rates_count_only_labels_that_were_known() -> None:
    rows = log(300, 5, 3)
    steps = [
        {
            "name": "rate", "by": ["user", "item"], "prior": 0.2, "strength": 5, "delay": 4,
            "makes": {"rate": "rate", "n": "count"},
        }
    ]  # fmt: skip
    found = derive(plan_of(steps), SourceTables(rows.lazy()))
    for row in found.to_dicts():
        past = rows.filter(
            pl.col("user") == row["user"],
            pl.col("item") == row["item"],
            pl.col("timestamp") + 4 < row["timestamp"],
        )
        assert row["n"] == past.height
        assert row["rate"] == pytest.approx((past["click"].sum() + 1) / (past.height + 5), rel=1e-14)


@pytest.mark.parametrize("parts", [1, 3, 50])
def test_parts_give_the_same_bits(parts: int, tmp_path: Path) -> None:
    rows, events = log(300, 20, 4), log(500, 25, 5).with_columns(pl.col("user").cast(pl.String))
    steps = [
        {"name": "cross", "of": ["user", "item"], "makes": "pair"},
        {"name": "history", "history": "h", "events": "events", "by": "user", "columns": {"items": "item"}},
        {"name": "matched", "history": "h", "equal": "item", "makes": {"r": "recency"}},
        {"name": "calendar", "makes": {"hour": "hour"}},
        {"name": "rate", "by": "pair", "prior": 0.1, "makes": {"ctr": "rate"}},
        {"name": "within", "by": ["user", "timestamp"], "of": "ctr", "makes": {"to_mean": "to_mean"}},
        {
            "name": "history",
            "history": "own",
            "by": "user",
            "where": {"click": 1},
            "columns": {"pairs": "pair"},
        },
    ]
    tables = SourceTables(rows.lazy(), {"events": events.lazy()})
    found = derive_in_parts(plan_of(steps), tables, tmp_path, parts=parts).collect()
    assert found.equals(derive(plan_of(steps), tables))
    assert found["items"].list.len().sum() > 500


@pytest.mark.parametrize("parts", [1, 3, 50])
def test_rows_point_at_events_that_are_stored_once(parts: int, tmp_path: Path) -> None:
    rows, events = log(300, 20, 4), log(500, 25, 5)
    steps = [
        {
            "name": "history", "history": "h", "events": "events", "by": "user", "length": 7, "gap": "gap",
            "columns": {"items": "item", "clicks": "click"}, "hour": "hours",
        },
        {"name": "matched", "history": "h", "equal": "item", "columns": {"matches": "click"}, "length": 3},
    ]  # fmt: skip
    tables, plan = SourceTables(rows.lazy(), {"events": events.lazy()}), plan_of(steps)
    once = EventFiles(tmp_path / "events", ["items", "hours", "matches", "user"])
    found = derive_in_parts(plan, tables, tmp_path, parts=parts, events_once=once).collect()
    columns, whole = once.columns(), derive(plan, tables)
    assert {*columns} == {"items", "hours", "matches"}
    assert found.drop(columns).equals(whole.drop(columns))
    for name, values in columns.items():
        assert lists_at(found[name], values).equals(whole[name])
    # Every event that a row lists, once: the newest 7 before any row of its user.
    seen = set[tuple[int, int]]()
    ordered = events.with_row_index().sort("timestamp", *events.columns).to_dicts()
    for row in rows.to_dicts():
        mine = [e for e in ordered if e["user"] == row["user"] and e["timestamp"] < row["timestamp"]]
        seen |= {(e["user"], e["index"]) for e in mine[-7:]}
    assert columns["items"].len() == columns["hours"].len() == len(seen)


def test_hours_are_those_of_the_zone() -> None:
    # The clock of Berlin is set back at 2024-10-27 03:00, and Kolkata is five and a half hours ahead.
    times = [1_729_981_800 + 1800 * step for step in range(8)]
    for zone in ("Europe/Berlin", "Asia/Kolkata"):
        steps = [
            {
                "name": "calendar", "zone": zone, "holidays": ["2024-10-27"],
                "makes": {"hour": "hour", "weekday": "weekday", "free": "holiday"},
            }
        ]  # fmt: skip
        found = derive(plan_of(steps), SourceTables(pl.LazyFrame({"timestamp": times})))
        local = [datetime.fromtimestamp(one, ZoneInfo(zone)) for one in times]
        assert found["hour"].to_list() == [one.hour for one in local]
        assert found["weekday"].to_list() == [one.isoweekday() for one in local]
        assert found["free"].to_list() == [int((one.month, one.day) == (10, 27)) for one in local]


@given(st.lists(st.one_of(st.integers(0, 10**20), st.integers(START, START + 10**9)), min_size=1, max_size=5))
def test_times_between_two_are_read_as_in_the_whole(numbers: list[int]) -> None:
    values = pl.Series([one % 2**62 for one in numbers])
    read = reader_between(pl.Series([values.min(), values.max()]))
    if read is not None:
        assert read(values).equals(unix_seconds(values))


def test_lists_need_one_position_for_each_row() -> None:
    rows = pl.LazyFrame({"page": [1, 1], "price": [2.0, 3.0], "position": [1, 1]})
    steps = [{"name": "within", "by": "page", "of": "price", "order": "position", "makes": {"x": "above"}}]
    with pytest.raises(DataError, match="column 'position': two rows of a list have the same position"):
        derive(plan_of(steps), SourceTables(rows))
