"""The correction of probabilities that were learnt on down-sampled negatives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.calibration.base import Calibrator, CalibratorState, SegmentIds, sigmoid
from ctrkit.errors import ConfigError


class DownsamplingCorrection(Calibrator):
    """q = p / (p + (1 - p) / w) if a share w of the negatives was kept for training (He et al. 2014, 6.3).

    The true odds are w times the learnt odds, so the logit is shifted by ln(w). Nothing is learnt from
    labels: `fit` only checks its rows, and the call works without it. It is useful if there are no rows with
    all negatives to fit another calibrator on; a calibrator with an intercept, fitted on such rows, makes
    this correction by itself.

    Args:
        rate: w, the share of negatives kept, in (0, 1]; 1 changes nothing.

    Raises:
        ConfigError: a rate outside (0, 1].
    """

    name = "downsampling"
    minimum_positives = 0
    learns = False
    knows_zero = True
    sets_mean = False
    automatic = False
    _fitted = True

    def __init__(self, rate: float = 1.0) -> None:
        if not 0 < rate <= 1:
            raise ConfigError(f"the share of negatives kept must be in (0, 1], and {rate} was given")
        self.rate = float(rate)

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        pass

    def _probabilities(self, logits: Floats, segments: SegmentIds) -> Floats:
        return sigmoid(logits + np.log(self.rate))

    def _state(self) -> CalibratorState:
        return {"rate": self.rate}

    def _load(self, state: Mapping[str, Floats]) -> None:
        rate = float(state["rate"])
        if not 0 < rate <= 1:
            raise ValueError(f"rate = {rate}")
        self.rate = rate
