"""A filter of hashes: none is missed, and others are found as seldom as promised."""

from __future__ import annotations

import numpy as np

from ctrkit.data.bloom import BITS, PLACES, among, bloom_filter
from ctrkit.hashing import Words


def drawn(seed: int, count: int) -> Words:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def test_none_is_missed_and_few_others_are_found() -> None:
    kept, others = drawn(0, 50_000), drawn(1, 200_000)
    found = bloom_filter(np.concatenate([kept, kept]))
    assert found.nbytes == 100_000
    every = np.concatenate([others, kept])
    np.testing.assert_array_equal(bloom_filter(every, np.arange(every.size) >= others.size), found)
    assert among(kept, found).all()
    # 0.046 % of 200,000 are 92, give or take five standard deviations.
    assert abs(among(others, found).sum() - 92) < 48


def test_a_filter_of_nothing_finds_nothing() -> None:
    assert not among(drawn(2, 1000), bloom_filter(drawn(3, 0))).any()


def test_places_are_those_of_the_formula() -> None:
    """Models keep filters, so places never change: h1 + i h2, whole numbers without end, modulo the bits."""
    hashes = drawn(4, 100)
    bits = [False] * (BITS * len(hashes))
    for one in hashes.tolist():
        for number in range(PLACES):
            bits[((one & 0xFFFFFFFF) + number * (one >> 32 | 1)) % len(bits)] = True
    assert bloom_filter(hashes).tolist() == np.packbits(bits).tolist()
