"""Field-aware calibration: a correction for each segment, as large as its rows can support."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ctrkit.arrays import Floats, Indices, Integers
from ctrkit.calibration.base import (
    LARGEST_SEGMENT,
    Calibrator,
    CalibratorState,
    SegmentIds,
    positive_scalar,
    sigmoid,
)
from ctrkit.calibration.kernels import sum_by_segment
from ctrkit.calibration.logistic import LEAST_SLOPE, LogisticLine, fit_line, moments

# Segments whose log-odds differ by less than this (standard deviation) count as equal.
LEAST_SPREAD = 1e-4
PASSES = 100


class SegmentShrinkage(NamedTuple):
    """The estimates of S segments, in units of the global log-odds.

    Attributes:
        shift: the addition to the log-odds of each segment, [S].
        tilt: the addition to the slope of each segment, per standard deviation of the log-odds, [S].
        spread: standard deviation over segments of the shifts and of the tilts, [2].
    """

    shift: Floats
    tilt: Floats
    spread: Floats


class FieldAware(Calibrator):
    """Platt scaling with a shift for each segment, shrunk to 0 by an empirical-Bayes weight.

    One curve for all rows can be right on average and wrong for every advertiser. Here the log-odds of a row
    of segment s are t + δ_s. t is the log-odds of the global line (Platt scaling on all rows), and
    δ_s ~ N(0, τ²) over segments. δ_s is set to its posterior mode,

        δ_s = weight_s · m_s,   weight_s = I_s / (I_s + 1/τ²),

    where I_s = Σ w p (1 - p) is the information in the segment's rows, and m_s = δ_s + Σ w (y - p) / I_s is
    their own estimate. τ² maximises the marginal likelihood, with a normal approximation of each segment's
    likelihood at its mode (penalised quasi-likelihood: Stiratelli, Laird & Ware 1984; Breslow & Clayton
    1993). It is found by the fixed point τ² = Σ δ_s² / Σ weight_s (MacKay 1992). So a segment with few rows,
    or without positives, stays close to the global line, and if segments do not differ, none moves. With few
    positives in each segment the approximation makes τ² somewhat too small, and so shrinks too much.

    With `lines`, each segment has its own slope too, shrunk in the same way with its own variance. Segments
    not seen in the fit get the global line. The order is kept within a segment; it may change between
    segments.

    Args:
        lines: whether each segment has its own slope.

    Attributes:
        line: the fitted global line.
        segments: the numbers of the segments, rising, [S].
        slopes: the slope of each segment, [S].
        intercepts: the intercept of each segment, [S].
        spread: τ of the shifts, and of the slopes' change in log-odds per standard deviation, [2].
    """

    name = "field-aware"
    minimum_positives = 50
    uses_segments = True
    line: LogisticLine
    segments: Floats
    slopes: Floats
    intercepts: Floats
    spread: Floats

    def __init__(self, lines: bool = False) -> None:
        self.lines = lines

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        assert segments is not None  # `uses_segments` is set
        line = fit_line(logits, labels, weight, name=self.name, with_intercept=True)
        numbers, codes = _numbered(segments)
        t = line.slope * logits + line.intercept
        middle, width = moments(t, weight)
        if width <= 1e-12 * max(1.0, abs(middle)):
            width = 1.0
        found = _estimate(t, labels, weight, codes, len(numbers), (middle, width), self.lines)
        factor = np.maximum(1 + found.tilt / width, LEAST_SLOPE)
        self.line, self.segments, self.spread = line, numbers.astype(np.float64), found.spread
        self.slopes = line.slope * factor
        # Log-odds of segment s are t + shift + tilt · (t - middle) / width.
        self.intercepts = factor * line.intercept + found.shift + (1 - factor) * middle

    def _probabilities(self, logits: Floats, segments: SegmentIds) -> Floats:
        assert segments is not None
        index = np.minimum(np.searchsorted(self.segments, segments), len(self.segments) - 1)
        known = self.segments[index] == segments
        slope = np.where(known, self.slopes[index], self.line.slope)
        with np.errstate(over="ignore"):
            return sigmoid(slope * logits + np.where(known, self.intercepts[index], self.line.intercept))

    def _state(self) -> CalibratorState:
        arrays = {name: getattr(self, name) for name in ("segments", "slopes", "intercepts", "spread")}
        return {"slope": self.line.slope, "intercept": self.line.intercept, **arrays}

    def _load(self, state: Mapping[str, Floats]) -> None:
        line = LogisticLine(positive_scalar(state, "slope"), float(state["intercept"]))
        segments, slopes, intercepts = state["segments"], state["slopes"], state["intercepts"]
        if not np.isfinite(line.intercept):
            raise ValueError(f"intercept = {line.intercept}")
        if segments.ndim != 1 or not segments.size or not segments.shape == slopes.shape == intercepts.shape:
            raise ValueError("segments, slopes and intercepts are not of one length")
        if not ((np.diff(segments) > 0).all() and (np.abs(segments) <= LARGEST_SEGMENT).all()):
            raise ValueError("the segments do not rise")
        if not ((slopes > 0) & np.isfinite(slopes) & np.isfinite(intercepts)).all():
            raise ValueError("a segment's line does not rise")
        spread = state["spread"]
        if spread.shape != (2,) or not (spread >= 0).all():
            raise ValueError("the spread is not two numbers of at least 0")
        self.line, self.segments, self.slopes, self.intercepts = line, segments, slopes, intercepts
        self.spread, self.lines = spread, bool(spread[1] > 0)


def _numbered(segments: Integers) -> tuple[Integers, Indices]:
    """The distinct segments, rising, [S], and the index of each row's segment, [N]."""
    low, high = int(segments.min()), int(segments.max())
    if high - low >= 4 * len(segments) + 1000:
        numbers, codes = np.unique(segments, return_inverse=True)
        return numbers, codes
    # The numbers are close together: filling a table is faster than sorting rows.
    there = np.zeros(high - low + 1, dtype=bool)
    there[segments - low] = True
    return np.flatnonzero(there) + low, (np.cumsum(there) - 1)[segments - low]


