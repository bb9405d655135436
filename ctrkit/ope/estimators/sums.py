"""Sufficient statistics of any length, for estimates that are smooth functions of a mean vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import DataError
from ctrkit.ope.estimators.base import Estimate
from ctrkit.ope.intervals.interval import ConfidenceInterval, around, normal
from ctrkit.ope.intervals.moments import REWARD, TERM, Moments, ProductSums
from ctrkit.ope.intervals.unit_sums import Keys


class CountedRows(Protocol):
    """Rows of any kind, B of them.

    Attributes:
        users: [B] keys, the same of a user in all batches and parts. None: rows are independent.
        counts: [B] how many decisions each row stands for.
    """

    @property
    def users(self) -> Keys | None: ...
    @property
    def counts(self) -> Floats: ...


Rows = TypeVar("Rows", bound=CountedRows)


class VectorMoments(ProductSums):
    """The sums of vectors of any length; `Moments` are the same for four columns."""

    def moments(self, weight: Floats, term: Floats, reward: Floats) -> Moments:
        """The `Moments` of (1, weight · z, term · z, reward · z)."""
        return self.projected(np.stack([np.eye(len(self.rows))[0], weight, term, reward]))


class VectorEstimator(ABC, Generic[Rows]):
    """A smooth function of the mean of a vector z per row, with the delta method's interval.

    The counterpart of `Estimator` where one term per row is not enough.

    Args:
        length: the length D of z.
    """

    name: ClassVar[str]

    def __init__(self, length: int) -> None:
        self.sums = VectorMoments(length)

    @abstractmethod
    def vectors(self, rows: Rows) -> Floats:
        """The vectors z, [D, B]; the first row is all 1."""

    @abstractmethod
    def value(self) -> float:
        """The estimate from all rows so far; NaN where they determine none."""

    @abstractmethod
    def direction(self) -> Floats:
        """Coefficients [D] of z whose mean has the variance of the value (the delta method)."""

    @abstractmethod
    def reward(self) -> Floats:
        """Coefficients [D] of z that give the logged reward of a row."""

    def update(self, rows: Rows) -> None:
        """Take in rows."""
        self.sums.add(self.vectors(rows), rows.users, rows.counts)

    def merge(self, other: Self) -> None:
        """Merge the rows of another estimator of this class and length, of the same or of other users."""
        self.sums.merge(other.sums)

    def result(self, confidence: float = 0.95) -> Estimate:
        """Value, and difference from the logging policy's mean reward, with two-sided intervals."""
        value = self.value()
        difference = value - float(self.sums.mean @ self.reward())
        return Estimate(
            self.name,
            value,
            self._around(value, self.interval(value, False, confidence)),
            difference,
            self._around(difference, self.interval(difference, True, confidence)),
        )

    def interval(self, value: float, of_difference: bool, confidence: float) -> ConfidenceInterval:
        """The interval of the value, or of the difference from the logging policy (see `Estimator`)."""
        moments = self.sums.moments(0 * self.reward(), self.direction(), self.reward())
        return normal(value, moments, TERM - of_difference * REWARD, confidence)

    def _around(self, value: float, interval: ConfidenceInterval) -> ConfidenceInterval:
        """The interval, widened and marked where it excludes the estimate; its method names clustering."""
        method = f"{interval.method}, clustered" if self.sums.clustered else interval.method
        return around(value, replace(interval, method=method))


def check_propensities(name: str, probabilities: Floats, where: Floats | None = None) -> None:
    """Raise DataError unless all entries are finite and above 0; where `where` is 0 any entry is fine."""
    well = (probabilities > 0) & np.isfinite(probabilities)
    if where is not None:
        well |= where == 0
    if not well.all():
        row = int(np.argmin(well.reshape(len(well), -1).all(axis=1)))
        raise DataError(
            "the logging policy chose an action to which it gives no probability",
            column=name,
            row=row,
            hint="Log the probability, above 0, with which each action was drawn",
        )


def check_row_shapes(rows: object, names: Iterable[str], shape: tuple[int, ...]) -> None:
    """Raise DataError unless each of these arrays of the rows has this shape, or is None."""
    for name in names:
        array = getattr(rows, name)
        if array is not None:
            check_shape(name, array, shape)


def check_shape(name: str, array: Floats | Integers, shape: tuple[int, ...]) -> None:
    """Raise DataError unless an array has this shape."""
    if array.shape != shape:
        raise DataError(f"the array has shape {array.shape}, but {shape} is needed", column=name)
