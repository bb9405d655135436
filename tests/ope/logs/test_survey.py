"""Facts of a log, joined from those of its batches in any order."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import polars as pl
import pytest

from ctrkit.ope import read_bandit_log
from ctrkit.ope.logs.survey import LogFacts, Survey

ROWS = 90


def draw() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "timestamp": 1.7e9 + rng.uniform(0, 1e6, ROWS),
            "user_id": rng.integers(0, 20, ROWS),
            "action": np.sort(rng.integers(0, 6, ROWS)),
            "propensity": rng.uniform(0.1, 0.9, ROWS),
            "reward": np.where(np.arange(ROWS) < 60, np.arange(ROWS) % 2, rng.normal(size=ROWS)),
        }
    )


def surveyed(table: pl.DataFrame, most: int = 0) -> Survey:
    found = Survey(most)
    found.update(read_bandit_log(table))
    return found


def same(one: LogFacts, two: LogFacts) -> None:
    assert (one.actions is None) is (two.actions is None)
    if one.actions is not None and two.actions is not None:
        assert one.actions.to_list() == two.actions.to_list()
    assert replace(one, actions=None) == replace(two, actions=None)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_batches_and_merges_in_any_order(order: tuple[int, ...]) -> None:
    table = draw()
    parts = [table[start : start + 30] for start in (0, 30, 60)]
    merged, batched = surveyed(parts[order[0]]), Survey()
    for place in order[1:]:
        merged.merge(surveyed(parts[place]))
    for place in order:
        batched.update(read_bandit_log(parts[place]))
    whole = surveyed(table)
    for found in (merged, batched):
        same(found.facts, whole.facts)
    facts = whole.facts
    assert facts.rows == ROWS
    assert facts.rewards == (table["reward"].min(), table["reward"].max())
    assert facts.propensities == (table["propensity"].min(), table["propensity"].max())
    assert facts.times == (table["timestamp"].min(), table["timestamp"].max())
    assert not facts.binary
    assert facts.clustered
    assert facts.actions is not None
    assert facts.actions.to_list() == list(range(6))


def test_all_batches_must_be_binary_and_have_times() -> None:
    table = draw()
    assert surveyed(table[:60]).facts.binary
    bare = surveyed(table[:30].drop("timestamp", "user_id"))
    assert bare.facts.times is None
    assert not bare.facts.clustered
    lists = table.with_columns(candidates=pl.concat_list("action", pl.lit(9)))
    assert surveyed(lists).facts.actions is None


def test_notes_are_told_once_and_a_balance_is_kept() -> None:
    log = read_bandit_log(draw())
    balance = pl.DataFrame({"action": [1]})
    one = LogFacts.of(replace(log, notes=("a", "b")))
    two = LogFacts.of(replace(log, notes=("b", "c"), balance=balance))
    assert one.joined(two).notes == ("a", "b", "c")
    assert one.joined(two).balance is balance
    assert two.joined(one).balance is balance


def test_texts_and_wider_numbers_as_actions() -> None:
    table = draw().with_columns(action=pl.format("ad {}", "action"))
    found = surveyed(table[60:])
    found.merge(surveyed(table[:60]))
    assert found.facts.actions is not None
    assert found.facts.actions.to_list() == [f"ad {number}" for number in range(6)]
    narrow, wide = draw().with_columns(pl.col("action").cast(pl.Int8)), draw()
    for one, two in ((narrow, wide), (wide, narrow)):
        mixed = surveyed(one[:50])
        mixed.merge(surveyed(two[50:].with_columns(pl.col("action") + 100)))
        assert mixed.facts.actions is not None
        expected = sorted({*draw()["action"][:50], *(100 + draw()["action"][50:])})
        assert mixed.facts.actions.to_list() == expected


def test_a_sample_goes_with_the_facts() -> None:
    table = draw()
    found = surveyed(table[:50], most=1000)
    found.merge(surveyed(table[50:], most=1000))
    assert found.sample is not None
    assert found.sample.whole
    assert len(found.sample.log()) == ROWS
    without = surveyed(table)
    assert without.sample is None
    without.merge(found)
    assert without.sample is found.sample
