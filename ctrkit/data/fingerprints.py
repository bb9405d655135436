"""Whether rows were seen before: a small sample of row hashes that travels with a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctrkit.data.encoder import EncodedTable
from ctrkit.hashing import GOLDEN, mixed

# Hashes of distinct rows that a model keeps, at most: a share is then known to about 1 %.
SAMPLE_SIZE = 8192


def row_hashes(data: EncodedTable) -> NDArray[np.uint64]:
    """A 64-bit hash of every row: equal for equal features, histories and labels, [n].

    The mixing is that of SplitMix64, column by column (see `ctrkit.hashing`).
    """
    hashes = np.zeros(len(data), dtype=np.uint64)
    for array in (data.categorical, data.numeric, *data.sequences.values(), data.labels):
        for column in np.ascontiguousarray(array).view(np.uint32).T:
            hashes = mixed((hashes ^ column.astype(np.uint64)) + GOLDEN)
    return hashes


def sample_of(hashes: NDArray[np.uint64], size: int = SAMPLE_SIZE) -> NDArray[np.uint64]:
    """The smallest distinct hashes, rising: a uniform sample of the distinct rows (Broder 1997)."""
    return np.unique(hashes)[:size]


def share_seen(hashes: NDArray[np.uint64], sample: NDArray[np.uint64], size: int = SAMPLE_SIZE) -> float:
    """The share of rows that are among those that the sample is of, estimated; NaN where none can be told.

    Only rows whose hash is no larger than the sample's largest are looked up: each of them would be in the
    sample if it had been seen.
    """
    told = hashes if sample.size < size else hashes[hashes <= sample[-1]]
    return float(np.isin(told, sample).mean()) if told.size else float("nan")
