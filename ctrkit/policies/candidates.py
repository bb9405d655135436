"""Ragged lists of candidates as padded matrices: B rows, K places, K the longest list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from ctrkit.arrays import Booleans, Floats
from ctrkit.errors import DataError


def candidate_mask(candidates: pl.Series) -> Booleans:
    """Which places of a list column hold a candidate: [B, K]."""
    lengths = candidates.list.len().to_numpy()
    return np.arange(lengths.max(initial=0)) < lengths[:, None]


def padded(lists: pl.Series, fill: float = np.nan) -> Floats:
    """A list column of numbers as a matrix [B, K], `fill` where a list is shorter than the longest."""
    mask = candidate_mask(lists)
    matrix = np.full(mask.shape, fill)
    matrix[mask] = lists.explode().to_numpy()
    return matrix


def candidate_rows(
    context: pl.DataFrame,
    candidates: pl.Series,
    shared: Sequence[str],
    listed: Mapping[str, str],
    chosen: str,
    file: str | None = None,
) -> pl.DataFrame:
    """One row a candidate: the log's row with the action's id and the values of the candidate's lists.

    Args:
        context: the rows of the log.
        candidates: list column of action ids.
        shared: columns that are the same for all candidates of a row.
        listed: by feature, the column of lists that are in the order of the candidates.
        chosen: the name of the action's id.

    Raises:
        DataError: a list is not as long as that of the candidates.
    """
    lengths = candidates.list.len().to_numpy().astype(np.int64)
    for name in listed.values():
        wrong = np.flatnonzero(context[name].list.len().to_numpy() != lengths)
        if wrong.size:
            raise DataError(
                "the list is not as long as the list of candidates",
                file=file,
                column=name,
                row=int(wrong[0]),
                hint="Give one value for each candidate",
            )
    some = pl.Series(lengths > 0)  # an empty list would explode to a null
    row = np.repeat(np.arange(context.height), lengths)
    own = candidates.filter(some).explode().alias(chosen).to_frame()
    return own.with_columns(
        *(context[name].gather(row) for name in shared),
        *(context[column].filter(some).explode().alias(name) for name, column in listed.items()),
    )


def ragged(matrix: Floats, mask: Booleans) -> pl.Series:
    """The inverse of `padded`: a list column of the values at the True places of [B, K]."""
    offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(matrix[mask])))
