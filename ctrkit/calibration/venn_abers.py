"""Venn-Abers calibration: two probabilities for each logit, one of which is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.calibration.base import Calibrator, CalibratorState, SegmentIds
from ctrkit.calibration.kernels import shares_with_one_more_positive
from ctrkit.calibration.pooling import distinct_logits, need_rising
from ctrkit.metrics.checks import finite_floats


class Steps(NamedTuple):
    """A rising staircase: values [S + 1], and the places [S] where the next value begins."""

    places: Floats
    values: Floats


class VennAbers(Calibrator):
    """Inductive Venn-Abers prediction (Vovk, Petej & Fedorova 2015).

    For a logit, p0 is what isotonic regression gives there once a negative row of that logit is added, and p1
    once a positive one is. Whatever the label will be, one of the two came from the right rows, and it is
    calibrated exactly, for any number of rows, provided that they are exchangeable with the new one. The
    probability is p1 / (1 - p0 + p1), the one that minimises the largest regret in log loss.

    p1 - p0 tells how far the rows pin the probability down: it is wide where they are few.

    Attributes:
        low, high: p0 and p1 as staircases over the logit, once fitted.
    """

    name = "venn-abers"
    minimum_positives = 200
    low: Steps
    high: Steps

    def interval(self, logits: ArrayLike) -> tuple[Floats, Floats]:
        """p0 and p1 of each logit, p0 <= p1, both of the shape of the logits.

        Not a confidence interval: no share of such intervals is promised to hold the true probability.

        Raises:
            RunError: before `fit`. DataError: a logit is not finite.
        """
        self._need_fit()
        return self._pair(finite_floats(logits, "logits"))

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        places, positives, mass = distinct_logits(logits, labels, weight)
        high = _one_more_positive(positives, mass)
        # A negative is a positive of the other label, with all logits turned round.
        low = 1 - _one_more_positive((mass - positives)[::-1], mass[::-1])[::-1]
        # Between two places, p1 is that of the upper and p0 that of the lower; beyond the ends, the new row
        # stands alone.
        changes = np.append(np.flatnonzero(np.diff(high)), len(high) - 1)
        self.high = Steps(places[changes], np.append(high[changes], 1.0))
        changes = np.append(0, np.flatnonzero(np.diff(low)) + 1)
        self.low = Steps(places[changes], np.append(0.0, low[changes]))

    def _pair(self, z: Floats) -> tuple[Floats, Floats]:
        low = self.low.values[np.searchsorted(self.low.places, z, side="right")]
        return low, self.high.values[np.searchsorted(self.high.places, z, side="left")]

    def _probabilities(self, logits: Floats, segments: SegmentIds) -> Floats:
        p0, p1 = self._pair(logits)
        return p1 / (1 - p0 + p1)

    def _state(self) -> CalibratorState:
        parts = {"low": self.low, "high": self.high}
        return {
            f"{name}_{part}": getattr(steps, part) for name, steps in parts.items() for part in Steps._fields
        }

    def _load(self, state: Mapping[str, Floats]) -> None:
        for name in ("low", "high"):
            steps = Steps(state[f"{name}_places"], state[f"{name}_values"])
            if steps.places.ndim != 1 or steps.values.shape != (len(steps.places) + 1,):
                raise ValueError(f"{name}: there is not one value more than there are places")
            if not (np.isfinite(steps.places).all() and (np.diff(steps.places) > 0).all()):
                raise ValueError(f"{name}: the places do not rise")
            need_rising(steps.values)
            setattr(self, name, steps)
        if not (self._pair(self.low.places)[1] > 0).all():
            raise ValueError("p1 is 0")


def _one_more_positive(positives: Floats, mass: Floats) -> Floats:
    """The isotonic share at each place with one positive row more there, [K], rising."""
    shares = np.empty(len(mass))
    shares_with_one_more_positive(np.ascontiguousarray(positives), np.ascontiguousarray(mass), shares)
    # The last digits of the slopes may fall where the slopes are equal.
    return np.minimum(np.maximum.accumulate(shares), 1.0)
