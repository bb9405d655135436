"""Sums by unit, such as a user, whose rows may be in any batch and part of a log."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Floats, Integers
from ctrkit.compiled import kernel
from ctrkit.hashing import Words

# 2^64 over the golden ratio: its products spread neighbouring keys over a table (Fibonacci hashing, Knuth,
# The Art of Computer Programming, volume 3, section 6.4).
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_LEAST = 64

# Keys of units, [B], of 64 bits; a unit has the same key in any batch or part.
Keys: TypeAlias = Integers | Words


class UnitSums:
    """Sums of vectors of one length by key. Memory grows with the number of units, and not of rows.

    Attributes:
        added: number of vectors added.
    """

    def __init__(self, length: int) -> None:
        self.added = 0
        self._count = 0
        self._keys = np.zeros(0, dtype=np.uint64)
        self._sums = np.zeros((0, length))
        self._table = np.zeros(0, dtype=np.int32)

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> Words:
        """[U] keys, in the order of their first vectors."""
        return self._keys[: self._count]

    @property
    def sums(self) -> Floats:
        """[U, D] sums, in the order of `keys`."""
        return self._sums[: self._count]

    @property
    def repeated(self) -> bool:
        """Whether some unit had several vectors."""
        return self.added > self._count

    def add(self, keys: Keys, vectors: Floats) -> Integers:
        """Add vectors, the columns of [D, B], to the sums of keys [B]; gives each key's index, [B]."""
        keys = np.ascontiguousarray(keys).astype(np.uint64, copy=False)
        vectors, indices = np.ascontiguousarray(vectors), np.empty(len(keys), dtype=np.int64)
        self.added += len(keys)
        done = 0
        while True:
            state = np.array([done, self._count])
            if len(self._table):
                _add(keys, vectors, indices, self._keys, self._sums, self._table, state)
            done, self._count = state.tolist()
            if done == len(keys):
                return indices
            self._grow()

    def merge(self, other: UnitSums) -> Integers:
        """Add the sums of another, of the same or of other units; gives the index of each unit, [U]."""
        added = self.added + other.added
        indices = self.add(other.keys, other.sums.T)
        self.added = added
        return indices

    def project(self, projection: Floats) -> None:
        """Replace each sum z by projection · z; projection [E, D]."""
        self._sums = np.ascontiguousarray(self._sums @ projection.T)

    def _grow(self) -> None:
        """Make room for a quarter more units, and rebuild the table."""
        room = max(_LEAST, self._count + self._count // 4)
        known, sums = self.keys, np.zeros((room, self._sums.shape[1]))
        sums[: self._count] = self.sums
        self._keys, self._sums = np.zeros(room, dtype=np.uint64), sums
        self._table = np.full(2 ** (room + room // 2).bit_length(), -1, dtype=np.int32)
        state, indices = np.zeros(2, dtype=np.int64), np.empty(self._count, dtype=np.int64)
        _add(known, np.zeros((0, len(known))), indices, self._keys, np.zeros((room, 0)), self._table, state)


def _types() -> object:
    from numba import types

    return types.void(
        types.Array(types.uint64, 1, "C", readonly=True),
        types.Array(types.float64, 2, "C", readonly=True),
        types.int64[::1],
        types.uint64[::1],
        types.float64[:, ::1],
        types.int32[::1],
        types.int64[::1],
    )


@kernel(
    _types,
    "keys: B; vectors: D B; indices: B; known: U; sums: U D; table: T; state: 2",
)
def _add(
    keys: Words,
    vectors: Floats,
    indices: Integers,
    known: Words,
    sums: Floats,
    table: NDArray[np.int32],
    state: Integers,
) -> None:
    """Add vectors from index state[0] on, and stop before a new key if there is no room for it.

    state[1] keys are known. `table` holds their indices or -1, searched from a key's hash on; its size is a
    power of 2, and at most two thirds of it are full.
    """
    bits = 0
    while (1 << bits) < len(table):
        bits += 1
    shift, last = np.uint64(64 - bits), len(table) - 1
    start, count = state
    length = len(vectors)
    for row in range(start, len(keys)):
        key = keys[row]
        at = np.int64((key * _SPREAD) >> shift)
        while table[at] >= 0 and known[table[at]] != key:
            at = (at + 1) & last
        index = table[at]
        if index < 0:
            if count == len(known):
                state[0], state[1] = row, count
                return
            index = count
            table[at], known[count] = count, key
            count += 1
        indices[row] = index
        for column in range(length):
            sums[index, column] += vectors[column, row]
    state[0], state[1] = len(keys), count
