"""Predictions are compared with what came of them, once, when it is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctrkit.serving.feedback.entries import Event, Notice
from ctrkit.serving.feedback.journal import Journals
from ctrkit.serving.feedback.outcomes import Outcomes

PREDICTED = {"click": np.array([0.125, 0.25, 0.5]), "conversion": np.array([0.5, 0.25, 0.125])}


def test_outcomes_are_those_of_what_was_shown(tmp_path: Path) -> None:
    now, told = [0.0], []
    earlier = Journals(tmp_path)
    earlier.keep(Event("0", "a", "click", 0.0))
    earlier.close()
    outcomes = Outcomes(tmp_path, lambda *one: told.append(one), 10, clock=lambda: now[0])
    outcomes.follow("a", "v", PREDICTED, choice=1)
    outcomes.follow("a", "w", PREDICTED, choice=2)  # the request was sent again
    outcomes.follow("b", "v", PREDICTED)
    outcomes.follow("c", "v", PREDICTED, choice=2, bid=("auction", "spring"))
    outcomes.follow("d", "v", PREDICTED, choice=0, bid=("lost", "spring"))
    other = Journals(tmp_path)  # of another process
    for entry in (
        Event("1", "a", "click", 1.0),
        Event("2", "a", "conversion", 2.0),
        Event("3", "a", "click", 1.0, candidate=0),
        Event("4", "b", "impression", 1.0, candidate=0),
        Event("5", "b", "impression", 1.0, candidate=2),
        Event("6", "b", "click", 1.0, candidate=2),
        Event("7", "b", "click", 1.0, candidate=9),
        Event("8", "b", "click", 1.0),
        Notice("auction", "spring", 1.0, True, 0.1),
        Notice("lost", "spring", 1.0, False, 0.0),
        Event("9", "d", "click", 1.0),
        Event("10", "nobody", "click", 1.0),
    ):
        other.keep(entry)
    other.close()
    (tmp_path / "outcomes-9-torn.jsonl").write_bytes(b'{"entry": "ev')
    outcomes.look()
    assert not told
    now[0] = 10.0
    outcomes.look()
    assert told == [
        ("v", "click", 0.25, 1.0), ("v", "conversion", 0.25, 1.0),
        ("v", "click", 0.125, 0.0), ("v", "click", 0.5, 1.0), ("v", "conversion", 0.125, 0.0),
        ("v", "click", 0.5, 0.0),
    ]  # fmt: skip
    outcomes.look()
    assert len(told) == 6
    outcomes.follow("a", "v", PREDICTED, choice=1)
    now[0] = 20.0
    outcomes.look()
    assert told[6:] == [("v", "click", 0.25, 0.0)]


def test_what_waits_has_its_limit(tmp_path: Path) -> None:
    told: list[tuple[str, str, float, float]] = []
    outcomes = Outcomes(tmp_path, lambda *one: told.append(one), 0, most=5000)
    found = [outcomes.follow(f"r{place}", "v", PREDICTED, choice=1) for place in range(100)]
    assert found == [True] * 4 + [False] * 96
    outcomes.look()
    assert len(told) == 4
    outcomes.follow("r0", "v", PREDICTED, choice=1)
    outcomes.look()
    assert len(told) == 5
