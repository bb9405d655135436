"""Calibration metrics: ECE, MCE, ACE, PCOC, and the numbers of the reliability diagram.

Rows are binned by predicted probability. Bins of equal mass (the default) hold equally many rows, so no bin
is noisy because it is nearly empty; bins of equal width are the classical choice. Rows of equal probability
share a bin, so the order of rows never matters. `smooth.py` has metrics without bins, `fields.py` metrics by
the values of a field.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats, Indices, Integers
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.metrics.checks import dense_rank, held_rows, need_confidence, probability_rows

Strategy: TypeAlias = Literal["mass", "width"]


def ece(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    strategy: Strategy = "mass",
    weight: ArrayLike | None = None,
) -> float:
    """Expected calibration error, L1: Σ_b share_b · |mean p_b - mean y_b| (Naeini et al. 2015).

    The noise of each bin's mean label makes it larger than 0 even for the true probabilities: compare a small
    value with `debiased_ece`.

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        bins: the number of bins.
        strategy: `mass` for bins of equal mass, `width` for bins of equal width.
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        DataError: bad values.
        ConfigError: a bad number of bins or an unknown strategy.
    """
    share, gap = _bin_gaps(labels, probabilities, weight, bins, strategy)
    return float(share @ np.abs(gap))


def mce(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    strategy: Strategy = "mass",
    weight: ArrayLike | None = None,
) -> float:
    """Maximum calibration error: the largest |mean p_b - mean y_b| of any bin (Naeini et al. 2015).

    It is the noisiest calibration error, because one bin decides. Arguments and errors are those of `ece`.
    """
    return float(np.abs(_bin_gaps(labels, probabilities, weight, bins, strategy)[1]).max())


def ace(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    strategy: Strategy = "mass",
    weight: ArrayLike | None = None,
) -> float:
    """Adaptive calibration error: the plain mean of |mean p_b - mean y_b| over the bins that hold rows.

    Source: Nixon et al. 2019, "Measuring Calibration in Deep Learning", section 3.2, for the positive class.
    In bins of equal mass it differs from `ece` only if ties make bins unequal. In bins of equal width a
    nearly empty bin counts as much as a full one. Arguments and errors are those of `ece`.
    """
    return float(np.abs(_bin_gaps(labels, probabilities, weight, bins, strategy)[1]).mean())


def pcoc(labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Predicted clicks over observed clicks (PCOC): mean p / mean y. Above 1 means over-prediction.

    He et al. 2014 (section 3) call it "calibration": average estimated CTR over empirical CTR. A bid that is
    linear in p is too high by this factor.

    Raises:
        DataError: bad values, or no positive row has weight.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    need_positives(float(w @ y))
    return float(w @ p / (w @ y))


def need_positives(positives: float) -> None:
    """Raise a DataError if there is no positive row to divide by."""
    if positives <= 0:
        raise DataError("PCOC needs at least one positive row", argument="labels", hint="Give more rows")


class GapCovariance(NamedTuple):
    """The gaps between predicted and observed by bin, for the debiased ECE.

    Attributes:
        share: the bin's share of the weight, [B].
        gap: mean p - mean y of the bin, [B].
        covariance: the sampling covariance of the gaps, [B, B].
    """

    share: Floats
    gap: Floats
    covariance: Floats


def debiased_ece(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    strategy: Strategy = "mass",
    groups: ArrayLike | None = None,
    weight: ArrayLike | None = None,
) -> float:
    """Debiased calibration error, L2: sqrt(max(0, Σ_b share_b · (gap_b² - variance of gap_b))).

    Unlike `ece` it is about 0 for true probabilities, for any number of rows (Bröcker 2012; Ferro & Fricker
    2012; Kumar, Liang & Ma 2019). The variance of a bin's gap is estimated from its rows. With `groups` it is
    estimated from the sums of each group's rows, so that rows of one group may be dependent. A bin of a
    single row (or group) has no variance and is left out.

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        bins: the number of bins.
        strategy: `mass` for bins of equal mass, `width` for bins of equal width.
        groups: the group of each row, usually its user, [N].
        weight: the weight of each row, [N]. A row of weight c counts as c rows in the means, and as one
            independent row in the variance.

    Raises:
        DataError: bad values, or no bin with two rows.
        ConfigError: a bad number of bins or an unknown strategy.
    """
    share, gap, covariance = gap_covariance(labels, probabilities, bins, strategy, groups, weight)
    return float(np.sqrt(max(0.0, share @ (np.square(gap) - np.diag(covariance)))))


def gap_covariance(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    strategy: Strategy = "mass",
    groups: ArrayLike | None = None,
    weight: ArrayLike | None = None,
) -> GapCovariance:
    """Gaps between predicted and observed by bin, and their sampling covariance."""
    held = held_rows(probability_rows(labels, probabilities, weight), groups)
    y, p, w = held.labels, held.values, held.weight
    index = bin_index(p, w, bins, strategy)
    mass = np.bincount(index, w, minlength=bins)
    divisor = np.where(mass > 0, mass, 1.0)
    gap = np.bincount(index, w * (p - y), minlength=bins) / divisor
    residual = w * (p - y - gap[index]) / divisor[index]
    if groups is None:
        clusters = np.bincount(index, minlength=bins)  # every row is a cluster of its own
        covariance = np.diag(np.bincount(index, residual**2, minlength=bins))
    else:
        cell = held.unit * bins + index
        sums = np.bincount(cell, residual, minlength=held.units * bins).reshape(held.units, bins)
        rows = np.bincount(cell, minlength=held.units * bins).reshape(held.units, bins)
        clusters = np.count_nonzero(rows, axis=0)
        covariance = sums.T @ sums
    kept = clusters > 1
    if not kept.any():
        raise DataError("no bin holds two independent rows", hint="Use fewer bins, or give more rows")
    correction = np.sqrt(clusters[kept] / (clusters[kept] - 1.0))
    covariance = covariance[np.ix_(kept, kept)] * np.outer(correction, correction)
    return GapCovariance(mass[kept] / mass[kept].sum(), gap[kept], covariance)


@dataclass(frozen=True)
class Reliability:
    """The points of a reliability diagram, one per bin that holds rows, by rising prediction.

    Attributes:
        predicted: mean predicted probability of the bin, [B].
        observed: share of positives in the bin, [B].
        count: number of rows of the bin, int [B].
        low: lower end of the interval of `observed`, [B].
        high: upper end of the interval of `observed`, [B].
    """

    predicted: Floats
    observed: Floats
    count: Integers
    low: Floats
    high: Floats


def reliability(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    strategy: Strategy = "mass",
    confidence: float = 0.95,
    groups: ArrayLike | None = None,
    weight: ArrayLike | None = None,
) -> Reliability:
    """Predicted against observed by bin, with the Wilson (1927) score interval of the observed share.

    The interval uses an effective number of rows: as many independent rows as would give the variance of the
    observed share, which is a weighted mean (Korn & Graubard 1998). A bin with one class only has no
    variance; it counts as the effective number of its groups (or rows).

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        bins: the number of bins.
        strategy: `mass` for bins of equal mass, `width` for bins of equal width.
        confidence: confidence level of the intervals.
        groups: the group of each row, [N]; rows of one group (a user's) are not independent. The variance is
            then the clustered one, and at least that of independent rows.
        weight: the weight of each row, [N]. A row of weight 2 counts as two rows in the shares, and as one
            independent row in the intervals.

    Raises:
        DataError: bad values.
        ConfigError: a bad number of bins or an unknown strategy.
    """
    need_confidence(confidence)
    held = held_rows(probability_rows(labels, probabilities, weight), groups)
    y, p, w = held.labels, held.values, held.weight
    index = bin_index(p, w, bins, strategy)
    mass = np.bincount(index, w, minlength=bins)
    filled = mass > 0
    divisor = np.where(filled, mass, 1.0)
    observed = np.bincount(index, w * y, minlength=bins) / divisor
    residual = w * (y - observed[index]) / divisor[index]
    variance = np.bincount(index, residual**2, minlength=bins)
    # Weights of each bin's units, from which a bin of one class counts them.
    cell, of_bin = np.unique(held.unit * bins + index, return_inverse=True)
    bin_of = cell % bins
    if groups is not None:
        clustered = np.bincount(bin_of, np.square(np.bincount(of_bin, residual)), minlength=bins)
        variance = np.maximum(variance, clustered)
    share = np.bincount(of_bin, w / divisor[index])
    independent = 1 / np.maximum(np.bincount(bin_of, share**2, minlength=bins), 1e-300)
    varies = (np.bincount(bin_of, minlength=bins) > 1) & (observed > 0) & (observed < 1)
    np.divide(observed * (1 - observed), variance, out=independent, where=varies)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (observed + z**2 / (2 * independent)) / (1 + z**2 / independent)
    spread = observed * (1 - observed) / independent
    half = z / (1 + z**2 / independent) * np.sqrt(spread + (z / independent / 2) ** 2)
    low, high = np.minimum(centre - half, observed), np.maximum(centre + half, observed)
    predicted = np.bincount(index, w * p, minlength=bins) / divisor
    low, high = np.maximum(low, 0)[filled], np.minimum(high, 1)[filled]
    count = np.bincount(index, minlength=bins)
    return Reliability(predicted[filled], observed[filled], count[filled], low, high)


def bin_index(p: Floats, w: Floats, bins: int, strategy: Strategy) -> Indices:
    """The bin of each row, int [N] in 0..bins-1; equal probabilities share a bin.

    In bins of equal mass, a run of equal probabilities goes into the bin that holds the middle of its mass.
    """
    if bins < 1:
        raise ConfigError(f"bins must be at least 1, and {bins} was given")
    if strategy == "width":
        return np.minimum((p * bins).astype(np.intp), bins - 1)
    if strategy != "mass":
        raise ConfigError(f"unknown binning strategy '{strategy}'", hint=nearest(strategy, ("mass", "width")))
    if (w == 1).all():
        # Sorting values costs a third of sorting row numbers, and is enough to find a few edges.
        return np.searchsorted(_edges_of_equal_mass(np.sort(p), bins), p, side="right")
    distinct = dense_rank(p)
    mass = np.bincount(distinct, w)
    middle = np.cumsum(mass) - mass / 2
    of_distinct: Indices = np.minimum((middle * bins / mass.sum()).astype(np.intp), bins - 1)
    return of_distinct[distinct]


def _edges_of_equal_mass(p: Floats, bins: int) -> Floats:
    """The smallest probability of each bin but the first, [bins - 1], from sorted probabilities.

    A row's bin is the number of edges that its probability reaches.
    """
    edges = np.full(bins - 1, np.inf)
    for bin_ in range(1, bins):
        # The first run whose middle reaches the bin is the one that holds this row, or soon after it.
        near = max(bin_ * len(p) // bins - 1, 0)
        start = int(np.searchsorted(p, p[near], side="left"))
        while start < len(p):
            end = int(np.searchsorted(p, p[start], side="right"))
            if int((start + end) / 2 * bins / len(p)) >= bin_:
                edges[bin_ - 1] = p[start]
                break
            start = end
    return edges


def _bin_gaps(
    labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None, bins: int, strategy: Strategy
) -> tuple[Floats, Floats]:
    """Share of the weight and mean p - mean y of each bin that has weight."""
    y, p, w = probability_rows(labels, probabilities, weight)
    index = bin_index(p, w, bins, strategy)
    mass = np.bincount(index, w, minlength=bins)
    difference = np.bincount(index, w * (p - y), minlength=bins)
    held = mass > 0
    return mass[held] / mass.sum(), difference[held] / mass[held]
