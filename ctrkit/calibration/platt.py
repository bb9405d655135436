"""Platt scaling: a logistic regression on the logit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.calibration.base import Calibrator, CalibratorState, SegmentIds, positive_scalar
from ctrkit.calibration.logistic import LogisticLine, fit_line, line_probabilities


class PlattScaling(Calibrator):
    """p = σ(slope · logit + intercept), slope > 0, by maximum likelihood (Platt 1999).

    The intercept makes the mean prediction equal to the mean label, so PCOC on the fitted rows is 1. Targets
    are the labels. Only if the logit separates the rows perfectly, so that the slope would be infinite,
    Platt's smoothed targets are used, with a warning.

    Attributes:
        slope: the fitted slope.
        intercept: the fitted intercept.
    """

    name = "platt"
    minimum_positives = 20
    slope: float
    intercept: float

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        self.slope, self.intercept = fit_line(logits, labels, weight, name=self.name, with_intercept=True)

    def _probabilities(self, logits: Floats, segments: SegmentIds) -> Floats:
        return line_probabilities(LogisticLine(self.slope, self.intercept), logits)

    def _state(self) -> CalibratorState:
        return {"slope": self.slope, "intercept": self.intercept}

    def _load(self, state: Mapping[str, Floats]) -> None:
        self.slope, self.intercept = positive_scalar(state, "slope"), float(state["intercept"])
        if not np.isfinite(self.intercept):
            raise ValueError(f"intercept = {self.intercept}")
