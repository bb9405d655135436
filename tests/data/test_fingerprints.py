from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.fingerprints import row_hashes, rows_seen, sample_of, seen_state, share_of_seen, share_seen
from ctrkit.schema import FeatureSpec
from tests.padded import histories


def table(ids: list[int], number: float = 0.5, history: int = 3, label: int = 0) -> EncodedTable:
    n = len(ids)
    return EncodedTable(
        np.array(ids, np.int32)[:, None],
        np.full((n, 1), number, np.float32),
        {"seen": histories(np.full((n, 2), history, np.int32))},
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
    found = share_seen(row_hashes(table(mixed.tolist())), sample_of(seen, size=size), size)
    assert found == pytest.approx(share, abs=0.0 if size > 20_000 or share in (0, 1) else 0.1)


def test_no_rows_tell_nothing() -> None:
    assert np.isnan(share_seen(np.array([], np.uint64), sample_of(row_hashes(table([1])))))


SPEC = FeatureSpec.model_validate({"categorical": [{"name": "ad"}], "timestamp": "at"})


@pytest.mark.parametrize("by", ["ids", "times"])
@pytest.mark.parametrize("started", [False, True])
def test_rows_of_a_split_at_random_are_told_one_by_one(by: str, started: bool) -> None:
    """By ids if times are shifted, by times if ids are not unique; also those of the model before it."""
    ids = np.arange(6000) if by == "ids" else np.arange(6000) % 7
    raw = pl.DataFrame({"at": np.arange(6000) * 60.0})
    data = table(ids.tolist())
    parts = np.random.default_rng(0).permutation(6000)
    training, chosen_by, held_out = np.split(parts, [3000, 4000])
    state = seen_state(SPEC, raw, data, training, np.concatenate([chosen_by, held_out]), chosen_by)
    # Where rows are alike by chance, the key keeps no filter.
    assert ("filter" in state) == (by == "ids")
    if started:
        others = np.arange(6000, 9000)
        state = {
            **seen_state(
                SPEC,
                pl.DataFrame({"at": others * 60.0}),
                table(others.tolist()),
                np.arange(2000),
                np.arange(2000, 3000),
            ),
            "start": state,
        }
    rows = raw.with_columns(pl.col("at") + 7.0) if by == "ids" else raw
    found = rows_seen(state, SPEC, rows, data)
    assert found is not None
    expected = np.isin(np.arange(6000), np.concatenate([training, chosen_by]))
    assert not (expected & ~found).any()
    assert (found & ~expected).sum() <= 6
    assert share_of_seen(state, SPEC, rows, data) == pytest.approx(0.5, abs=0.02)


def test_rows_that_no_key_tells_apart_are_not_told() -> None:
    raw, data = pl.DataFrame({"at": np.zeros(100)}), table([3] * 100)
    state = seen_state(SPEC, raw, data, np.arange(50), np.arange(50, 100))
    assert rows_seen(state, SPEC, raw, data) is None


def test_a_sample_holds_the_smallest_hashes_of_its_rows() -> None:
    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 1 << 64, 600_000, dtype=np.uint64) // np.uint64(3)
    rows = draw.random(hashes.size) < 0.3
    np.testing.assert_array_equal(sample_of(hashes, rows), np.unique(hashes[rows])[:8192])
    np.testing.assert_array_equal(sample_of(hashes[:50]), np.unique(hashes[:50]))
