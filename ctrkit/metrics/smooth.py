"""Calibration error without bins: the Kolmogorov-Smirnov form and the smooth ECE.

A binned error jumps when a bin's edge moves past a row, and grows with the number of bins. These two errors
do
neither: one uses the running sum of p - y, the other smooths p - y by a kernel whose width it finds itself.
Like `ctrkit.metrics.ece`, both are above 0 even for true probabilities, because of noise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import dct, idct
from scipy.optimize import brentq

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.metrics.checks import probability_rows
from ctrkit.metrics.order import sort_keys, stable_order

# Rows are put on a grid with at most this many cells before smoothing. It does not resolve kernels narrower
# than a few cells (3e-5), which no data needs.
CELLS = 2**17
# Cells for each width of a kernel: more of them change the error by less than 1e-5 of itself.
_CELLS_OF_A_WIDTH = 128


def ks_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None
) -> float:
    """The KS calibration error: max_t |Σ_{p ≤ t} (p - y)| / N.

    It is the largest gap between predicted and observed positives among the rows up to a probability t, as a
    share of all rows (Gupta et al. 2021, "Calibration of Neural Networks using Splines", section 3). It needs
    no bins. Errors of opposite sign at neighbouring probabilities cancel; for a model that is too high
    everywhere it equals the mean gap.

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        DataError: bad values.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    if (w == 1).all():
        return _largest_gap(np.sort(p), np.sort(p[y == 1]))
    residual = w * (p - y)
    order = stable_order(sort_keys(p))
    p, residual = p[order], residual[order]
    running = np.cumsum(residual)
    # Rows of equal probability have no order: only the end of each run counts.
    ends = np.append(p[1:] > p[:-1], True)
    return float(np.abs(running[ends]).max() / w.sum())


def _largest_gap(p: Floats, of_positives: Floats) -> float:
    """The KS error from sorted values alone: sorting them costs a third of sorting rows with their labels.

    The running sum rises with each negative row and falls with each positive row, so its extremes are before
    and after the positive rows of one probability, and at the end.
    """
    running = np.concatenate([[0.0], np.cumsum(p)])
    values, count = np.unique(of_positives, return_counts=True)
    found = np.cumsum(count)
    before = running[np.searchsorted(p, values, side="left")] - (found - count)
    after = running[np.searchsorted(p, values, side="right")] - found
    return float(np.abs(np.concatenate([before, after, running[-1:] - len(of_positives)])).max() / len(p))


def smooth_ece(labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The smooth calibration error, smECE.

    Source: Błasiok & Nakkiran 2023, "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing".
    smECE_σ = ∫₀¹ |Σ_i K_σ(t, p_i) (y_i - p_i) / N| dt, where K_σ is the Gaussian kernel of width σ, reflected
    at 0 and 1. It falls as σ rises, and the result is the one σ at which smECE_σ = σ. It is consistent: up to
    constants, powers of the distance to the nearest calibrated predictor bound it from both sides.

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        DataError: bad values.
    """
    spectrum = _spectrum(*probability_rows(labels, probabilities, weight), CELLS)
    if _smoothed(spectrum, 0.0) <= 0:
        return 0.0
    # No error is above 1, so the two ends differ in sign.
    return float(brentq(lambda width: _smoothed(spectrum, width) - width, 0.0, 2.0, xtol=1e-12))


def smooth_ece_at(
    labels: ArrayLike, probabilities: ArrayLike, width: float, weight: ArrayLike | None = None
) -> float:
    """smECE at a fixed kernel width σ, in units of probability (see `smooth_ece`).

    Raises:
        DataError: bad values.
        ConfigError: the width is not above 0.
    """
    if not width > 0:
        raise ConfigError(f"the kernel's width must be above 0, and {width} was given")
    return _smoothed(_spectrum(*probability_rows(labels, probabilities, weight), _cells(width)), width)


def _cells(width: float) -> int:
    """How many cells a kernel of this width needs, a power of 2."""
    needed = _CELLS_OF_A_WIDTH / max(width, _CELLS_OF_A_WIDTH / CELLS)
    return 1 << math.ceil(math.log2(max(needed, 2)))


def _spectrum(y: Floats, p: Floats, w: Floats, cells: int) -> Floats:
    """Cosine transform of the residuals y - p by cell of the grid, [cells].

    A row is split between the two nearest cells, so that its mean position is kept.
    """
    place = np.clip(p * cells - 0.5, 0, cells - 1)
    left = np.minimum(place.astype(np.intp), cells - 2)
    residual = w * (y - p)
    of_right = (place - left) * residual
    sums = np.bincount(left, residual - of_right, minlength=cells)
    sums[1:] += np.bincount(left, of_right, minlength=cells)[:-1]
    spectrum: Floats = dct(sums / w.sum(), type=2)
    return spectrum


def _smoothed(spectrum: Floats, width: float) -> float:
    """∫ |smoothed residual|: the reflected Gaussian only shrinks cosines, cos(πkt) by exp(-(πkσ)² / 2).

    Cosines too fast for the kernel's cells are shrunk to nothing, and left out.
    """
    cells = min(_cells(width), len(spectrum))
    shrunk = spectrum[:cells] * np.exp(-np.square(np.pi * width * np.arange(cells)) / 2)
    return float(np.abs(idct(shrunk, type=2)).sum())
