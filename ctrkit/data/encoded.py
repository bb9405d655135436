"""Encoded rows: arrays, of which a batch takes some rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Integers
from ctrkit.data.histories import Histories
from ctrkit.data.vectors import Vectors

# What a table holds of each row: `column[rows]` is an array of some of them.
EncodedColumn: TypeAlias = NDArray[Any] | Histories
# Rows that are hashed at a time.
_HASHED = 1 << 14


@dataclass(frozen=True)
class EncodedTable:
    """Encoded rows as arrays in memory. `ctrkit.nn.batches.Batch.of` turns some of them into tensors.

    Attributes:
        categorical: int32 [n, F]; 0 is padding, 1 is unknown, real ids from 2. Where a sequence shares the
            field's table, a value that training did not see is negative (see `ctrkit.data.ids.unseen_ids`).
        numeric: float32 [n, N], scaled; NaN where a number is missing.
        sequences: name -> histories of n rows.
        labels: float32 [n, T]; NaN where one is not known (see `ctrkit.data.delays`).
        weight: float32 [n].
        groups: int64 [n], equal where the group column is equal; None without a group column. A row without a
            group has a number of its own, below 0.
        value: float32 [n], 0 where the last label is 0; None without a column of values.
        counted: whether a weight is the number of impressions that a row stands for, and so much evidence.
        bags: name -> int32 [n, L] of each bag, followed by padding.
        bag_weights: name -> float32 [n, L] of each weighted bag, 0 for padding.
        vectors: name -> vectors of the rows.
    """

    categorical: NDArray[np.int32]
    numeric: NDArray[np.float32]
    sequences: Mapping[str, Histories]
    labels: NDArray[np.float32]
    weight: NDArray[np.float32]
    groups: Integers | None = None
    value: NDArray[np.float32] | None = None
    counted: bool = False
    bags: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)
    bag_weights: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    vectors: Mapping[str, Vectors] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.categorical.shape[0])

    @property
    def in_blocks(self) -> bool:
        """Whether an epoch reads the rows block by block, because reading single rows would be slow."""
        return False

    def arrays(self) -> dict[str, EncodedColumn]:
        """Name -> what it holds of each row; a sequence, bag or vector is called by its place."""
        kinds: dict[str, Mapping[str, EncodedColumn]] = {
            "sequence": self.sequences,
            "bag": self.bags,
            "weights": self.bag_weights,
            "vector": {name: one.by_row for name, one in self.vectors.items()},
        }
        listed = {
            f"{kind}-{place}": one for kind, of in kinds.items() for place, one in enumerate(of.values())
        }
        found: dict[str, EncodedColumn] = {"categorical": self.categorical, "numeric": self.numeric, **listed}
        others = {"labels": self.labels, "weight": self.weight, "value": self.value, "groups": self.groups}
        return {**found, **{name: array for name, array in others.items() if array is not None}}

    @property
    def fields(self) -> int:
        """The number of static fields."""
        single = self.categorical.shape[1] + self.numeric.shape[1]
        return int(single) + len(self.bags) + len(self.vectors)

    def fingerprint(self) -> str:
        """SHA-256 of the encoded rows and labels: equal for the same rows in the same order."""
        digest = hashlib.sha256()
        for name, column in self.arrays().items():
            if name != "groups":
                add_to_digest(digest, column)
        for one in self.vectors.values():
            if one.rows is not None:
                digest.update(one.values.data)
        return digest.hexdigest()


def add_to_digest(digest: hashlib._Hash, column: EncodedColumn) -> None:
    """Add the shape and the values of a column to a digest."""
    digest.update(str(column.shape).encode())
    for start in range(0, len(column), _HASHED):
        digest.update(np.ascontiguousarray(column[start : start + _HASHED]).data)
