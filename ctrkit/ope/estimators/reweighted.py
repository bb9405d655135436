"""Estimators with one weight per row, for rows whose weight is not a ratio of two propensities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar, Generic, Self, TypeVar

from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows, WeightedEstimator

Rows = TypeVar("Rows")


class Reweighted(ABC, Generic[Rows]):
    """An `Estimator` for another kind of rows, such as slates or bids.

    Each row is converted into a weight, with mean 1 under the logging policy, and a reward. Sums, values and
    intervals are then those of the inner estimator.

    Args:
        reward_range: the smallest and the largest possible reward; without it intervals are normal.
        largest_weight: the largest weight that is possible, seen or not; the default depends on the class.
    """

    name: ClassVar[str]
    kind: ClassVar[type[Estimator]]

    def __init__(
        self, reward_range: tuple[float, float] | None = None, largest_weight: float | None = None
    ) -> None:
        self.estimator = self.kind(reward_range)
        self.largest_weight = largest_weight

    @abstractmethod
    def convert(self, rows: Rows) -> LoggedRows:
        """The rows as the inner estimator sees them."""

    def update(self, rows: Rows) -> None:
        """Take in rows."""
        self.estimator.update(self.convert(rows))

    def merge(self, other: Self) -> None:
        """Merge the rows of another estimator of this class and settings, of other users."""
        self.estimator.merge(other.estimator)

    def result(self, confidence: float = 0.95) -> Estimate:
        """Value, and difference from the logging policy's mean reward, with two-sided intervals."""
        if self.largest_weight is not None and isinstance(self.estimator, WeightedEstimator):
            self.estimator.largest_weight = self.largest_weight
        return replace(self.estimator.result(confidence), estimator=self.name)
