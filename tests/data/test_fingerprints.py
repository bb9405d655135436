from __future__ import annotations

import numpy as np
import pytest

from ctrkit.data.encoder import EncodedTable
from ctrkit.data.fingerprints import row_hashes, sample_of, share_seen


def table(ids: list[int], number: float = 0.5, history: int = 3, label: int = 0) -> EncodedTable:
    n = len(ids)
    return EncodedTable(
        np.array(ids, np.int32)[:, None],
        np.full((n, 1), number, np.float32),
        {"seen": np.full((n, 2), history, np.int32)},
        np.full((n, 1), label, np.float32),
        np.ones(n, np.float32),
    )


def test_hashes_are_of_all_that_a_row_holds() -> None:
    same, other = row_hashes(table([7, 7, 8])), row_hashes(table([7]))
    assert same[0] == same[1] == other[0]
    assert same[2] != same[0]
    for changed in (table([7], number=0.25), table([7], history=4), table([7], label=1)):
        assert row_hashes(changed)[0] != same[0]


def test_the_mixing_is_splitmix64() -> None:
    # The first output of SplitMix64 with the seed 0, as its authors' code gives it.
    empty = EncodedTable(
        np.zeros((1, 1), np.int32), np.zeros((1, 0), np.float32), {}, np.zeros((1, 0), np.float32), np.ones(1)
    )  # fmt: skip
    assert row_hashes(empty)[0] == np.uint64(0xE220A8397B1DCDAF)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("size", [500, 100_000])
def test_the_share_is_found(share: float, size: int) -> None:
    ids = np.arange(40_000)
    seen = row_hashes(table(ids[:20_000].tolist()))
    mixed = np.concatenate([ids[: int(share * 10_000)], ids[30_000 : 40_000 - int(share * 10_000)]])
    found = share_seen(row_hashes(table(mixed.tolist())), sample_of(seen, size), size)
    assert found == pytest.approx(share, abs=0.0 if size > 20_000 or share in (0, 1) else 0.1)


def test_no_rows_tell_nothing() -> None:
    assert np.isnan(share_seen(np.array([], np.uint64), sample_of(row_hashes(table([1])))))
