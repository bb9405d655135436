"""Venn-Abers calibration: two probabilities for each logit, one of which is calibrated."""

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
    """A rising step function: values [S + 1], and the logits (`places`) where the next value begins, [S]."""

    places: Floats
    values: Floats


class VennAbers(Calibrator):
    """Inductive Venn-Abers prediction (Vovk, Petej & Fedorova 2015).

    For a logit, p0 is the result of isotonic regression with one negative row of that logit added, and p1 the
    result with one positive row added. One of the two uses the label that the row really has, and it is
    exactly calibrated, for any number of rows, if they are exchangeable with the new row. The probability
    given is p1 / (1 - p0 + p1), which minimises the largest regret in log loss.

    The width p1 - p0 shows how well the rows determine the probability: it is wide if there are few rows.

    Attributes:
        low: the fitted p0, a step function of the logit.
        high: the fitted p1, a step function of the logit.
    """

    name = "venn-abers"
    minimum_positives = 200
    low: Steps
    high: Steps

    def interval(self, logits: ArrayLike) -> tuple[Floats, Floats]:
        """p0 and p1 of each logit, p0 <= p1, both of the shape of the logits.

        This is not a confidence interval: no share of such intervals is sure to hold the true probability.

        Raises:
            RunError: the calibrator is not fitted.
            DataError: a logit is not finite.
        """
        self._need_fit()
        return self._pair(finite_floats(logits, "logits"))

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        places, positives, mass = distinct_logits(logits, labels, weight)
        high = _one_more_positive(positives, mass)
        # A negative row is a positive row of the other label, with the logits in reverse order.
        low = 1 - _one_more_positive((mass - positives)[::-1], mass[::-1])[::-1]
        # Between two logits, p1 is that of the upper and p0 that of the lower one; beyond the ends there is
        # only the new row.
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
                raise ValueError(f"{name}: the number of values is not that of the places plus one")
            if not (np.isfinite(steps.places).all() and (np.diff(steps.places) > 0).all()):
                raise ValueError(f"{name}: the places do not rise")
            need_rising(steps.values)
            setattr(self, name, steps)
        if not (self._pair(self.low.places)[1] > 0).all():
            raise ValueError("p1 is 0")


def _one_more_positive(positives: Floats, mass: Floats) -> Floats:
    """The isotonic share at each place after one positive row is added there, rising, [K]."""
    shares = np.empty(len(mass))
    shares_with_one_more_positive(np.ascontiguousarray(positives), np.ascontiguousarray(mass), shares)
    # Equal slopes may differ in their last digits and seem to fall.
    return np.minimum(np.maximum.accumulate(shares), 1.0)
