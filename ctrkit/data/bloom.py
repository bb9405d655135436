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
from ctrkit.hashing import Words, distinct

BITS, PLACES = 16, 11
# Hashes that are taken in at a time.
_AT_ONCE = 1 << 16


def bloom_filter(hashes: Words) -> NDArray[np.uint8]:
    """The filter of 64-bit hashes, any number of times each."""
    every = distinct(hashes)
    bits = np.zeros(8 * -(-max(BITS * len(every), 64) // 8), dtype=bool)
    for first in range(0, len(every), _AT_ONCE):
        for place in _places(every[first : first + _AT_ONCE], len(bits)):
            bits[place] = True
    return np.packbits(bits)


def among(hashes: Words, bloom: NDArray[np.uint8]) -> Booleans:
    """Which hashes are, up to false positives, among those of the filter, [n]."""
    found = np.ones(len(hashes), dtype=bool)
    for place in _places(hashes, 8 * len(bloom)):
        found &= (bloom[place >> 3] >> (7 - (place & 7)).astype(np.uint8)) & 1 == 1
    return found


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
