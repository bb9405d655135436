"""Scales of numeric features, learned from training rows: they standardise the numbers for a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats
from ctrkit.data.statistics import NumberSummary
from ctrkit.errors import DataError
from ctrkit.schema import Column, NumericFeature, check_column

# Numbers are clipped at ROOM times the largest deviation of training, and not below LEAST_BOUND deviations.
# Farther out a network gives only 0 or 1, or overflows.
ROOM, LEAST_BOUND = 10.0, 100.0
# The bound in artifacts that were made before bounds were stored.
OLD_BOUND = 1e4
# Smallest ratio of the deviation without the farthest numbers to that of all: below it, 32 bits make the
# other numbers equal.
_DEAD = 1e-6
_FARTHEST = 0.001


@dataclass(frozen=True)
class FeatureScale:
    """The mean and standard deviation of a feature on the training rows, after its transform.

    Attributes:
        mean: mean on the training rows.
        deviation: standard deviation on the training rows.
        bound: numbers are clipped at this number of standard deviations from the mean. It is 0 for a feature
            that was constant in training, because nothing is known about its other values.
    """

    mean: float
    deviation: float
    bound: float = OLD_BOUND

    @classmethod
    def fit(cls, numbers: NumberSummary, name: str) -> FeatureScale:
        """The scale of some numbers.

        Args:
            numbers: the numbers, at least one.
            name: name of the column, for messages.

        Raises:
            DataError: a few numbers are so far away that all others become equal.
        """
        mean, deviation, values = numbers.mean, numbers.deviation, numbers.sample
        # A deviation of the size of rounding errors counts as 0.
        noise = numbers.size * np.finfo(np.float64).eps * abs(mean)
        if np.isfinite(deviation) and deviation <= noise:
            return cls(mean, 1.0, 0.0)
        middle = float(np.median(values))
        distance = np.abs(values - middle)
        kept = values.size - max(1, int(_FARTHEST * values.size))
        rest = float(values[np.argpartition(distance, kept - 1)[:kept]].std()) if kept > 1 else deviation
        ends = (numbers.lowest, numbers.highest)
        if not np.isfinite(deviation) or 0 < rest < _DEAD * deviation:
            farthest = max(ends, key=lambda end: abs(end.value - middle))
            raise DataError(
                f"{farthest.value:g} is so far from the other numbers that scaling makes them all equal",
                file=farthest.file,
                column=name,
                row=farthest.row,
                hint="Fix such rows, limit the column's range, or declare transform: log1p",
            )
        largest = max(abs((end.value - mean) / deviation) for end in ends)
        return cls(mean, deviation, max(LEAST_BOUND, ROOM * largest))

    def standardised(self, values: Floats) -> NDArray[np.float32]:
        """The numbers with mean 0 and standard deviation 1 on the training rows, clipped at the bound.

        Missing numbers stay NaN, with the same bits everywhere, so that equal rows have equal fingerprints.
        """
        clipped = np.clip(self._deviations(values), -self.bound, self.bound).astype(np.float32)
        clipped[np.isnan(clipped)] = np.nan
        return clipped

    def beyond(self, values: Floats) -> Booleans:
        """Which numbers are clipped at the bound."""
        with np.errstate(over="ignore"):
            slack = values.size * np.finfo(np.float64).eps * abs(self.mean)
        return np.asarray(np.abs(self._deviations(values)) > self.bound + slack)

    def _deviations(self, values: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.asarray((values - self.mean) / self.deviation)


def transformed(values: pl.Series, feature: NumericFeature, file: str | None) -> Floats:
    """The numbers of a feature, checked and transformed, [n]; NaN where one is missing.

    Raises:
        DataError: a value is no number, infinite, or negative where a logarithm is taken.
    """
    low = 0.0 if feature.transform == "log1p" else None
    column = Column(feature.name, "number", "a numeric feature", low=low, nullable=True)
    numbers = check_column(values, column, file).to_numpy()
    return np.log1p(numbers) if feature.transform == "log1p" else numbers
