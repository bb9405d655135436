"""Vectors: a pretrained embedding a row, in a column of the rows or looked up by an id in a file.

Each number of a vector is scaled as a numeric feature is, to mean 0 and deviation 1 over the training rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.data.bags import lengths_of
from ctrkit.data.feature_map import UNKNOWN_ID
from ctrkit.data.ids import Vocabulary, as_lists
from ctrkit.errors import DataError
from ctrkit.schema import VectorFeature
from ctrkit.tables.cells import ids_as_text, numbers_of, values_of

# Rows that are summed or scaled at a time, so that sums do not depend on where chunks begin and end.
BLOCK = 1 << 13


@dataclass(frozen=True)
class Vectors:
    """The vectors of n rows.

    Attributes:
        values: float32 [m, d], scaled; NaN where there is no vector.
        rows: the row of `values` that each row has, int32 [n]; None where each row has its own.
    """

    values: NDArray[np.float32]
    rows: NDArray[np.int32] | None = None

    @property
    def by_row(self) -> NDArray[np.float32] | NDArray[np.int32]:
        """What belongs to the rows alone: their vectors, or which ones they have."""
        return self.values if self.rows is None else self.rows

    def of_rows(self, rows: Integers) -> Vectors:
        """Those of some rows."""
        if self.rows is None:
            return Vectors(self.values[rows])
        return Vectors(self.values, self.rows[rows])

    def followed_by(self, other: Vectors) -> Vectors:
        """These, and then those of other rows of the same feature."""
        if self.rows is None or other.rows is None:
            return Vectors(np.concatenate([self.values, other.values]))
        return Vectors(self.values, np.concatenate([self.rows, other.rows]))


@dataclass(frozen=True)
class VectorScale:
    """Zero and unit of each number of a vector, float64 [d] (see `ctrkit.data.scales.FeatureScale`).

    Attributes:
        zero: mean of the training rows.
        unit: their standard deviation.
        bound: scaled numbers are clipped at this distance from 0; 0 for a number that was constant.
    """

    zero: Floats
    unit: Floats
    bound: Floats

    def scaled(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(x - zero) / unit, clipped at the bound, [n, d]; NaN stays NaN."""
        found = np.empty_like(values)
        for first in range(0, len(values), BLOCK):
            part = slice(first, first + BLOCK)
            found[part] = np.clip((values[part] - self.zero) / self.unit, -self.bound, self.bound)
        found[np.isnan(found)] = np.nan  # with the same bits everywhere
        return found

    def clipped(self, scaled: NDArray[np.float32]) -> Booleans:
        """Which scaled vectors have numbers that were clipped, but for those that were constant, [n]."""
        bound = np.where(self.bound > 0, self.bound, np.inf).astype(np.float32)
        return np.asarray((np.abs(scaled) >= bound).any(axis=1))

    def raw(self, vector: NDArray[np.float32]) -> Floats:
        """The numbers that a scaled vector stands for, [d]."""
        return np.asarray(vector * self.unit + self.zero)


@dataclass(frozen=True)
class VectorTable:
    """Vectors by id.

    Attributes:
        ids: m ids as text.
        values: float32 [1 + m, d]; the first is NaN, for rows without a vector.
    """

    ids: Sequence[str]
    values: NDArray[np.float32]

    @cached_property
    def _known(self) -> Vocabulary:
        return Vocabulary(self.ids)

    def rows_of(self, ids: pl.Series, file: str | None) -> NDArray[np.int32]:
        """The row of `values` of each id, 0 where there is none, [n].

        Raises:
            DataError: a value is no id.
        """
        return np.maximum(self._known.ids(ids_as_text(ids, file)) - UNKNOWN_ID, 0)


@dataclass(frozen=True)
class VectorStock:
    """What an encoder knows of vectors: their scale and, where they are looked up, all of them, scaled."""

    scale: VectorScale
    table: VectorTable | None

    @property
    def width(self) -> int:
        """d, how many numbers a vector has."""
        return int(self.scale.zero.size)

    def encode(self, values: pl.Series, feature: VectorFeature, file: str | None) -> Vectors:
        """The vectors of rows.

        Raises:
            DataError: a value is no vector of this width, or no id.
        """
        if self.table is not None:
            return Vectors(self.table.values, self.table.rows_of(values, file))
        return Vectors(self.scale.scaled(read_vectors(values, feature, self.width, file)))

    def stored(self, by_row: NDArray[Any]) -> Vectors:
        """The vectors of rows, from what `Vectors.by_row` gave."""
        return Vectors(by_row) if self.table is None else Vectors(self.table.values, by_row)

    def state(self) -> dict[str, Any]:
        """Plain data and arrays."""
        found: dict[str, Any] = {name: of.tolist() for name, of in vars(self.scale).items()}
        if self.table is not None:
            found |= {"ids": list(self.table.ids), "values": self.table.values[1:]}
        return found

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> VectorStock:
        """The stock from `state`.

        Raises:
            ValueError: its parts do not go together.
        """
        scale = VectorScale(*(np.array(state[name], dtype=np.float64) for name in ("zero", "unit", "bound")))
        sizes = {of.shape for of in vars(scale).values()}
        finite = all(np.isfinite(of).all() for of in vars(scale).values())
        if len(sizes) > 1 or not finite or not (scale.unit > 0).all() or not scale.zero.size:
            raise ValueError("a scale of vectors is damaged")
        if "ids" not in state:
            return cls(scale, None)
        values = np.asarray(state["values"])
        if values.shape != (len(state["ids"]), scale.zero.size) or values.dtype != np.float32:
            raise ValueError("vectors do not go with their ids or their scale")
        return cls(scale, VectorTable(state["ids"], with_none(values)))


def read_vectors(
    values: pl.Series, feature: VectorFeature, width: int | None, file: str | None
) -> NDArray[np.float32]:
    """A column of vectors, [n, d]; NaN where one is missing.

    Args:
        values: the column.
        feature: the feature.
        width: d; None for that of the first vector.
        file: name of the table, for messages.

    Raises:
        DataError: a vector has another width, or holds what is no finite number of 32 bits.
    """
    lists = as_lists(values, feature, file)
    lengths = lengths_of(lists)
    there = lengths > 0
    d = width or int(lengths[there][0] if there.any() else 0)
    if (wrong := np.flatnonzero(there & (lengths != d))).size:
        raise DataError(
            f"the vector has {lengths[wrong[0]]} numbers, not {d} as the others",
            file=file,
            column=values.name,
            row=int(wrong[0]),
            hint="Give vectors of one width; where there is none, leave the cell empty",
        )
    flat = values_of(lists)
    numbers = numbers_of(flat)
    if (wrong := np.flatnonzero(~np.isfinite(numbers))).size:
        raise DataError(
            f"the vector holds {flat[int(wrong[0])]!r}, which is no finite number of 32 bits",
            file=file,
            column=values.name,
            row=int(np.flatnonzero(there)[wrong[0] // d]),
            hint="Fix such vectors; where there is none, leave the cell empty",
        )
    found = np.full((lists.len(), d), np.nan, dtype=np.float32)
    found[there] = numbers.reshape(-1, d) if d else 0.0
    return found


def is_there(values: NDArray[np.float32]) -> Booleans:
    """Which vectors are not missing, [n]."""
    return np.asarray(~np.isnan(values[:, :1]).all(axis=1))


def with_none(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors below one of NaN."""
    return np.concatenate([np.full((1, values.shape[1]), np.nan, dtype=np.float32), values])
