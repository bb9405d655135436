"""Calibration of expected values: one factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.metrics.amounts import value_pcoc


@dataclass(frozen=True)
class ValueScaling:
    """Expected values times a factor, so that their sum is that of the observed values.

    The mean of a log-normal depends on its variance by exp(σ² / 2), so that a small misfit of the tail moves
    all expected values together: one factor corrects this, and keeps their order.

    Attributes:
        factor: sum of the values over sum of the predictions.
    """

    factor: float

    @classmethod
    def fit(cls, values: ArrayLike, predictions: ArrayLike, weight: ArrayLike | None = None) -> Self:
        """The factor of held-out rows.

        Args:
            values: observed values, [N].
            predictions: expected values, [N].
            weight: the weight of each row, [N].

        Raises:
            DataError: bad values, or all are 0.
        """
        return cls(1.0 / value_pcoc(values, predictions, weight))

    def __call__(self, predictions: Floats) -> Floats:
        """The corrected expected values."""
        return self.factor * predictions

    def state(self) -> dict[str, Any]:
        """Plain data, for the artifact."""
        return {"name": "factor", "factor": self.factor}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """A scaling from the plain data of `state`.

        Raises:
            ValueError: the factor is not a finite number above 0.
        """
        factor = float(state["factor"])
        if not (np.isfinite(factor) and factor > 0):
            raise ValueError(f"the factor of the value is {factor}")
        return cls(factor)
