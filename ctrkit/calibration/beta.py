"""Beta calibration: log-odds linear in two logarithms, for curved maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.calibration.base import Calibrator, CalibratorState, SegmentIds, sigmoid
from ctrkit.calibration.logistic import (
    LEAST_SLOPE,
    Design,
    largest_size,
    maximum_likelihood,
    moments,
    newton,
    smoothed_where_separated,
    sums,
    warn_backwards,
)


class BetaCalibration(Calibrator):
    """log-odds = a · log s - b · log(1 - s) + c at s = σ(logit), a, b >= 0 (Kull, Silva Filho & Flach 2017).

    This map is exact if the scores of positives and of negatives are beta distributed. a shapes the curve at
    low probabilities and b at high ones; a = b is Platt scaling. The fit is by maximum likelihood under
    a, b >= 0, which keeps the order: if the best a or b is negative, it is set to 0. Rows that the logit
    separates, or orders backwards, are handled as in Platt scaling, with a warning.

    Unlike in Platt scaling, shifted logits give another curve, because a logit of 0 means one half.

    Attributes:
        a: the fitted factor of log s.
        b: the fitted factor of -log(1 - s).
        c: the fitted intercept.
    """

    name = "beta"
    minimum_positives = 30
    knows_zero = True
    a: float
    b: float
    c: float

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        spread = moments(logits / (largest := largest_size(logits)), weight)[1]
        if spread <= 1e-12:
            # One logit for all rows: shift it to the base rate.
            rate = float(np.average(labels, weights=weight))
            self.a = self.b = 1.0
            self.c = float(np.log(rate / (1 - rate)) - np.average(logits, weights=weight))
            return
        target = smoothed_where_separated(logits, labels, weight, name=self.name, with_intercept=True)
        self.a, self.b, self.c = _both(logits, target, weight) or _one(logits, target, weight)
        if self.a + self.b == 0:
            warn_backwards(self.name, 0.0)
            least = LEAST_SLOPE / (spread * largest)
            design = Design((logits,), (least,), (0.0,))
            self.c = float(newton(design, target, weight, np.array([1.0, 0.0]), (False, True))[1])
            self.a = self.b = least

    def _probabilities(self, logits: Floats, segments: SegmentIds) -> Floats:
        with np.errstate(over="ignore"):
            return sigmoid(self.a * log_sigmoid(logits) - self.b * log_sigmoid(-logits) + self.c)

    def _state(self) -> CalibratorState:
        return {"a": self.a, "b": self.b, "c": self.c}

    def _load(self, state: Mapping[str, Floats]) -> None:
        a, b, c = (float(state[key]) for key in ("a", "b", "c"))
        if not (0 <= a < np.inf and 0 <= b < np.inf and a + b > 0 and np.isfinite(c)):
            raise ValueError(f"a = {a}, b = {b}, c = {c}")
        self.a, self.b, self.c = a, b, c


def log_sigmoid(z: Floats) -> Floats:
    """log σ(z), without overflow."""
    return np.minimum(z, 0.0) - np.log1p(np.exp(-np.abs(z)))


def _both(z: Floats, target: Floats, w: Floats) -> tuple[float, float, float] | None:
    """a, b, c of the unconstrained optimum; None if it has a or b below 0."""
    # log s - log(1 - s) is the logit z, and -log s - log(1 - s) is an even function h of z. With these,
    # log-odds = (a + b)/2 · z + (b - a)/2 · h + c. The part of h that is linear in z is subtracted: if all
    # logits are far from 0, it is nearly all of h.
    h = -log_sigmoid(z) - log_sigmoid(-z)
    (middle, width), (level, _) = moments(z, w), moments(h, w)
    centred = z - middle
    follows = float(w @ (centred * (h - level))) / (float(w.sum()) * width**2)
    h -= level
    h -= follows * centred
    rest = moments(h, w)[1]
    if not (np.isfinite([width, follows, rest]).all() and rest > 1e-12 * max(1.0, abs(level))):
        return None
    design = Design((z, h), (1 / width, 1 / rest), (middle / width, 0.0))
    beta = maximum_likelihood(design, target, w, (True, True, True))
    bend = float(beta[1]) / rest
    slope = float(beta[0]) / width - bend * follows
    a, b = slope - bend, slope + bend
    return (a, b, float(beta[2]) - slope * middle - bend * level) if a >= 0 and b >= 0 and a + b > 0 else None


def _one(z: Floats, target: Floats, w: Floats) -> tuple[float, float, float]:
    """a, b, c with a or b equal to 0, whichever is better; 0, 0, 0 if neither can be above 0.

    The loss is convex, so if the unconstrained optimum is outside a, b >= 0, the best is on the edge.
    """
    found = []
    for falling in (False, True):
        x = -log_sigmoid(-z) if falling else log_sigmoid(z)
        middle, width = moments(x, w)
        if width <= 1e-12 * largest_size(x):
            continue
        design = Design((x,), (1 / width,), (middle / width,))
        beta = maximum_likelihood(design, target, w, (True, True))
        slope = float(beta[0]) / width
        if beta[0] > 0:
            answer = (0.0, slope) if falling else (slope, 0.0)
            found.append((sums(design, target, w, beta).loss, (*answer, float(beta[1]) - slope * middle)))
    return min(found)[1] if found else (0.0, 0.0, 0.0)
