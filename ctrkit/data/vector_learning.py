"""Learning of the scales of vectors from training rows that come chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Integers
from ctrkit.data.scales import LEAST_BOUND, ROOM
from ctrkit.data.vector_files import read_vector_table
from ctrkit.data.vectors import BLOCK, Vectors, VectorScale, VectorStock, VectorTable, is_there, read_vectors
from ctrkit.errors import DataError
from ctrkit.schema import FeatureSpec, VectorFeature


class VectorLearning:
    """What is learnt of a vector feature from training rows that come chunk by chunk.

    Args:
        feature: the feature.
        table: where its vectors are looked up.
    """

    def __init__(self, feature: VectorFeature, table: VectorTable | None) -> None:
        self.feature, self.table = feature, table
        self.summary = _Summary()
        self._example: str | None = None

    def add(self, values: pl.Series, rows: Integers, file: str | None) -> None:
        """Learn from some rows of a chunk.

        Args:
            values: the feature's column of all rows of the chunk.
            rows: the training rows.
            file: name of the table, for messages.

        Raises:
            DataError: as of `VectorStock.encode`.
        """
        if self.table is None:
            vectors = read_vectors(values, self.feature, self.summary.width, file)
            self._sum(Vectors(vectors), rows)
        else:
            self._sum(Vectors(self.table.values, self.table.rows_of(values, file)), rows)
            if self._example is None and (held := values[rows].drop_nulls()).len():
                self._example = str(held[0])

    def _sum(self, vectors: Vectors, rows: Integers) -> None:
        for first in range(0, rows.size, BLOCK):
            part = vectors.of_rows(rows[first : first + BLOCK])
            some = part.values if part.rows is None else part.values[part.rows]
            self.summary.add(some[is_there(some)])

    def check(self, file: str | None) -> None:
        """Check that some training row had a vector.

        Raises:
            DataError: none had one.
        """
        self.summary.finish()
        if self.summary.size:
            return
        if self.table is None:
            problem, hint = "the training rows have no vector in this column", "Remove the feature"
        else:
            held = "no id" if self._example is None else f"'{self._example}'"
            problem = (
                f"no id of the training rows is in {self.feature.table}: rows have {held}, the file"
                f" '{self.table.ids[0]}'"
            )
            hint = "Write the ids of both in the same way, or name the file's column of ids as `table_id`"
        raise DataError(problem, file=file, column=self.feature.column, hint=hint)


def learners(spec: FeatureSpec) -> dict[str, VectorLearning]:
    """For each vector feature what learns it; a file that several look into is read once.

    Raises:
        DataError: a file cannot be read, or does not hold one vector for each id.
    """
    tables: dict[str, VectorTable] = {}
    for vector in spec.vectors:
        if vector.table is not None and (name := spec.stock_of(vector)) not in tables:
            tables[name] = read_vector_table(vector)
    return {one.name: VectorLearning(one, tables.get(spec.stock_of(one))) for one in spec.vectors}


def learnt_vectors(
    spec: FeatureSpec, learning: Mapping[str, VectorLearning], file: str | None
) -> dict[str, VectorStock]:
    """Stock -> its scale, over the training rows of all features that share it, and its vectors.

    Raises:
        DataError: no training row has a vector.
    """
    found: dict[str, VectorStock] = {}
    summaries: dict[str, _Summary] = {}
    for vector in spec.vectors:
        one = learning[vector.name]
        one.check(file)
        summaries.setdefault(spec.stock_of(vector), _Summary()).join(one.summary)
    for name, summary in summaries.items():
        scale, table = summary.scale(), learning[name].table
        scaled = None if table is None else replace(table, values=scale.scaled(table.values))
        found[name] = VectorStock(scale, scaled)
    return found


class _Summary:
    """Size, means, sums of squares and extremes of vectors, [d]."""

    def __init__(self) -> None:
        self.size = 0
        self.mean = self.squares = self.low = self.high = np.empty(0)
        self._waiting = np.empty((0, 0), dtype=np.float32)

    @property
    def width(self) -> int | None:
        """d; None as long as there is no vector."""
        return self.mean.size or self._waiting.shape[1] or None

    def add(self, values: NDArray[np.float32]) -> None:
        """Add vectors, [n, d]."""
        if not len(values):
            return
        self._waiting = np.concatenate([self._waiting.reshape(-1, values.shape[1]), values])
        if len(self._waiting) >= BLOCK:
            self._sum(self._waiting[:BLOCK])
            self._waiting = self._waiting[BLOCK:]

    def finish(self) -> None:
        """Sum the last block, after all vectors were added."""
        if len(self._waiting):
            self._sum(self._waiting)
            self._waiting = self._waiting[:0]

    def _sum(self, block: NDArray[np.float32]) -> None:
        one, values = _Summary(), block.astype(np.float64)
        one.size, one.mean = len(values), values.mean(axis=0)
        one.squares = ((values - one.mean) ** 2).sum(axis=0)
        one.low, one.high = values.min(axis=0), values.max(axis=0)
        self.join(one)

    def join(self, other: _Summary) -> None:
        """Take in other vectors, by the sums of Chan, Golub and LeVeque (The American Statistician 1983)."""
        if not self.size:
            self.size, self.mean, self.squares = other.size, other.mean, other.squares
            self.low, self.high = other.low, other.high
            return
        total, apart = self.size + other.size, other.mean - self.mean
        self.squares = self.squares + other.squares + apart**2 * (self.size * other.size / total)
        self.mean = self.mean + apart * (other.size / total)
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        self.size = total

    def scale(self) -> VectorScale:
        """The scale; a deviation of the size of rounding errors counts as 0, as of numeric features."""
        deviation = np.sqrt(self.squares / self.size)
        constant = deviation <= self.size * np.finfo(np.float64).eps * np.abs(self.mean)
        unit = np.where(constant, 1.0, deviation)
        farthest = np.maximum(self.high - self.mean, self.mean - self.low) / unit
        return VectorScale(self.mean, unit, np.where(constant, 0.0, np.maximum(LEAST_BOUND, ROOM * farthest)))
