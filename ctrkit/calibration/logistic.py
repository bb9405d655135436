"""The logistic regression of one slope and perhaps an intercept that temperature and Platt scaling share."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from ctrkit.calibration.base import CalibrationWarning, sigmoid
from ctrkit.metrics.checks import Floats

# The least change in log-odds over the spread of the fitted logits: keeps their order where the rows deny it.
LEAST_SLOPE = 1e-3


class Line(NamedTuple):
    """log-odds = slope · logit + intercept."""

    slope: float
    intercept: float


def fit_line(z: Floats, y: Floats, w: Floats, *, name: str, with_intercept: bool) -> Line:
    """Maximum likelihood over slope > 0, without regularisation.

    Two cases have no maximum, and are warned of (`CalibrationWarning`):

    - Rows that the logit separates perfectly would take an infinite slope. They are fitted to Platt's (1999)
      smoothed targets (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2) instead of 1 and 0.
    - Where the best slope is not above 0, higher logits do not mean more positives. The slope is held at
      the least one that keeps the order.
    """
    # Centred and scaled, so that neither large nor far-off logits cost precision; scaled twice, as
    # squares of the largest floats overflow.
    largest = float(np.abs(z).max()) or 1.0
    unit = z / largest
    centre = float(np.average(unit, weights=w)) if with_intercept else 0.0
    spread = float(np.sqrt(np.average((unit - centre) ** 2, weights=w)))
    constant = spread <= 1e-12
    if constant and with_intercept:
        # One logit for all rows tells nothing of the slope: shift it to the base rate.
        rate = float(np.average(y, weights=w))
        return Line(1.0, float(np.log(rate / (1 - rate)) - np.average(z, weights=w)))
    if constant:
        return Line(1.0, 0.0)
    x = (unit - centre) / spread
    target = y
    if _separated(x, y, with_intercept):
        warnings.warn(
            f"{name}: the logit separates the {len(y):,} rows perfectly, so the best slope is infinite; "
            "fitted to Platt's smoothed targets instead",
            CalibrationWarning,
            stacklevel=4,
        )
        positives, negatives = float(w @ y), float(w @ (1 - y))
        target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.stack([x, np.ones_like(x)], axis=1) if with_intercept else x[:, None]
    beta = _newton(design, target, w, np.zeros(len(x)))
    if beta[0] < LEAST_SLOPE:
        warnings.warn(
            f"{name}: higher logits do not go with more positives (fitted slope "
            f"{beta[0] / spread / largest:.3g}); to keep the order, the slope is held just above 0",
            CalibrationWarning,
            stacklevel=4,
        )
        rest = _newton(design[:, 1:], target, w, LEAST_SLOPE * x)
        beta = np.concatenate([[LEAST_SLOPE], rest])
    slope = float(beta[0]) / spread
    intercept = float(beta[1]) - slope * centre if with_intercept else 0.0
    return Line(slope / largest, intercept)


def line_probabilities(line: Line, z: Floats) -> Floats:
    """σ(slope · z + intercept); beyond the largest float it is 0 or 1."""
    with np.errstate(over="ignore"):
        return sigmoid(line.slope * z + line.intercept)


def _separated(x: Floats, y: Floats, with_intercept: bool) -> bool:
    """If a threshold (0, without an intercept) has the positives on one side, negatives on the other."""
    positive, negative = x[y == 1], x[y == 0]
    if with_intercept:
        return bool(positive.min() >= negative.max() or positive.max() <= negative.min())
    signed = np.where(y == 1, x, -x)
    return bool((signed >= 0).all() or (signed <= 0).all())


def _newton(design: Floats, target: Floats, w: Floats, offset: Floats) -> Floats:
    """The β that minimises Σ w · (log(1 + e^z) - target · z) at z = design · β + offset.

    Newton's method with step halving: the loss is convex, so it converges from anywhere that the loss has
    a minimum. design: [N, K], K at most 2; the answer is [K].
    """
    beta = np.zeros(design.shape[1])
    if not beta.size:
        return beta

    def loss(at: Floats) -> float:
        z = design @ at + offset
        return float(w @ (np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z))) - target * z))

    current = loss(beta)
    for _ in range(100):
        p = sigmoid(design @ beta + offset)
        gradient = design.T @ (w * (p - target))
        hessian = design.T @ (design * (w * p * (1 - p))[:, None])
        # A touch on the diagonal where all probabilities are saturated; it does not move the minimum.
        hessian[np.diag_indices_from(hessian)] += 1e-12 * w.sum()
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (tried := loss(beta - size * step)) > current and size > 1e-10:
            size /= 2
        decrement = float(gradient @ step)
        if tried <= current:
            beta, current = beta - size * step, tried
        # Twice the loss that was still to gain; as convergence is quadratic, the step just taken squared it.
        if decrement <= 1e-12 * max(1.0, current):
            break
    return beta
