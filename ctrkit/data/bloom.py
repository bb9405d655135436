"""Whether a hash is one of many: a Bloom filter, small enough to travel in a model.

Bloom, Space/Time Trade-offs in Hash Coding with Allowable Errors, Communications of the ACM 1970. With
sixteen bits for each hash and eleven places, a hash that is there is always found, and one that is not is
found with a probability of (1 - exp(-11 / 16))^11 = 0.046 %. A million hashes take 2 MB; sorted they would
take 8 MB.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Integers
from ctrkit.compiled import kernel
from ctrkit.hashing import Words

BITS, PLACES = 16, 11


def bloom_filter(hashes: Words, rows: Booleans | None = None) -> NDArray[np.uint8]:
    """The filter of 64-bit hashes, any number of times each.

    Args:
        hashes: the hashes.
        rows: which of them the filter is of; by default all.
    """
    # Nothing but one copy of the hashes: they may be as many as there are rows.
    every = hashes.copy() if rows is None else hashes[rows]
    every.sort()
    count = int((every[1:] != every[:-1]).sum()) + bool(every.size)
    bloom = np.zeros(-(-max(BITS * count, 64) // 8), dtype=np.uint8)
    _fill(every, bloom)
    return bloom


def among(hashes: Words, bloom: NDArray[np.uint8]) -> Booleans:
    """Which hashes are, up to false positives, among those of the filter, [n]."""
    found = np.ones(len(hashes), dtype=bool)
    for place in _places(hashes, 8 * len(bloom)):
        found &= (bloom[place >> 3] >> (7 - (place & 7)).astype(np.uint8)) & 1 == 1
    return found


@kernel("void(u8[::1], u1[::1])", "hashes: N; bloom: M")
def _fill(hashes: Words, bloom: NDArray[np.uint8]) -> None:
    """Set the bits of `_places`."""
    end = np.uint64(8 * bloom.shape[0])
    for hash_ in hashes:
        place, step = (hash_ & np.uint64(0xFFFFFFFF)) % end, ((hash_ >> np.uint64(32)) | np.uint64(1)) % end
        for _ in range(PLACES):
            bloom[place >> np.uint64(3)] |= np.uint8(128) >> np.uint8(place & np.uint64(7))
            place += step
            if place >= end:
                place -= end


def _places(hashes: Words, bits: int) -> Iterator[Integers]:
    """The places of each hash: sums of its halves (Kirsch and Mitzenmacher, Less Hashing, Same Performance,
    ESA 2006)."""
    first, step = hashes & np.uint64(0xFFFFFFFF), (hashes >> np.uint64(32)) | np.uint64(1)
    end = np.uint64(bits)
    place, step = first % end, step % end
    for _ in range(PLACES):
        yield place.view(np.int64)
        # A sum beyond the end begins anew: less the end it is lower, and any other one becomes huge.
        # So only two divisions are needed, which take as long as ten of these steps.
        place = place + step
        np.minimum(place, place - end, out=place)
