"""Confidence intervals from moments: empirical likelihood for bounded rewards, normal for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from ctrkit.arrays import Floats
from ctrkit.ope.intervals.moments import ONE, WEIGHT, Moments


@dataclass(frozen=True)
class ConfidenceInterval:
    """A confidence interval and the name of its method.

    Attributes:
        low: lower end.
        high: upper end.
        method: name of the method, as in reports.
        missed: whether the interval did not contain the estimate, by more than rounding (see `around`).
    """

    low: float
    high: float
    method: str
    missed: bool = False


def around(value: float, interval: ConfidenceInterval) -> ConfidenceInterval:
    """The interval, widened to contain the estimate.

    An interval can miss the estimate by rounding. It misses it by more where an assumption does not hold in
    these rows, such as weights of mean 1 or rewards within their range; then `missed` is True. For inverse
    propensity scoring this also happens by chance, because Cressie-Read's interval uses the weights' mean and
    the estimate does not. For estimators that use the weights' mean, or are normalised, it did not happen in
    any valid log that was tried (`benchmarks/ope_thinned.py`).
    """
    low, high = interval.low, interval.high
    if np.isnan([low, high, value]).any():
        return interval
    rounding = 1e-9 * max(abs(value), *(abs(end) for end in (low, high) if np.isfinite(end)), 0.0)
    rounding = max(rounding, 1e-6 * (high - low) if np.isfinite(high - low) else 0.0)
    missed = interval.missed or not low - rounding <= value <= high + rounding
    return replace(interval, low=min(low, value), high=max(high, value), missed=missed)


def independent_difference(
    value: float,
    interval: ConfidenceInterval,
    other: float,
    of_other: ConfidenceInterval,
    paired: ConfidenceInterval,
) -> ConfidenceInterval:
    """The interval of a difference of two values as if they came from independent logs, if it is wider.

    Newcombe, Interval Estimation for the Difference between Independent Proportions, Statistics in Medicine
    17, 1998, method 10: the squares of the two distances to the ends add up. It is needed where propensities
    were estimated from the same rows: weights and rewards then agree too well, and the spread of
    weight · reward - reward is far smaller than the error of its mean.

    Args:
        value: the first value.
        interval: the interval of the first value.
        other: the second value, which is subtracted.
        of_other: the interval of the second value.
        paired: the interval from the differences row by row; it has width 0 where they are all 0.
    """
    if paired.high == paired.low:
        return paired
    down = np.hypot(value - interval.low, of_other.high - other)
    up = np.hypot(interval.high - value, other - of_other.low)
    low, high = value - other - down, value - other + up
    return replace(paired, low=float(min(paired.low, low)), high=float(max(paired.high, high)))


def normal(value: float, moments: Moments, direction: Floats, confidence: float) -> ConfidenceInterval:
    """value ± quantile · standard error of the mean of direction · z; infinite for a single group.

    The interval is too short where the weighted reward is skewed, as at the click rates of ads.
    """
    if not moments.degrees:
        return ConfidenceInterval(-np.inf, np.inf, "normal")
    # Student's t where rows are clustered, because there may be few units.
    few = moments.degrees < moments.count
    tail = (1 - confidence) / 2
    quantile = float(stats.t.isf(tail, moments.degrees) if few else stats.norm.isf(tail))
    reach = quantile * moments.standard_error(direction)
    return ConfidenceInterval(value - reach, value + reach, "normal")


@dataclass(frozen=True)
class Unseen:
    """A row that the log could have had but did not.

    Attributes:
        weight: its importance weight.
        low: its smallest possible term.
        high: its largest possible term.
    """

    weight: float
    low: float
    high: float


def cressie_read(
    moments: Moments, direction: Floats, unseen: Sequence[Unseen], confidence: float
) -> ConfidenceInterval:
    """Empirical-likelihood interval for the mean of g = direction · z, knowing that weights have mean 1.

    Karampatziakis, Langford and Mineiro, Empirical Likelihood for Contextual Bandits, NeurIPS 2020. Take all
    distributions Q over the rows and one unseen row with E_Q[w] = 1, whose distance from the sample is at
    most that of the nearest such Q plus a quantile of F(1, n). The ends are the lowest and the highest
    E_Q[g]. With the Cressie-Read divergence of power -2, Σ (m q_i - 1)² over m = n + 1 rows, they have a
    closed form in the moments of (w, g). The unseen row keeps the interval wide when clicks, or large
    weights, are too rare to be in the log.

    Args:
        moments: sums over the rows.
        direction: [4] the coefficients of g = direction · z.
        unseen: rows that could be missing, with the smallest and the largest weight.
        confidence: confidence level of the two-sided interval, such as 0.95.
    """
    projection = np.stack([ONE, WEIGHT, direction])
    gram = projection @ moments.rows @ projection.T
    if not moments.degrees:
        return ConfidenceInterval(-np.inf, np.inf, "cressie-read")
    critical = float(stats.f.isf(1 - confidence, 1, moments.degrees))
    # The bound depends on the residual of g after its regression on w.
    slope = _regression(gram)[2]
    # Clustered rows count as fewer rows; and an unseen row would come with as many others of its unit.
    effect = moments.design_effect(direction - slope * WEIGHT)
    critical *= effect
    mirror = np.diag([1.0, 1.0, -1.0])
    lows = [(row.weight, row.low) for row in unseen]
    highs = [(row.weight, -row.high) for row in unseen]
    low = _lowest_mean(gram, lows, critical, effect)
    high = 0.0 - _lowest_mean(mirror @ gram @ mirror, highs, critical, effect)  # never -0.0
    return ConfidenceInterval(low, high, "cressie-read")


def _lowest_mean(
    gram: Floats, unseen: Sequence[tuple[float, float]], critical: float, rows_unseen: float
) -> float:
    """The lowest E_Q[g] over the unseen rows (w, g); each stands for `rows_unseen` rows.

    With u = m q - 1: minimise mean(g) + mean(u g) subject to mean(u) = 0, mean(u w) = 1 - mean(w) and
    m · mean(u²) <= radius. The constraint fixes the part of u along w, at the cost of `distance`. The rest of
    the radius goes along the residual of g on w. If all weights, with the unseen row, are equal and not 1,
    there is no Q; without any Q the mean is unbounded.
    """
    bounds = []
    for weight, term in unseen:
        row = np.array([1.0, weight, term])
        augmented = gram + rows_unseen * np.outer(row, row)
        count, mean_weight = augmented[0, 0], augmented[0, 1] / augmented[0, 0]
        mean_term, weight_variance, slope, residual_variance = _regression(augmented)
        missing = 1 - mean_weight
        if weight_variance > 0:
            distance = count * missing**2 / weight_variance
        elif abs(missing) <= 1e-9:
            distance = 0.0
        else:
            continue
        bounds.append((distance, mean_term + slope * missing, residual_variance / count))
    if not bounds:
        return -np.inf
    radius = min(distance for distance, _, _ in bounds) + critical
    lowest = min(
        centre - np.sqrt(spread * (radius - distance))
        for distance, centre, spread in bounds
        if distance <= radius
    )
    return float(lowest)


def _regression(gram: Floats) -> tuple[float, float, float, float]:
    """Mean of g, variance of w, slope of g on w and residual variance, from Σ of (1, w, g)(1, w, g)ᵀ."""
    second = gram / gram[0, 0]
    (variance, covariance), (_, spread) = second[1:, 1:] - np.outer(second[0, 1:], second[0, 1:])
    if variance <= 1e-12 * second[1, 1]:  # equal weights: what is left is rounding error
        return float(second[0, 2]), 0.0, 0.0, max(float(spread), 0.0)
    slope = covariance / variance
    return float(second[0, 2]), float(variance), float(slope), max(float(spread - slope * covariance), 0.0)
