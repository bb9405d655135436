"""Estimators of one weight a row, put to use where the weight is not a ratio of two propensities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar, Generic, Self, TypeVar

from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows, WeightedEstimator

Rows = TypeVar("Rows")


class Reweighted(ABC, Generic[Rows]):
    """An `Estimator` behind another kind of rows, such as slates or bids.

    Each kind of row is turned into a weight, with mean 1 under the logging policy, and a reward. Sums,
    values and intervals are then those of the estimator behind, and so are what it promises.

    Args:
        reward_range: the least and the largest possible reward; without it intervals are normal ones.
        largest_weight: the largest weight to reckon with, seen or not; by default what the class says.
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
        """What the estimator behind sees of the rows."""

    def update(self, rows: Rows) -> None:
        """Take in rows."""
        self.estimator.update(self.convert(rows))

    def merge(self, other: Self) -> None:
        """Take in what another estimator of this class and these settings has seen, of other users."""
        self.estimator.merge(other.estimator)

    def result(self, confidence: float = 0.95) -> Estimate:
        """Value, and difference to the logging policy's mean reward, with two-sided intervals."""
        if self.largest_weight is not None and isinstance(self.estimator, WeightedEstimator):
            self.estimator.largest_weight = self.largest_weight
        return replace(self.estimator.result(confidence), estimator=self.name)
