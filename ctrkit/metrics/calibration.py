"""Whether predicted probabilities come true: ECE, MCE, ACE, PCOC, and the reliability diagram's numbers.

Rows are binned by predicted probability. Bins of equal mass (the default) hold equally many rows, so none
is noisy for being empty; bins of equal width are the classical choice. Rows of equal probability always
share a bin, so the order of rows never matters. Measures without bins are in `smooth.py`, those by the
values of a field in `fields.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.metrics.checks import Floats, Indices, dense_rank, group_codes, need_confidence, probability_rows

Strategy: TypeAlias = Literal["mass", "width"]


def ece(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    strategy: Strategy = "mass",
    weight: ArrayLike | None = None,
) -> float:
    """Expected calibration error, L1: Σ_b share_b · |mean p_b - mean y_b| (Naeini et al. 2015).

    It is above 0 even for the true probabilities, by the noise of each bin's mean label: compare it with
    `debiased_ece` before reading much into a small value.

    Raises:
        DataError: bad values. ConfigError: a bad number of bins or an unknown strategy.
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

    The noisiest of the family, as one bin decides; raises as `ece` does.
    """
    return float(np.abs(_bin_gaps(labels, probabilities, weight, bins, strategy)[1]).max())


def ace(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    strategy: Strategy = "mass",
    weight: ArrayLike | None = None,
) -> float:
    """Adaptive calibration error: the plain mean of |mean p_b - mean y_b| over the bins that hold rows
    (Nixon et al. 2019, "Measuring Calibration in Deep Learning", section 3.2, of the positive class).

    In bins of equal mass it differs from `ece` only where ties make bins unequal; in bins of equal width a
    nearly empty bin counts as much as a full one. Raises as `ece` does.
    """
    return float(np.abs(_bin_gaps(labels, probabilities, weight, bins, strategy)[1]).mean())


def pcoc(labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Predicted click over click: mean predicted over mean observed; above 1 is over-prediction.

    The "calibration" of He et al. 2014 (section 3): average estimated over empirical CTR. A bid that is
    linear in p is too high by this factor.

    Raises:
        DataError: bad values, or no positive row has weight.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    need_positives(float(w @ y))
    return float(w @ p / (w @ y))


def need_positives(positives: float) -> None:
    """Raise a DataError where there is nothing observed to divide by."""
    if positives <= 0:
        raise DataError("PCOC needs at least one positive row", column="labels", mend="Give more rows")


class GapCovariance(NamedTuple):
    """What the debiased ECE rests on: of each bin its share of rows, [B], and its gap mean p - mean y,
    [B], with the covariance of the gaps, [B, B]."""

    share: Floats
    gap: Floats
    covariance: Floats


def debiased_ece(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    strategy: Strategy = "mass",
    groups: ArrayLike | None = None,
) -> float:
    """Debiased calibration error, L2: sqrt(max(0, Σ_b share_b · (gap_b² - variance of gap_b))).

    Each bin's squared gap exceeds the truth's by the sampling variance of the gap, which is estimated and
    taken off, so that true probabilities give about 0 (Bröcker 2012; Ferro & Fricker 2012; Kumar, Liang &
    Ma 2019, section 4). The variance is s²/n of the bin's residuals p - y; where a bin's predictions are
    equal this is Kumar's ȳ(1 - ȳ)/(n - 1). As a root mean square gap it is on the scale of ECE or above.

    Args:
        groups: rows of one group (a user's) are not independent; given, the variance is the clustered one.

    A bin of a single row (or group) has no variance and is left out. No weights: the noise depends on how
    many independent rows there are, which weights do not tell.

    Raises:
        DataError: bad values, or no bin with two rows. ConfigError: bad number of bins, unknown strategy.
    """
    share, gap, covariance = gap_covariance(labels, probabilities, bins, strategy, groups)
    return float(np.sqrt(max(0.0, share @ (np.square(gap) - np.diag(covariance)))))


def gap_covariance(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    strategy: Strategy = "mass",
    groups: ArrayLike | None = None,
) -> GapCovariance:
    """Gaps between predicted and observed by bin, and their sampling covariance."""
    y, p, w = probability_rows(labels, probabilities)
    index = bin_index(p, w, bins, strategy)
    rows = np.bincount(index, minlength=bins)
    gap = np.bincount(index, p - y, minlength=bins) / np.maximum(rows, 1)
    residual = (p - y - gap[index]) / rows[index]
    if groups is None:
        clusters = rows  # every row is its own
        covariance = np.diag(np.bincount(index, residual**2, minlength=bins))
    else:
        group, number = group_codes(groups, len(y))
        cell = group * bins + index
        sums = np.bincount(cell, residual, minlength=number * bins).reshape(number, bins)
        clusters = np.count_nonzero(np.bincount(cell, minlength=number * bins).reshape(number, bins), axis=0)
        covariance = sums.T @ sums
    kept = clusters > 1
    if not kept.any():
        raise DataError("no bin holds two independent rows", mend="Use fewer bins, or give more rows")
    correction = np.sqrt(clusters[kept] / (clusters[kept] - 1.0))
    covariance = covariance[np.ix_(kept, kept)] * np.outer(correction, correction)
    return GapCovariance(rows[kept] / rows[kept].sum(), gap[kept], covariance)


@dataclass(frozen=True)
class Reliability:
    """The points of a reliability diagram, one a bin that holds rows, by rising prediction.

    Attributes:
        predicted: mean predicted probability, [B].
        observed: share of positives, [B].
        count: rows, int [B].
        low, high: interval of `observed`, [B].
    """

    predicted: Floats
    observed: Floats
    count: NDArray[np.int64]
    low: Floats
    high: Floats


def reliability(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    strategy: Strategy = "mass",
    confidence: float = 0.95,
    groups: ArrayLike | None = None,
) -> Reliability:
    """Predicted against observed by bin, with the Wilson (1927) score interval of the observed share.

    Args:
        groups: rows of one group (a user's) are not independent; given, each bin counts as so many
            independent rows as would have its clustered variance, and never more than it has (Korn &
            Graubard 1998).

    Raises:
        DataError: bad values. ConfigError: a bad number of bins or an unknown strategy.
    """
    need_confidence(confidence)
    y, p, w = probability_rows(labels, probabilities)
    index = bin_index(p, w, bins, strategy)
    count = np.bincount(index, minlength=bins)
    rows = np.maximum(count, 1)
    observed = np.bincount(index, y, minlength=bins) / rows
    variance = observed * (1 - observed) / rows
    independent = rows.astype(np.float64)
    if groups is not None:
        group, number = group_codes(groups, len(y))
        cell = group * bins + index
        sums = np.bincount(cell, (y - observed[index]) / rows[index], minlength=number * bins)
        clustered = np.square(sums.reshape(number, bins)).sum(axis=0) * number / max(number - 1, 1)
        np.divide(independent * variance, clustered, out=independent, where=clustered > variance)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (observed + z**2 / (2 * independent)) / (1 + z**2 / independent)
    half = z / (1 + z**2 / independent) * np.sqrt(variance * rows / independent + (z / independent / 2) ** 2)
    low, high = np.minimum(centre - half, observed), np.maximum(centre + half, observed)
    predicted = np.bincount(index, p, minlength=bins) / rows
    held = count > 0
    low, high = np.maximum(low, 0)[held], np.minimum(high, 1)[held]
    return Reliability(predicted[held], observed[held], count[held], low, high)


def bin_index(p: Floats, w: Floats, bins: int, strategy: Strategy) -> Indices:
    """The bin of each row, int [N] in 0..bins-1; equal probabilities share a bin.

    In bins of equal mass, a run of equal probabilities goes where the middle of its mass lies.
    """
    if bins < 1:
        raise ConfigError(f"bins must be at least 1, and {bins} was given")
    if strategy == "width":
        return np.minimum((p * bins).astype(np.intp), bins - 1)
    if strategy != "mass":
        raise ConfigError(f"unknown binning strategy '{strategy}'", mend=nearest(strategy, ("mass", "width")))
    if (w == 1).all():
        # Sorting values costs a third of sorting row numbers, and a few edges need no more.
        return np.searchsorted(_edges_of_equal_mass(np.sort(p), bins), p, side="right")
    distinct = dense_rank(p)
    mass = np.bincount(distinct, w)
    middle = np.cumsum(mass) - mass / 2
    of_distinct: Indices = np.minimum((middle * bins / mass.sum()).astype(np.intp), bins - 1)
    return of_distinct[distinct]


def _edges_of_equal_mass(p: Floats, bins: int) -> Floats:
    """The smallest probability of each bin but the first, from sorted ones: a row's bin is how many of
    them it reaches. [bins - 1]"""
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
