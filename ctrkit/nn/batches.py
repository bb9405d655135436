"""`Batch`: encoded rows as tensors, the only input of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctrkit.arrays import Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.histories import RowIndex


@dataclass(frozen=True)
class Batch:
    """Encoded rows.

    Attributes:
        categorical: int32 [B, F]; 0 is padding, 1 and negative ids are unknown, real ids from 2, each field
            counted for itself.
        numeric: float32 [B, N], scaled; NaN where a number is missing.
        sequences: name -> int32 [B, L], left-padded with 0: the newest event is last.
        labels: float32 [B, T], tasks in funnel order, NaN where one is not known; empty (T = 0) when unknown.
        weight: float32 [B].
        bags: name -> int32 [B, L], followed by padding.
        bag_weights: name -> float32 [B, L] of each weighted bag.
        vectors: name -> float32 [B, d], scaled; NaN where there is no vector.
        vector_rows: name -> int32 [B], the row of each vector among all that are looked up, 0 for none.
        value: float32 [B], read where the last label is above 0; None where the rows have no value.
    """

    categorical: Tensor
    numeric: Tensor
    sequences: Mapping[str, Tensor]
    labels: Tensor
    weight: Tensor
    value: Tensor | None = None
    bags: Mapping[str, Tensor] = field(default_factory=dict)
    bag_weights: Mapping[str, Tensor] = field(default_factory=dict)
    vectors: Mapping[str, Tensor] = field(default_factory=dict)
    vector_rows: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.categorical.shape[0])

    @classmethod
    def of(cls, data: EncodedTable, rows: RowIndex) -> Batch:
        """A batch of the given rows. A slice copies no data but histories and vectors that are looked up."""
        vectors = {name: _picked(one.by_row, rows) for name, one in data.vectors.items()}
        looked_up = {name: vectors[name] for name, one in data.vectors.items() if one.rows is not None}
        for name, of_rows in looked_up.items():
            vectors[name] = _picked(data.vectors[name].values, of_rows.numpy())
        return cls(
            _picked(data.categorical, rows),
            _picked(data.numeric, rows),
            {name: torch.from_numpy(one[rows]) for name, one in data.sequences.items()},
            _picked(data.labels, rows),
            _picked(data.weight, rows),
            None if data.value is None else _picked(data.value, rows),
            {name: _picked(ids, rows) for name, ids in data.bags.items()},
            {name: _picked(weights, rows) for name, weights in data.bag_weights.items()},
            vectors,
            looked_up,
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same rows on another device."""
        return Batch(
            self.categorical.to(device),
            self.numeric.to(device),
            {name: ids.to(device) for name, ids in self.sequences.items()},
            self.labels.to(device),
            self.weight.to(device),
            None if self.value is None else self.value.to(device),
            {name: ids.to(device) for name, ids in self.bags.items()},
            {name: weights.to(device) for name, weights in self.bag_weights.items()},
            {name: vectors.to(device) for name, vectors in self.vectors.items()},
            {name: rows.to(device) for name, rows in self.vector_rows.items()},
        )


# Rows of a part: enough for fast tensors, few enough for memory.
_AT_ONCE = 1 << 14


def batches_of(data: EncodedTable, rows: Integers) -> Iterator[tuple[slice, Batch]]:
    """All of the given rows, part by part: the place of each part among the rows, and its batch."""
    for first in range(0, rows.size, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        yield part, Batch.of(data, rows[part])


def _picked(array: NDArray[np.int32] | NDArray[np.float32], rows: RowIndex) -> Tensor:
    # `take` is twice as fast as an index.
    return torch.from_numpy(array[rows] if isinstance(rows, slice) else array.take(rows, axis=0))
