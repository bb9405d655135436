"""Bags of ids: several ids a row, without order, with or without weights."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Integers
from ctrkit.data.feature_map import PADDING_ID
from ctrkit.data.ids import as_lists
from ctrkit.errors import DataError
from ctrkit.schema import BagFeature
from ctrkit.tables.cells import numbers_of, values_of

Value = TypeVar("Value", np.int32, np.float32)


def first_values(table: pl.DataFrame, bag: BagFeature, file: str | None) -> tuple[pl.Series, Integers]:
    """The first `max_length` values of each bag, one bag after another, and their number in each row, [n].

    Raises:
        DataError: the column holds no lists.
    """
    first = as_lists(table[bag.name], bag, file).list.head(bag.max_length)
    return values_of(first), lengths_of(first)


def first_weights(table: pl.DataFrame, bag: BagFeature, file: str | None) -> NDArray[np.float32] | None:
    """The weights of the first values of each bag, [n, max_length], 0 beyond them; None without weights.

    Raises:
        DataError: a bag has another number of weights than of values, or a weight is missing, infinite, below
            0 or no number.
    """
    if bag.weights is None:
        return None
    lists = as_lists(table[bag.weights], bag, file)
    lengths = lengths_of(lists)
    apart = np.flatnonzero(lengths != lengths_of(as_lists(table[bag.name], bag, file)))
    if apart.size:
        raise DataError(
            f"the list has another length than the list of '{bag.name}', whose weights it holds",
            file=file,
            column=bag.weights,
            row=int(apart[0]),
            hint="Give each id of the bag one weight",
        )
    flat = values_of(lists)
    weights = numbers_of(flat)
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if wrong.size:
        raise DataError(
            f"the list holds the weight {flat[int(wrong[0])]!r}, and weights are numbers from 0 up",
            file=file,
            column=bag.weights,
            row=int(np.repeat(np.arange(lengths.size), lengths)[wrong[0]]),
            hint="Fix such rows; leave an id without a weight out of both lists",
        )
    kept = np.arange(weights.size) - np.repeat(lengths.cumsum() - lengths, lengths) < bag.max_length
    return padded(weights[kept], np.minimum(lengths, bag.max_length), bag.max_length)


def padded(flat: NDArray[Value], counts: Integers, length: int) -> NDArray[Value]:
    """Values of all rows, one row after another, as [n, length] with 0 beyond those of a row.

    Args:
        flat: the values.
        counts: their number in each row, [n], at most `length`.
        length: number of places.
    """
    found = np.full((counts.size, length), PADDING_ID, dtype=flat.dtype)
    found[np.arange(length) < counts[:, None]] = flat
    return found


def lengths_of(lists: pl.Series) -> Integers:
    """The number of values in each list, 0 for a missing one, [n]."""
    return lists.list.len().fill_null(0).to_numpy().astype(np.int64)
