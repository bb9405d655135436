"""Rows in bins of about equal weight."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.calibration.kernels import sum_by_bin

# With more rows than this, the edges come from a random sample of this size. With 2,000 bins the weight of a
# bin then varies by an eighth (standard deviation), and a sort of all rows is saved.
SAMPLE = 131_072


class Bins(NamedTuple):
    """Bins in rising order; every bin has rows.

    Attributes:
        edges: the highest logit of each bin but the last, [B - 1].
        mass: the weight of the rows of each bin, [B].
        positives: the weight of the positive rows of each bin, [B].
        means: the mean logit of each bin, rising, [B].
    """

    edges: Floats
    mass: Floats
    positives: Floats
    means: Floats


def bin_rows(z: Floats, y: Floats, w: Floats, bins: int) -> Bins:
    """Put rows in at most `bins` bins of about equal weight; rows of equal logit share a bin.

    Above 131,072 rows the edges come from a random sample of that size, drawn with a fixed seed.
    """
    edges = _edges(z, w, bins)
    found = np.zeros((len(edges) + 1, 3))
    sum_by_bin(z, y, w, edges, found)
    filled = found[:, 0] > 0  # no row need be above the last edge of a sample
    mass, positives, moment = np.ascontiguousarray(found[filled].T)
    lows = np.append(z.min(), np.nextafter(edges, np.inf))[filled]
    highs = np.append(edges, z.max())[filled]
    # The mean of equal numbers may differ from them in the last digit, and so be outside its bin.
    means = np.clip(moment / mass, lows, np.maximum(lows, highs))
    return Bins(highs[:-1], mass, positives, means)


def _edges(z: Floats, w: Floats, bins: int) -> Floats:
    """Quantiles of the weight: the lowest logits up to which k / bins of it lie, without the highest one."""
    if len(z) > SAMPLE:
        rows = np.random.default_rng(0).integers(0, len(z), SAMPLE)
        z, w = z[rows], w[rows]
    order = np.argsort(z, kind="stable")
    ordered, below = z[order], np.cumsum(w[order])
    wanted = np.arange(1, bins) * below[-1] / bins
    edges = np.unique(ordered[np.searchsorted(below, wanted)])
    inside: Floats = edges[edges < ordered[-1]]
    return inside
