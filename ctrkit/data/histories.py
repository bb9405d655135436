"""Histories as windows: the events of a sequence are stored once, and rows point at those that they know.

Rows of one user know almost the same events, and the candidates of one page know exactly the same. So the
events lie side by side, oldest first, and a row has the end and the length of its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Indices, Integers
from ctrkit.compiled import kernel
from ctrkit.data.feature_map import PADDING_ID
from ctrkit.errors import DataError

RowIndex: TypeAlias = Integers | slice
# Ids of events: an action or a bucket of times needs one byte.
Ids: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Histories:
    """One sequence of n rows. `histories[rows]` gives some of them as padded lists.

    Attributes:
        ids: [E], the events of all rows.
        ends: int64 [n], the place behind the newest event of each row.
        lengths: int32 [n], how many events each row knows, at most `width`.
        width: L, the length of padded lists.
    """

    ids: Ids
    ends: NDArray[np.int64]
    lengths: NDArray[np.int32]
    width: int

    @classmethod
    def of_lists(cls, ids: Ids, lengths: Integers, width: int) -> Histories:
        """Histories of rows that bring a list each. A list that continues the one before shares its events.

        Args:
            ids: the events of all lists, one list after another.
            lengths: [n], how many each list has, at most `width`.
            width: L.

        Raises:
            ValueError: the lengths are not those of such lists.
        """
        known = np.require(lengths, np.int32, ["C", "W"])
        events = np.require(ids, np.int32, ["C", "W"])
        if (
            known.sum(dtype=np.int64) != events.size
            or not 0 <= known.min(initial=0) <= known.max(initial=0) <= width
        ):
            raise ValueError("the lengths are not those of the lists")
        ends = np.empty(known.size, dtype=np.int64)
        kept = np.empty_like(events)
        size = _share(events, known, kept, ends, np.empty(width + 1, dtype=np.int64))
        return cls(kept[:size].astype(ids.dtype), ends, known, width)

    @classmethod
    def of_pointers(cls, ids: Ids, pointers: pl.Series, most: int, width: int) -> Histories:
        """Histories of rows whose cells point at events.

        Args:
            ids: the events of all rows.
            pointers: the ends and lengths of n rows (see `ctrkit.data.derive.windows`).
            most: how many events of a row count, the newest.
            width: L.
        """
        ends, lengths = (pointers.struct.field(name).to_numpy(writable=True) for name in ("end", "length"))
        return cls(ids, ends, np.minimum(lengths, np.int32(most)), width)

    @classmethod
    def joined(cls, parts: Sequence[Histories]) -> Histories:
        """The rows of several histories of one width, in their order."""
        before = np.cumsum([0, *(part.ids.size for part in parts)])
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.ends + start for part, start in zip(parts, before, strict=False)]),
            np.concatenate([part.lengths for part in parts]),
            parts[0].width,
        )

    def __len__(self) -> int:
        return int(self.ends.size)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the padded lists, (n, L)."""
        return len(self), self.width

    @property
    def nbytes(self) -> int:
        """Bytes of events and pointers."""
        return self.ids.nbytes + self.ends.nbytes + self.lengths.nbytes

    def __getitem__(self, rows: RowIndex) -> NDArray[np.int32]:
        """The histories of some rows, [b, L], the newest event last and padding on the left.

        Raises:
            DataError: the data are damaged.
        """
        ends, lengths = np.ascontiguousarray(self.ends[rows]), np.ascontiguousarray(self.lengths[rows])
        found = np.empty((ends.size, self.width), dtype=np.int32)
        there: int = _fill(self.ids, ends, lengths, found)
        if there < ends.size:
            raise DataError(
                "the data are damaged: a row points at events that are not there", hint="Prepare them again"
            )
        return found

    def of_rows(self, rows: RowIndex) -> Histories:
        """The histories of some rows; their events are not copied."""
        return Histories(self.ids, self.ends[rows], self.lengths[rows], self.width)


@kernel(
    lambda: [f"i8({kind}[::1], i8[::1], i4[::1], i4[:, ::1])" for kind in ("i4", "u2", "u1")],
    "ends: N; lengths: N; found: N L",
)
def _fill(ids: Ids, ends: Indices, lengths: NDArray[np.int32], found: NDArray[np.int32]) -> int:
    """The loop of `Histories.__getitem__`; how many rows point at events that are there."""
    rows, width = ends.size, found.shape[1]
    for row in range(rows):
        length, end = np.int64(lengths[row]), ends[row]
        if length < 0 or length > width or length > end or end > ids.shape[0]:
            return row
        # Slices, of which the compiler sees that they are consecutive.
        padding, known, events = (
            found[row, : width - length],
            found[row, width - length :],
            ids[end - length : end],
        )
        for place in range(width - length):
            padding[place] = PADDING_ID
        for place in range(length):
            known[place] = events[place]
    return rows


@kernel("i8(i4[::1], i4[::1], i4[::1], i8[::1], i8[::1])", "ids: E; lengths: N; kept: E; ends: N; border: L")
def _share(
    ids: NDArray[np.int32],
    lengths: NDArray[np.int32],
    kept: NDArray[np.int32],
    ends: Indices,
    border: Indices,
) -> int:
    """The loop of `Histories.of_lists`; how many events are kept.

    The longest end of the window before with which a list begins is found as by Knuth, Morris and Pratt,
    "Fast Pattern Matching in Strings" (SIAM Journal on Computing 1977): for each beginning of the list,
    `border` has the length of the longest shorter beginning that is also its end.
    """
    size = start = window = 0
    for row in range(lengths.shape[0]):
        length = lengths[row]
        matched = 0
        if length > 0 and window > 0:
            border[0] = 0
            same = 0
            for place in range(1, length):
                while same > 0 and ids[start + place] != ids[start + same]:
                    same = border[same - 1]
                if ids[start + place] == ids[start + same]:
                    same += 1
                border[place] = same
            for place in range(size - window, size):
                if matched == length:
                    matched = border[matched - 1]
                while matched > 0 and kept[place] != ids[start + matched]:
                    matched = border[matched - 1]
                if kept[place] == ids[start + matched]:
                    matched += 1
        for place in range(start + matched, start + length):
            kept[size] = ids[place]
            size += 1
        ends[row] = size
        if length > 0:
            window = length
        start += length
    return size
