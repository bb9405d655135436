"""Scales of numeric features, learned from training rows, which make numbers fit for a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats
from ctrkit.data.statistics import NumberSummary
from ctrkit.errors import DataError
from ctrkit.schema import Column, NumericFeature, check_column

# Numbers are clipped at ROOM times the farthest of training, and not below LEAST_BOUND units.
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
    """Zero and unit of a feature after its transform: the scaled number is (x - zero) / unit.

    Attributes:
        zero: mean of the training rows; of `min_max`, the lowest number of them.
        unit: standard deviation of the training rows; of `min_max`, the highest number minus the lowest.
        bound: scaled numbers are clipped at this distance from 0. It is 0 for a feature that was constant in
            training, because nothing is known about its other values.
        centre: mean of the scaled training rows, as which a missing number is read.
    """

    zero: float
    unit: float
    bound: float = OLD_BOUND
    centre: float = 0.0

    @classmethod
    def fit(
        cls, numbers: NumberSummary, name: str, kind: Literal["standard", "min_max"] = "standard"
    ) -> FeatureScale:
        """The scale of some numbers.

        Args:
            numbers: the numbers, at least one.
            name: name of the column, for messages.
            kind: see `NumericFeature.scale`.

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
                hint="Fix such rows, limit the column's range, or declare transform: "
                + ("log1p" if numbers.lowest.value >= 0 else "signed_log1p"),
            )
        low, high = (end.value for end in ends)
        if kind == "min_max":
            return cls(low, high - low, max(LEAST_BOUND, ROOM), (mean - low) / (high - low))
        largest = max(abs((end - mean) / deviation) for end in (low, high))
        return cls(mean, deviation, max(LEAST_BOUND, ROOM * largest))

    def scaled(self, values: Floats) -> NDArray[np.float32]:
        """(x - zero) / unit, clipped at the bound.

        Missing numbers stay NaN, with the same bits everywhere, so that equal rows have equal fingerprints.
        """
        clipped = np.clip(self._units(values), -self.bound, self.bound).astype(np.float32)
        clipped[np.isnan(clipped)] = np.nan
        return clipped

    def beyond(self, values: Floats) -> Booleans:
        """Which numbers are clipped at the bound."""
        with np.errstate(over="ignore"):
            slack = values.size * np.finfo(np.float64).eps * abs(self.zero / self.unit)
        return np.asarray(np.abs(self._units(values)) > self.bound + slack)

    def _units(self, values: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.asarray((values - self.zero) / self.unit)


def transformed(values: pl.Series, feature: NumericFeature, file: str | None) -> Floats:
    """The numbers of a feature, checked and transformed, [n]; NaN where one is missing.

    Raises:
        DataError: a value is no number, infinite, or negative where a logarithm is taken.
    """
    low = 0.0 if feature.transform == "log1p" else None
    meaning = "a number whose logarithm is taken; transform: signed_log1p takes negative numbers too"
    column = Column(
        feature.name, "number", "a numeric feature" if low is None else meaning, low=low, nullable=True
    )
    return transform(check_column(values, column, file).to_numpy(), feature)


def transform(numbers: Floats, feature: NumericFeature) -> Floats:
    """Numbers after the transform of their feature, [n]; NaN stays NaN."""
    if feature.transform == "signed_log1p":
        return np.asarray(np.copysign(np.log1p(np.abs(numbers)), numbers))
    return np.log1p(numbers) if feature.transform == "log1p" else numbers


def restored(number: float, scale: FeatureScale, feature: NumericFeature) -> float:
    """The number of the table that a scaled number stands for."""
    found = number * scale.unit + scale.zero
    if feature.transform == "signed_log1p":
        return float(np.copysign(np.expm1(abs(found)), found))
    return float(np.expm1(found)) if feature.transform == "log1p" else found
