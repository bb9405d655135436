"""Isotonic regression: any rising curve from logit to probability."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctrkit.calibration.base import Calibrator, State
from ctrkit.metrics.checks import Floats

# Of one row, placed as a positive at the lowest logit and as a negative at the highest.
END_WEIGHT = 0.5


class IsotonicRegression(Calibrator):
    """The best non-decreasing curve (Zadrozny & Elkan 2002), by pooling adjacent violators.

    Rows are pooled into blocks of equal probability, the share of positives in each. Between blocks the curve
    is linear in the logit, beyond the ends it is flat. The lowest block would often be all negatives and the
    highest all positives, and probabilities of 0 and 1 that no finite sample supports; so half a positive row
    is added at the lowest logit and half a negative at the highest before pooling, as Jeffreys' prior does
    for a share: an end block of n negatives gives 0.5 / (n + 0.5).

    Many logits share a probability: whoever ranks by it should break ties by the logit.

    Attributes:
        knots, probabilities: corners of the curve, both [K], rising, once fitted.
    """

    name = "isotonic"
    minimum_positives = 200
    knots: Floats
    probabilities: Floats

    def _fit(self, logits: Floats, labels: Floats, weight: Floats) -> None:
        # scipy.optimize takes half a second to import, and only fitting needs it.
        from scipy.optimize import isotonic_regression

        distinct, index = np.unique(logits, return_inverse=True)
        positives, mass = np.bincount(index, weight * labels), np.bincount(index, weight)
        positives[0] += END_WEIGHT
        mass[0] += END_WEIGHT
        mass[-1] += END_WEIGHT
        pooled = isotonic_regression(positives / mass, weights=mass)
        starts, ends = pooled.blocks[:-1], pooled.blocks[1:] - 1  # a block's first and last distinct logit
        corners = np.unique(np.concatenate([starts, ends]))
        self.knots, self.probabilities = distinct[corners], np.asarray(pooled.x, np.float64)[corners]

    def _probabilities(self, logits: Floats) -> Floats:
        return np.interp(logits, self.knots, self.probabilities)

    def _state(self) -> State:
        return {"knots": self.knots, "probabilities": self.probabilities}

    def _load(self, state: Mapping[str, Floats]) -> None:
        knots, probabilities = state["knots"], state["probabilities"]
        if knots.ndim != 1 or not knots.size or knots.shape != probabilities.shape:
            raise ValueError("knots and probabilities are not of one length")
        if not (np.isfinite(knots).all() and (np.diff(knots) > 0).all()):
            raise ValueError("the knots do not rise")
        if not (
            (probabilities >= 0).all() and (probabilities <= 1).all() and (np.diff(probabilities) >= 0).all()
        ):
            raise ValueError("the probabilities do not rise within [0, 1]")
        self.knots, self.probabilities = knots, probabilities
