"""The log of a journal, against a plain account of what was shown and what came of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import ctrkit
from ctrkit.errors import ConfigError, DataError
from ctrkit.serving.feedback.entries import Decision, Entry, Event, Notice
from ctrkit.serving.feedback.journal import Journals

ADS = ["a", "b", "c"]


def decision(name: str, time: float, choice: int | None = None, **more: Any) -> Decision:
    columns = {"ad": ADS, "price": [1, None, 2.5]}
    propensity, probabilities = (None, None) if choice is None else (0.5, [0.25, 0.25, 0.5])
    head = name, time, "m", "v1", None, {"hour": 7}, columns, {"click": [0.1, 0.2, 0.3]}, "ad"
    return Decision(*head, choice, propensity, probabilities, **more)


def keep(folder: Path, *entries: Entry) -> None:
    journal = Journals(folder)
    for entry in entries:
        assert journal.keep(entry)
    journal.close()


def rows(folder: Path, **given: Any) -> list[dict[str, Any]]:
    ctrkit.join_feedback(folder, out=folder.parent / "log.parquet", **given)
    return pl.read_parquet(folder.parent / "log.parquet").to_dicts()


def by_hand(entries: list[Entry], window: float | None) -> list[tuple[Any, ...]]:
    """Request, candidate, cost, click and conversion with their times, and value of what was shown."""
    entries = sorted(entries, key=lambda one: one.time)
    newest, found, seen = entries[-1].time, [], set()
    for one in entries:
        if not isinstance(one, Decision) or (one.request_id, one.campaign) in seen:
            continue
        seen.add((one.request_id, one.campaign))
        if window is not None and one.time + window > newest:
            continue
        events: dict[str, Event] = {}
        for event in entries:
            if isinstance(event, Event):
                events.setdefault(event.event_id, event)
        mine = [event for event in events.values() if event.request_id == one.request_id]
        notice = next((it for it in entries if isinstance(it, Notice)
                       and (it.auction, it.campaign) == (one.auction, one.campaign)), None)  # fmt: skip
        for place in range(len(ADS)):
            about = [
                event
                for event in mine
                if (one.choice if event.candidate is None else event.candidate) == place
            ]
            won = notice is not None and notice.won and one.choice == place
            drawn = one.campaign is None and one.choice == place
            if not (won or drawn or any(event.kind == "impression" for event in about)):
                continue
            inside = [event for event in about if window is None or 0 <= event.time - one.time <= window]
            clicks = [event.time for event in inside if event.kind == "click"]
            sales = [event for event in inside if event.kind == "conversion"]
            cost = notice.price if won and notice is not None else None
            sold = min((it.time for it in sales), default=None)
            worth = sum(it.value or 0.0 for it in sales)
            found.append((one.request_id, ADS[place], cost, min(clicks, default=None), sold, worth))
    return sorted(found, key=str)


@pytest.mark.parametrize("window", [None, 40.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_rows_are_what_was_shown(tmp_path: Path, seed: int, window: float | None) -> None:
    draw = random.Random(seed)
    entries: list[Entry] = []
    for number in range(60):
        name, time = f"r{draw.randrange(40)}", float(number)
        if draw.random() < 0.5:
            entries.append(decision(name, time, draw.choice([None, 0, 1, 2])))
        else:
            campaign, place = draw.choice(["x", "y"]), draw.choice([None, 0, 2])
            entries.append(decision(name, time, place, bid=0.1, campaign=campaign, auction=name))
    for _ in range(150):
        name, time = f"r{draw.randrange(45)}", 200 * draw.random()
        kind = draw.choice(["impression", "click", "conversion"])
        place = draw.choice([None, None, 0, 1, 2, 7])
        entries.append(Event(f"e{draw.randrange(120)}", name, kind, time, draw.choice([None, 2.0]), place))  # type: ignore[arg-type]
        entries.append(Notice(name, draw.choice("xy"), time, draw.random() < 0.7, round(time, 3)))
    for part in (entries[::2], entries[1::2]):  # two processes
        keep(tmp_path / "journal", *part)
    found = rows(tmp_path / "journal", rows="impressions", window=window)
    fields = "event_id", "ad", "cost", "click_time", "conversion_time", "value"
    assert sorted((tuple(one[name] for name in fields) for one in found), key=str) == by_hand(entries, window)
    for one in found:
        assert (one["click"], one["conversion"]) == (
            int(one["click_time"] is not None), int(one["conversion_time"] is not None),
        )  # fmt: skip
        place = ADS.index(one["ad"])
        assert (one["hour"], one["price"]) == (7, [1, None, 2.5][place])
        assert one["served_click"] == [0.1, 0.2, 0.3][place]


def test_only_events_of_the_window_count(tmp_path: Path) -> None:
    keep(
        tmp_path / "journal",
        decision("a", 0.0, 1), decision("b", 50.0, 1), decision("c", 95.0, 1),
        Event("1", "a", "click", 11.0), Event("2", "b", "click", 60.0), Event("3", "c", "click", 100.0),
    )  # fmt: skip
    found = ctrkit.join_feedback(tmp_path / "journal", out=tmp_path / "log.parquet", window=10)
    assert (found.rows, found.counts["open"], found.counts["late"], found.counts["events"]) == (2, 1, 1, 1)
    assert pl.read_parquet(tmp_path / "log.parquet")["reward"].to_list() == [0, 1]


def test_columns_of_parts_come_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrkit.serving.feedback.join._PART", 1)
    one = decision("a", 0.0, 0)
    scores = {"click": [0.1] * 3}
    two = Decision("b", 1.0, "m", "v2", None, {"hour": 7.5, "city": "ulm"}, {"ad": ADS}, scores, "ad", 0)
    three = Decision("c", 2.0, "m", "v2", None, {}, {"ad": [1, 2, 3]}, scores, "ad", 2)
    keep(tmp_path / "journal", one, two, three)
    found = rows(tmp_path / "journal", rows="impressions")
    assert [row["hour"] for row in found] == [7, 7.5, None]
    assert [row["city"] for row in found] == [None, "ulm", None]
    assert [row["ad"] for row in found] == ["a", "a", "3"]
    assert [row["price"] for row in found] == [1, None, None]


def test_what_cannot_be_joined_is_told(tmp_path: Path) -> None:
    keep(tmp_path / "journal", decision("a", 0.0))
    with pytest.raises(DataError, match="shown"):
        ctrkit.join_feedback(tmp_path / "journal", out=tmp_path / "log.parquet")
    keep(
        tmp_path / "other",
        Decision("a", 0.0, "m", "v", None, {"cost": 3}, {"ad": ADS}, {"click": [0.1] * 3}, None, 1),
    )
    with pytest.raises(DataError, match="name of a column of the log"):
        ctrkit.join_feedback(tmp_path / "other", out=tmp_path / "log.parquet", rows="impressions")
    with pytest.raises(DataError, match="no column of ids"):
        ctrkit.join_feedback(tmp_path / "other", out=tmp_path / "log.parquet")
    with pytest.raises(ConfigError, match=r"\.parquet"):
        ctrkit.join_feedback(tmp_path / "other", out=tmp_path / "log.csv")
    for wrong in ({"rows": "all"}, {"reward": "fame"}, {"window": -1.0}, {"window": float("nan")}):
        with pytest.raises(ConfigError):
            ctrkit.join_feedback(tmp_path / "other", out=tmp_path / "log.parquet", **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no such folder"):
        ctrkit.join_feedback(tmp_path / "none", out=tmp_path / "log.parquet")
    assert not (tmp_path / "log.parquet").exists()
