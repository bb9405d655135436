"""Scales of numeric features: what a number is to a network, learnt on training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.errors import DataError
from ctrkit.schema import Column, NumericFeature, check_column

# A number farther from the mean than training's farthest by this factor is read as if it lay there; so much
# room is there even where training was narrow. Farther out a network says nothing but 0 or 1, or overflows.
ROOM, LEAST_BOUND = 10.0, 100.0
# Of artifacts that were made before bounds were kept.
OLD_BOUND = 1e4
# Deviation of all but the farthest numbers, over that of all: below it they are one number in 32 bits.
_DEAD = 1e-6
_FARTHEST = 0.001


@dataclass(frozen=True)
class FeatureScale:
    """The mean and deviation of a feature on the training rows, after its transform.

    Attributes:
        bound: how many deviations from the mean a number is read at most; 0 for a feature that was constant,
            of whose other values training says nothing.
    """

    mean: float
    deviation: float
    bound: float = OLD_BOUND

    @classmethod
    def fit(cls, values: Floats, name: str, file: str | None, rows: Integers) -> FeatureScale:
        """The scale of some numbers, [n].

        Args:
            name, file, rows: the column, its file and the numbers' rows [n] there, for messages.

        Raises:
            DataError: a few numbers are so far from the others that these are all alike beside them.
        """
        with np.errstate(over="ignore"):
            mean, deviation = float(values.mean()), float(values.std())
        # What is left of a sum's rounding is no deviation.
        noise = values.size * np.finfo(np.float64).eps * abs(mean)
        if np.isfinite(deviation) and deviation <= noise:
            return cls(mean, 1.0, 0.0)
        distance = np.abs(values - np.median(values))
        farthest = int(distance.argmax())
        kept = values.size - max(1, int(_FARTHEST * values.size))
        rest = float(values[np.argpartition(distance, kept - 1)[:kept]].std()) if kept > 1 else deviation
        if not np.isfinite(deviation) or 0 < rest < _DEAD * deviation:
            raise DataError(
                f"{values[farthest]:g} is so far from the other numbers that they are all alike beside it",
                file=file,
                column=name,
                row=int(rows[farthest]),
                hint="Fix such rows, limit the column's range, or declare transform: log1p",
            )
        largest = float(np.abs((values - mean) / deviation).max())
        return cls(mean, deviation, max(LEAST_BOUND, ROOM * largest))

    def standardised(self, values: Floats) -> NDArray[np.float32]:
        """Numbers with mean 0 and deviation 1 on the training rows, within the bound."""
        return np.clip(self._deviations(values), -self.bound, self.bound).astype(np.float32)

    def beyond(self, values: Floats) -> Booleans:
        """Which numbers are read as if they lay at the bound."""
        with np.errstate(over="ignore"):
            slack = values.size * np.finfo(np.float64).eps * abs(self.mean)
        return np.asarray(np.abs(self._deviations(values)) > self.bound + slack)

    def _deviations(self, values: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.asarray((values - self.mean) / self.deviation)


def transformed(values: pl.Series, feature: NumericFeature, file: str | None) -> Floats:
    """The numbers of a feature, checked and transformed, [n].

    Raises:
        DataError: for a value that is missing, not finite, or below 0 where a logarithm is taken.
    """
    low = 0.0 if feature.transform == "log1p" else None
    column = Column(feature.name, "number", "a numeric feature", low=low)
    numbers = check_column(values, column, file).to_numpy()
    return np.log1p(numbers) if feature.transform == "log1p" else numbers