def _estimate(
    t: Floats, y: Floats, w: Floats, codes: Indices, count: int, frame: tuple[float, float], lines: bool
) -> SegmentShrinkage:
    """Posterior modes of the S segments and the spread of the prior, updated in turn until both converge."""
    places = codes.astype(np.int64, copy=False)
    shift, tilt = np.zeros(count), np.zeros(count)
    variance = np.array([0.1, 0.1 if lines else 0.0])
    for _ in range(PASSES):
        found = np.zeros((count, 5))
        sum_by_segment(t, y, w, places, shift, tilt, *frame, found)
        # Normal approximation of each segment's likelihood: precision I = [[a, b], [b, c]], and I · estimate.
        a, b, c = found[:, 2], found[:, 3], found[:, 4]
        u, v = found[:, 0] + a * shift + b * tilt, found[:, 1] + b * shift + c * tilt
        if not lines:
            b, c, v = np.zeros(count), np.zeros(count), np.zeros(count)
        variance = _spread(a, b, c, u, v, variance)
        new_shift, new_tilt, _, _ = _posterior(a, b, c, u, v, variance)
        # The approximation is poor for a distant segment: log-odds change by at most 1 at a time.
        step = np.maximum(np.hypot(new_shift - shift, new_tilt - tilt), 1.0)
        new_shift, new_tilt = shift + (new_shift - shift) / step, tilt + (new_tilt - tilt) / step
        moved = max(float(np.abs(new_shift - shift).max()), float(np.abs(new_tilt - tilt).max()))
        shift, tilt = new_shift, new_tilt
        if moved < 1e-10:
            break
    return SegmentShrinkage(shift, tilt, np.sqrt(variance))


def _posterior(
    a: Floats, b: Floats, c: Floats, u: Floats, v: Floats, variance: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean and variance of shift and tilt of each segment: precision [[a, b], [b, c]] and the prior's."""
    first = a + 1 / variance[0]
    if variance[1] == 0:
        zero = np.zeros_like(a)
        return u / first, zero, 1 / first, zero
    second = c + 1 / variance[1]
    determinant = first * second - b * b
    shift, tilt = (second * u - b * v) / determinant, (first * v - b * u) / determinant
    return shift, tilt, second / determinant, first / determinant


def _spread(a: Floats, b: Floats, c: Floats, u: Floats, v: Floats, variance: Floats) -> Floats:
    """Prior variances that maximise the marginal likelihood: Σ mode² / Σ (1 - posterior / prior variance)."""
    for _ in range(200):
        shift, tilt, of_shift, of_tilt = _posterior(a, b, c, u, v, variance)
        effective = max(float(np.sum(1 - of_shift / variance[0])), 1e-12)
        new = np.array([max(float(shift @ shift) / effective, LEAST_SPREAD**2), 0.0])
        if variance[1] > 0:
            effective = max(float(np.sum(1 - of_tilt / variance[1])), 1e-12)
            new[1] = max(float(tilt @ tilt) / effective, LEAST_SPREAD**2)
        settled = (np.abs(new - variance) <= 1e-12 * variance).all()
        variance = new
        if settled:
            break
    return variance
