"""A filter of hashes: none is missed, and others are found as seldom as promised."""

from __future__ import annotations

import numpy as np

from ctrkit.data.bloom import among, bloom_filter
from ctrkit.hashing import Words


def drawn(seed: int, count: int) -> Words:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def test_none_is_missed_and_few_others_are_found() -> None:
    kept, others = drawn(0, 50_000), drawn(1, 200_000)
    found = bloom_filter(np.concatenate([kept, kept]))
    assert found.nbytes == 100_000
    assert among(kept, found).all()
    # 0.046 % of 200,000 are 92, give or take five standard deviations.
    assert abs(among(others, found).sum() - 92) < 48


def test_a_filter_of_nothing_finds_nothing() -> None:
    assert not among(drawn(2, 1000), bloom_filter(drawn(3, 0))).any()
