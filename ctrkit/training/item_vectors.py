"""Vectors of items from the histories that hold them, by correspondence analysis."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FIRST_ID
from ctrkit.nn.item_vectors import WIDTH, ItemVectors

# More histories would move the vectors little.
_MOST_HISTORIES = 200_000
# An item counts as if it stood in so many histories more, so that rare items have short vectors.
_PRIOR = 50.0


def fit_item_vectors(items: ItemVectors, data: EncodedTable, rows: Integers) -> None:
    """Find the vectors of all ids from the histories of the training rows. Labels are not read.

    Args:
        items: takes the vectors.
        data: the encoded rows.
        rows: the training rows.
    """
    step = max(1, -(-rows.size // _MOST_HISTORIES))
    found = [
        correspondence_vectors(data.sequences[name][rows[::step]], size)
        for name, size in zip(items.pairs, items.sizes, strict=True)
    ]
    if found:
        items.vectors.copy_(torch.from_numpy(np.concatenate(found).astype(np.float32)))


def correspondence_vectors(histories: NDArray[np.int32], size: int) -> Floats:
    """Standard coordinates of items, the columns of a table of histories and items, `[size, 8]`.

    With X [histories, items] the number of times that an item stands in a history, and r and c its sums, the
    singular vectors of X / √(r c) give the coordinates: the first pair has value 1 and says only how frequent
    an item is, and the next ones are kept, divided by √c. Equal histories count once. Ids that no history
    holds have vectors of 0.

    Source: Greenacre, "Correspondence Analysis in Practice", 3rd edition, 2017, appendix A.

    Args:
        histories: ids `[n, L]`; those below `FIRST_ID` are no items.
        size: number of ids.
    """
    distinct = np.unique(histories, axis=0)
    row, place = np.nonzero(distinct >= FIRST_ID)
    item, shape = distinct[row, place], (len(distinct), size)
    counts = sparse.csr_array(sparse.coo_array((np.ones(row.size), (row, item)), shape=shape))
    of_history = np.bincount(row, minlength=len(distinct)).astype(np.float64)
    of_item = np.bincount(item, minlength=size).astype(np.float64)
    width = min(WIDTH, int((of_history > 0.0).sum()) - 2, int((of_item > 0.0).sum()) - 2)
    vectors = np.zeros((size, WIDTH))
    if width < 1:
        return vectors
    spread = 1.0 / np.sqrt(of_item + _PRIOR)
    scaled = counts * (1.0 / np.sqrt(np.maximum(of_history, 1.0)))[:, None] * spread
    start = np.random.default_rng(0).normal(size=min(scaled.shape))
    _, values, right = svds(scaled, k=width + 1, v0=start)
    order = np.argsort(-values)[1:]
    vectors[:, :width] = right[order].T * spread[:, None] * np.sqrt(of_item.sum())
    vectors[of_item == 0.0] = 0.0
    return vectors
