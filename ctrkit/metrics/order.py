"""Sorting of tens of millions of rows: orders and codes by sorts of values, never of pointers.

Sorting 64-bit values is several times faster than sorting the positions of values (Bramas 2017, for the
AVX-512 sort that NumPy uses). So the row's position is packed into the low bits of its key, and an `argsort`
becomes a `sort`. If 64 bits cannot hold key and position, the last bits of the key are dropped, and the few
rows that they distinguish are sorted afterwards: the order is always exact.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Floats, Indices

SortKeys: TypeAlias = NDArray[np.uint64]

_SIGN = np.uint64(1 << 63)
# With fewer bits left for the score than this, too many rows would have to be sorted afterwards.
_FEWEST_BITS = 12
# Objects that are longer texts are left to NumPy: an array of texts is as wide as its longest.
_LONGEST = 64


class Grouped(NamedTuple):
    """Rows sorted by group, then by rising value; rows of equal value keep their order.

    Attributes:
        order: the positions of the rows in sorted order, int [N].
        group: the group of each row in sorted order, int [N].
        keys: the key of each row in sorted order, [N]; equal values have equal keys.
    """

    order: Indices
    group: Indices
    keys: SortKeys


def sort_keys(values: NDArray[np.generic]) -> SortKeys:
    """Unsigned whole numbers in the order of the values; equal values have equal keys.

    Args:
        values: booleans, whole numbers, datetimes or finite floats of up to 64 bits, [N].
    """
    if values.dtype.kind in "bu":
        return values.astype(np.uint64)
    if values.dtype.kind in "imM":
        return values.astype(np.int64).view(np.uint64) ^ _SIGN
    # A float's bits rise with it where it is positive and fall where it is negative; -0.0 + 0.0 is 0.0.
    bits = (values.astype(np.float64, copy=False) + 0.0).view(np.int64)
    if (bits < 0).any():
        flip = bits >> 63
        flip &= np.iinfo(np.int64).max
        bits ^= flip
    keys = bits.view(np.uint64)
    keys ^= _SIGN
    return keys


def stable_order(keys: SortKeys) -> Indices:
    """The positions of the keys by rising key; equal keys keep their order. int [N]."""
    return _sorted(keys)[0]


def order_within(group: Indices, values: Floats) -> Grouped:
    """Sort rows by group and then by value.

    Args:
        group: numbers from 0, [N].
        values: finite, [N].
    """
    keys = sort_keys(values)
    keys -= keys.min()
    low, of_group = _bits(len(keys) - 1), _bits(int(group.max()))
    room = 64 - low - of_group
    dropped = max(0, _bits(int(keys.max())) - room)
    if dropped and room < _FEWEST_BITS:
        order = _in_two_steps(group, keys)
        return Grouped(order, group[order], keys[order])
    packed = keys >> np.uint64(dropped)
    if of_group:
        packed |= group.view(np.uint64) << np.uint64(room)
    order, packed = _positions(packed, low)
    found = keys[order]
    rows, run = _broken_runs(packed, found) if dropped else (order[:0], order[:0])
    if rows.size:
        exact = rows[_in_two_steps(run, found[rows])]
        order[rows], found[rows] = order[exact], found[exact]
    if of_group:
        packed >>= np.uint64(room)
    else:
        packed[:] = 0
    return Grouped(order, packed.view(np.intp), found)


def run_starts(*columns: NDArray[Any]) -> Indices:
    """The starts, in sorted columns, of the runs of rows that are equal in all columns. int [runs]."""
    begins = np.zeros(len(columns[0]), bool)
    begins[0] = True
    for column in columns:
        begins[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(begins)


def weight_sums(index: Indices, weight: NDArray[Any], number: int = 0) -> Floats:
    """The sum of the weights by index, [number] or up to the largest index."""
    return np.bincount(index, weight, minlength=number).astype(np.float64, copy=False)


def dense_codes(keys: SortKeys) -> tuple[Indices, int]:
    """The rank of each key among the distinct keys, from 0, int [N], and the number of distinct keys.

    The keys are overwritten.
    """
    keys -= keys.min()
    spread = int(keys.max())
    if not spread:
        return np.zeros(len(keys), np.intp), 1
    if spread <= 4 * len(keys) + 1000:  # a table of the whole range costs less than a sort
        table = np.zeros(spread + 1, bool)
        table[keys] = True
        number = np.cumsum(table)
        return (number - 1)[keys], int(number[-1])
    order, found = _sorted(keys)
    ranks = np.empty(len(keys), np.intp)
    ranks[0] = 0
    np.cumsum(found[1:] != found[:-1], out=ranks[1:])
    codes = np.empty(len(keys), np.intp)
    codes[order] = ranks
    return codes, int(ranks[-1]) + 1


def quick_codes(values: NDArray[np.generic]) -> tuple[Indices, int] | None:
    """`dense_codes` of values without missing ones; None for types that have no fast way."""
    if values.dtype.kind == "U" and values.itemsize:
        return _text_codes(values)
    if values.dtype.kind in "biufmM" and values.itemsize <= 8:
        return dense_codes(sort_keys(values))
    return None


def without_objects(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """An array of Python objects as an array of text or of whole numbers, if it holds only these."""
    if values.dtype.kind != "O":
        return values
    listed = values.tolist()
    types = set(map(type, listed))
    if types == {str} and max(map(len, listed)) <= _LONGEST:
        return np.array(listed)
    if types == {int}:
        numbers = np.array(listed)
        return numbers if numbers.dtype.kind in "iu" else values
    return values


def _bits(number: int) -> int:
    return number.bit_length()


def _sorted(keys: SortKeys) -> tuple[Indices, SortKeys]:
    """`stable_order` and the keys in that order."""
    if (keys[1:] >= keys[:-1]).all():
        return np.arange(len(keys)), keys
    smallest = keys.min()
    low = _bits(len(keys) - 1)
    dropped = max(0, _bits(int(keys.max() - smallest)) + low - 64)
    packed = (keys - smallest) >> np.uint64(dropped) if smallest else keys >> np.uint64(dropped)
    order, packed = _positions(packed, low)
    found = keys[order]
    rows = _broken_runs(packed, found)[0] if dropped else order[:0]
    if rows.size:
        # The runs are in order already, so sorting all their rows together moves no row to another run.
        exact = rows[np.argsort(found[rows], kind="stable")]
        order[rows], found[rows] = order[exact], found[exact]
    return order, found


def _positions(keys: SortKeys, low: int) -> tuple[Indices, SortKeys]:
    """The stable order of keys that leave `low` bits free for the position, and the keys in it; in place."""
    keys <<= np.uint64(low)
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    order = (keys & np.uint64((1 << low) - 1)).view(np.intp)
    keys >>= np.uint64(low)
    return order, keys


def _broken_runs(top: SortKeys, found: SortKeys) -> tuple[Indices, Indices]:
    """The rows of runs of equal `top` in which `found` is not sorted, and the number of each row's run."""
    falls = found[1:] < found[:-1]
    falls &= top[1:] == top[:-1]
    values = top[1:][falls]
    values = values[np.r_[True, values[1:] != values[:-1]]] if values.size else values
    first, last = np.searchsorted(top, values), np.searchsorted(top, values, side="right")
    size = last - first
    run = np.repeat(np.arange(len(size)), size)
    return np.arange(len(run)) + (first - np.cumsum(size) + size)[run], run


def _in_two_steps(group: Indices, keys: SortKeys) -> Indices:
    """The order by group and key: a sort by key, then a stable sort by group."""
    by_key = stable_order(keys)
    return by_key[stable_order(group[by_key].view(np.uint64))]


def _text_codes(text: NDArray[np.generic]) -> tuple[Indices, int]:
    """Codes of text in the order of its code points, eight characters at a time (two beyond Latin-1)."""
    native = np.ascontiguousarray(text.astype(text.dtype.newbyteorder("="), copy=False))
    points = native.view(np.uint32).reshape(len(text), -1)
    in_word = 8 if points.max() < 256 else 2
    codes, number = np.zeros(len(text), np.intp), 1
    word = np.empty((len(text), in_word), ">u1" if in_word == 8 else ">u4")
    for first in range(0, points.shape[1], in_word):
        part = points[:, first : first + in_word]
        word[:, : part.shape[1]], word[:, part.shape[1] :] = part, 0
        following, many = dense_codes(word.view(">u8").ravel().astype(np.uint64))
        if number == 1:
            codes, number = following, many
        elif many > 1:
            codes, number = dense_codes((codes * many + following).view(np.uint64))
    return codes, number
