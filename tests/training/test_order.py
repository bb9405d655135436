"""The order of an epoch: every row once, mixed, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from ctrkit.training import order
from ctrkit.training.order import block_order, epoch_order, of_rank


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "BLOCK", 10)
    monkeypatch.setattr(order, "WINDOW", 7)


def test_blocks_are_read_whole_and_mixed() -> None:
    rows = np.flatnonzero(np.random.default_rng(0).random(5000) < 0.85)[:3990]
    found = block_order(rows, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(found), rows)
    again = epoch_order(rows, None, np.random.default_rng(1), in_blocks=True)
    np.testing.assert_array_equal(again, found)
    assert (block_order(rows, np.random.default_rng(2)) != found).mean() > 0.9
    # A window of 70 rows holds the rows of 7 blocks, from everywhere.
    blocks = np.searchsorted(rows, found) // 10
    assert {np.unique(blocks[start : start + 70]).size for start in range(0, rows.size, 70)} == {7}
    means = [found[start : start + 70].mean() for start in range(0, rows.size, 70)]
    assert np.std(means) < 5000 / np.sqrt(12 * 7) * 1.3
    assert (np.diff(found) != 1).mean() > 0.9


@pytest.mark.parametrize("world", [1, 3, 8])
def test_every_row_is_read_by_one_process(world: int) -> None:
    whole = block_order(np.arange(1003), np.random.default_rng(0))
    parts = [of_rank(whole, rank, world) for rank in range(world)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(1003))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
