"""Names of the types of arrays that every room speaks of, and columns as rows."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Indices: TypeAlias = NDArray[np.intp]
Booleans: TypeAlias = NDArray[np.bool_]

Value = TypeVar("Value", bound=np.generic)
# Rows that are copied at a time: they stay in the cache of a processor.
_AT_ONCE = 1 << 11


def rows_of(columns: NDArray[Value]) -> NDArray[Value]:
    """A few long columns [C, n] as rows [n, C], which lie side by side in memory."""
    found = np.empty(columns.shape[::-1], columns.dtype)
    for first in range(0, len(found), _AT_ONCE):
        found[first : first + _AT_ONCE] = columns[:, first : first + _AT_ONCE].T
    return found


def columns_of(rows: NDArray[Value]) -> NDArray[Value]:
    """Rows [n, C] as long columns [C, n]: the inverse of `rows_of`."""
    found = np.empty(rows.shape[::-1], rows.dtype)
    for first in range(0, len(rows), _AT_ONCE):
        found[:, first : first + _AT_ONCE] = rows[first : first + _AT_ONCE].T
    return found
