"""Temperature scaling: one number that makes probabilities more or less extreme."""

from __future__ import annotations

from collections.abc import Mapping

from ctrkit.arrays import Floats
from ctrkit.calibration.base import Calibrator, CalibratorState, SegmentIds, positive_scalar
from ctrkit.calibration.logistic import LogisticLine, fit_line, line_probabilities


class TemperatureScaling(Calibrator):
    """p = σ(logit / T), T > 0, by maximum likelihood (Guo, Pleiss, Sun & Weinberger 2017).

    T above 1 corrects an over-confident model. It cannot correct a wrong base rate; Platt scaling can. It
    moves all logits towards 0 or away from it. Where clicks are rare, this moves the mean probability too,
    and PCOC may become worse.

    Attributes:
        temperature: the fitted T.
    """

    name = "temperature"
    minimum_positives = 20
    sets_mean = False
    temperature: float

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        line = fit_line(logits, labels, weight, name=self.name, with_intercept=False)
        self.temperature = 1 / line.slope

    def _probabilities(self, logits: Floats, segments: SegmentIds) -> Floats:
        return line_probabilities(LogisticLine(1 / self.temperature, 0.0), logits)

    def _state(self) -> CalibratorState:
        return {"temperature": self.temperature}

    def _load(self, state: Mapping[str, Floats]) -> None:
        self.temperature = positive_scalar(state, "temperature")
