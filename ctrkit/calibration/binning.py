"""Rows in bins of about equal weight: their edges and what each holds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.calibration.kernels import sum_by_bin

# The edges of more rows than this are those of so many, drawn from them at random: with 2,000 bins, the
# weight of a bin is then off by an eighth (standard deviation), and a sort of all rows is saved.
SAMPLE = 131_072


class Bins(NamedTuple):
    """Bins in rising order, each of them with rows.

    Attributes:
        edges: the highest logit of each bin but the last, [B - 1].
        mass, positives: weight of all rows and of the positives, [B].
        means: their mean logit, rising, [B].
    """

    edges: Floats
    mass: Floats
    positives: Floats
    means: Floats


def bin_rows(z: Floats, y: Floats, w: Floats, bins: int) -> Bins:
    """Put rows in at most `bins` bins of about equal weight; rows of equal logit share one.

    Above 131,072 rows the edges come from a random sample of that size, always the same one.
    """
    edges = _edges(z, w, bins)
    found = np.zeros((len(edges) + 1, 3))
    sum_by_bin(z, y, w, edges, found)
    filled = found[:, 0] > 0  # of a sample's edges the last may have no row above
    mass, positives, moment = np.ascontiguousarray(found[filled].T)
    lows = np.append(z.min(), np.nextafter(edges, np.inf))[filled]
    highs = np.append(edges, z.max())[filled]
    # A mean of equal numbers may differ from them in the last digit, and so leave its bin.
    means = np.clip(moment / mass, lows, np.maximum(lows, highs))
    return Bins(highs[:-1], mass, positives, means)


def _edges(z: Floats, w: Floats, bins: int) -> Floats:
    """Quantiles of the weight: the least logits up to which k / bins of it lie, without the highest logit."""
    if len(z) > SAMPLE:
        rows = np.random.default_rng(0).integers(0, len(z), SAMPLE)
        z, w = z[rows], w[rows]
    order = np.argsort(z, kind="stable")
    ordered, below = z[order], np.cumsum(w[order])
    wanted = np.arange(1, bins) * below[-1] / bins
    edges = np.unique(ordered[np.searchsorted(below, wanted)])
    inside: Floats = edges[edges < ordered[-1]]
    return inside
