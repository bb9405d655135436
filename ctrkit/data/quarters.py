"""Quarters of ordered values: a coarser form of fields such as an hour or an age."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

# With fewer values, quarters are hardly coarser than the values; of more, whole numbers are mostly names.
LEAST_VALUES, MOST_VALUES = 8, 100
_QUARTERS = 4


def quarters_of(values: Sequence[int]) -> tuple[int, ...]:
    """The quarter of each of n distinct whole numbers, 1 to 4: each holds a fourth of the values."""
    ranks = np.argsort(np.argsort(np.asarray(values, dtype=np.int64), kind="stable"), kind="stable")
    return tuple((1 + ranks * _QUARTERS // max(len(values), 1)).tolist())


def ordered_values(vocabulary: Sequence[str]) -> list[int] | None:
    """The values of a vocabulary as whole numbers; None if they are not 8 to 100 distinct whole numbers."""
    if not LEAST_VALUES <= len(vocabulary) <= MOST_VALUES:
        return None
    numbers = pl.Series(vocabulary, dtype=pl.String).cast(pl.Int64, strict=False)
    return None if numbers.null_count() or numbers.n_unique() < len(numbers) else numbers.to_list()
