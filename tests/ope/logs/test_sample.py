"""Rows to fit models on: whole users, the same however a log is cut and in whatever order it is read."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.hashing import GOLDEN, mixed
from ctrkit.ope.formats import LogTable
from ctrkit.ope.logs.bandit_log import BanditLog, Part, bandit_log
from ctrkit.ope.logs.sample import Sample, join_logs, narrowed, taken, with_all_actions

ROWS = 300


def draw(users: bool = True, lists: bool = True) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    # Users of one row and users of many, whose rows stand anywhere.
    user = rng.permutation(np.minimum(rng.geometric(0.02, ROWS), 90))
    table = pl.DataFrame(
        {
            "number": np.arange(ROWS),
            "user_id": [f"u{one}" for one in user],
            "action": rng.integers(0, 5, ROWS),
            "propensity": rng.uniform(0.2, 1, ROWS),
            "reward": rng.random(ROWS),
        }
    )
    if not users:
        table = table.drop("user_id")
    if not lists:
        return table
    order = [rng.permutation(5)[: rng.integers(2, 6)].tolist() for _ in range(ROWS)]
    order = [[*dict.fromkeys([*row, action])] for row, action in zip(order, table["action"], strict=True)]
    lengths = [len(row) for row in order]
    return table.with_columns(
        candidates=pl.Series(order),
        candidate_price=pl.Series([[10.0 * one for one in row] for row in order]),
        candidate_name=pl.Series([[f"ad {one}" for one in row] for row in order]),
        propensity=1 / pl.Series(lengths),
        logging_probabilities=pl.Series([[1 / length] * length for length in lengths]),
    )


def batches(table: pl.DataFrame, cuts: list[int]) -> list[BanditLog]:
    """As parts of one file, each with its row numbers."""
    ends = [0, *cuts, table.height]
    return [
        bandit_log([LogTable(table[start:end], None)], [Part(None, 0, first=start)], None)
        for start, end in pairwise(ends)
    ]


CUTS = [[], [150], [1, 2, 3, 149, 250, 299], list(range(25, ROWS, 25))]


def rows_of(log: BanditLog) -> list[int]:
    return sorted(log.table["number"].to_list())


@pytest.mark.parametrize("users", [True, False])
@pytest.mark.parametrize("most", [1, 100, ROWS - 1, ROWS])
def test_neither_cuts_nor_order_matter(users: bool, most: int) -> None:
    table = draw(users)
    found = []
    for cuts in CUTS:
        logs = batches(table, cuts)
        for order in (logs, logs[::-1]):
            sample = Sample(most, seed=3)
            for log in order:
                sample.update(log)
            found.append(sample)
            # Each batch in a part of its own, merged from the last to the first.
            parts = [Sample(most, seed=3) for _ in order]
            for part, log in zip(parts, order, strict=True):
                part.update(log)
            for part in parts[-2::-1]:
                part.merge(parts[-1])
                parts[-1] = part
            found.append(parts[-1])
    expected = brute_force(table, most, seed=3, users=users)
    for sample in found:
        if not expected:
            with pytest.raises(DataError, match="more than 1 rows"):
                sample.log()
            continue
        log = sample.log()
        assert rows_of(log) == expected
        assert len(log) <= most
        assert sample.whole is (len(expected) == ROWS)
        assert sample.seen == ROWS
        np.testing.assert_array_equal(log.reward, log.table["reward"].to_numpy())
        np.testing.assert_array_equal(log.propensity, log.table["propensity"].to_numpy())


def brute_force(table: pl.DataFrame, most: int, seed: int, users: bool) -> list[int]:
    """Users in the order of their hashes, as long as there is room; a loop over them."""
    (log,) = batches(table, [])
    if table.height <= most:
        return list(range(ROWS))
    start = mixed(np.array([seed], dtype=np.uint64) * GOLDEN + GOLDEN)
    rows: dict[int, list[int]] = {}
    for number, key in enumerate(mixed(log.units ^ start)):
        rows.setdefault(int(key), []).append(number)
    assert (len(rows) < ROWS) is users
    kept: list[int] = []
    for key in sorted(rows):
        if len(kept) + len(rows[key]) > most:
            break
        kept += rows[key]
    return sorted(kept)


def test_a_users_rows_are_there_together_and_seeds_differ() -> None:
    table = draw()
    seen = set()
    for seed in range(5):
        sample = Sample(200, seed=seed)
        for log in batches(table, CUTS[3]):
            sample.update(log)
        kept = sample.log().table
        users = kept["user_id"].unique()
        assert table.filter(pl.col("user_id").is_in(users.implode())).height == kept.height
        assert 100 < kept.height <= 200
        seen.add(tuple(rows_of(sample.log())))
    assert len(seen) == 5


def test_memory_stays_with_what_is_kept() -> None:
    sample = Sample(50)
    for log in batches(draw(users=False), list(range(10, ROWS, 10))):
        sample.update(log)
        assert sum(len(part) for part in sample.parts) <= 2 * 50 + 10


def test_narrowed_to_the_logged_candidate() -> None:
    table = draw()
    (log,) = batches(table, [])
    found = narrowed(log)
    assert (found.action_index == 0).all()
    assert found.width == 1
    assert found.table["candidates"].to_list() == [[action] for action in table["action"]]
    assert found.table["candidate_price"].to_list() == [[10.0 * action] for action in table["action"]]
    assert found.table["candidate_name"].to_list() == [[f"ad {action}"] for action in table["action"]]
    assert found.logging_probabilities(slice(0, 3)) is None
    assert found.table["number"].equals(log.table["number"])
    (bare,) = batches(draw(lists=False), [])
    assert narrowed(bare).table.equals(bare.table)
    history = replace(bare, table=bare.table.with_columns(history=pl.Series([[1, 2]] * len(bare))))
    assert "history" not in narrowed(history).table.columns
    assert "history" in narrowed(history, ["history"]).table.columns


def test_rows_taken() -> None:
    (log,) = batches(draw(), [])
    mask = log.reward > 0.5
    found = taken(log, mask)
    assert len(found) == mask.sum()
    for name in ("reward", "propensity", "action_index", "units"):
        np.testing.assert_array_equal(getattr(found, name), getattr(log, name)[mask])
    assert found.table.equals(log.table.filter(pl.Series(mask)))
    place = found.table["candidates"].list.get(pl.Series(found.action_index))
    assert place.to_list() == found.table["action"].to_list()


def test_logs_without_candidates_have_the_actions_of_all_parts() -> None:
    table = draw(lists=False).sort("action")  # the first parts do not have the last actions
    logs = batches(table, [50, 175])
    assert [log.actions.len() for log in logs if log.actions is not None] != [5, 5, 5]
    joined = join_logs(logs)
    assert joined.actions is not None
    assert joined.actions.to_list() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(joined.action_index, table["action"].to_numpy())
    (whole,) = batches(table, [])
    np.testing.assert_array_equal(joined.action_index, whole.action_index)
    np.testing.assert_array_equal(joined.units, whole.units)
    one = with_all_actions(logs[2], whole.actions)
    assert one.width == 5
    np.testing.assert_array_equal(one.action_index, logs[2].table["action"].to_numpy())
    (lists,) = batches(draw(), [])
    assert with_all_actions(lists, whole.actions) is lists
    assert join_logs([whole]) is whole
