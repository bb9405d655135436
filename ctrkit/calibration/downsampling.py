"""The correction of probabilities learnt on down-sampled negatives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.calibration.base import Calibrator, CalibratorState, SegmentIds, sigmoid
from ctrkit.errors import ConfigError


class DownsamplingCorrection(Calibrator):
    """q = p / (p + (1 - p) / w) where a share w of the negatives was kept for training (He et al. 2014, 6.3).

    Odds are w times as high as learnt, so it is a shift of the logit by ln(w). There is nothing to learn from
    labels: `fit` checks its rows and changes nothing, and the call works without it. Use it before any other
    calibrator has seen true rows; one with an intercept, fitted on them, makes this correction by itself.

    Args:
        rate: w, in (0, 1]; 1 changes nothing.

    Raises:
        ConfigError: a rate outside (0, 1].
    """

    name = "downsampling"
    minimum_positives = 0
    learns = False
    knows_zero = True
    automatic = False
    _fitted = True

    def __init__(self, rate: float = 1.0) -> None:
        if not 0 < rate <= 1:
            raise ConfigError(f"the share of negatives that was kept lies in (0, 1], and {rate} was given")
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
