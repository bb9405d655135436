"""Ragged lists of candidates as padded matrices: B rows, K places, K the longest list."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa

from ctrkit.arrays import Booleans, Floats

Mask: TypeAlias = Booleans


def candidate_mask(candidates: pl.Series) -> Mask:
    """Which places of a list column hold a candidate: [B, K]."""
    lengths = candidates.list.len().to_numpy()
    return np.arange(lengths.max(initial=0)) < lengths[:, None]


def padded(lists: pl.Series, fill: float = np.nan) -> Floats:
    """A list column of numbers as a matrix [B, K], `fill` where a list is shorter than the longest."""
    mask = candidate_mask(lists)
    matrix = np.full(mask.shape, fill)
    matrix[mask] = lists.explode().to_numpy()
    return matrix


def ragged(matrix: Floats, mask: Mask) -> pl.Series:
    """The inverse of `padded`: a list column of the values at the True places of [B, K]."""
    offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(matrix[mask])))
