"""Calibration error without bins: the Kolmogorov-Smirnov form and the smooth ECE.

A binned error jumps when a bin's edge moves past a row, and grows with the number of bins. These two do
neither: one reads the running sum of p - y, the other smooths p - y by a kernel whose width it finds itself.
Both are above 0 even for true probabilities, by noise, as `ctrkit.metrics.ece` is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import dct, idct
from scipy.optimize import brentq

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.metrics.checks import probability_rows
from ctrkit.metrics.order import sort_keys, stable_order

# Rows are put on a grid this fine before smoothing; kernels narrower than a few of its cells (3e-5) are
# not resolved, and no data asks for them.
CELLS = 2**17


def ks_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None
) -> float:
    """The largest gap between predicted and observed positives among rows below any probability, as a
    share of all rows: max_t |Σ_{p ≤ t} (p - y)| / N.

    The KS calibration error of Gupta et al. 2021 ("Calibration of Neural Networks using Splines", section
    3), without bins. Errors of opposite sign at neighbouring probabilities cancel; a model that is too high
    everywhere has its whole mean gap here.

    Args:
        labels: 0 or 1, [N].
        probabilities: [N].
        weight: a row of weight 2 counts as two, [N].

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
    # Rows of one probability have no order among them: only the end of each run counts.
    ends = np.append(p[1:] > p[:-1], True)
    return float(np.abs(running[ends]).max() / w.sum())


def _largest_gap(p: Floats, of_positives: Floats) -> float:
    """The KS error from sorted values alone, whose sort costs a third of that of rows with their labels.

    The running sum rises with each negative row and falls with each positive one, so that its extremes lie
    before and after the positives of one probability, and at the end.
    """
    running = np.concatenate([[0.0], np.cumsum(p)])
    values, count = np.unique(of_positives, return_counts=True)
    found = np.cumsum(count)
    before = running[np.searchsorted(p, values, side="left")] - (found - count)
    after = running[np.searchsorted(p, values, side="right")] - found
    return float(np.abs(np.concatenate([before, after, running[-1:] - len(of_positives)])).max() / len(p))


def smooth_ece(labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The smooth calibration error, smECE (Błasiok & Nakkiran 2023, "Smooth ECE: Principled Reliability
    Diagrams via Kernel Smoothing").

    smECE_σ = ∫₀¹ |Σ_i K_σ(t, p_i) (y_i - p_i) / N| dt, K_σ the Gaussian kernel reflected at 0 and 1
    It falls as σ rises, and the result is the one σ at which smECE_σ = σ: the error at the scale on which
    it is an error. It is consistent: within constants of powers of the distance to the nearest calibrated
    predictor.

    Args:
        labels: 0 or 1, [N].
        probabilities: [N].
        weight: a row of weight 2 counts as two, [N].

    Raises:
        DataError: bad values.
    """
    spectrum = _spectrum(*probability_rows(labels, probabilities, weight))
    if _smoothed(spectrum, 0.0) <= 0:
        return 0.0
    # No error is above 1, so that the ends differ in sign.
    return float(brentq(lambda width: _smoothed(spectrum, width) - width, 0.0, 2.0, xtol=1e-12))


def smooth_ece_at(
    labels: ArrayLike, probabilities: ArrayLike, width: float, weight: ArrayLike | None = None
) -> float:
    """smECE at a fixed kernel width σ, in units of probability; see `smooth_ece`.

    Raises:
        DataError: bad values. ConfigError: the width is not above 0.
    """
    if not width > 0:
        raise ConfigError(f"the kernel's width must be above 0, and {width} was given")
    return _smoothed(_spectrum(*probability_rows(labels, probabilities, weight)), width)


def _spectrum(y: Floats, p: Floats, w: Floats) -> Floats:
    """Cosine transform of the residuals y - p by cell of the grid, [CELLS].

    A row is shared between the two cells whose middles are nearest, so that its mean place is kept.
    """
    place = np.clip(p * CELLS - 0.5, 0, CELLS - 1)
    left = np.minimum(place.astype(np.intp), CELLS - 2)
    residual = w * (y - p)
    of_right = (place - left) * residual
    cells = np.bincount(left, residual - of_right, minlength=CELLS)
    cells[1:] += np.bincount(left, of_right, minlength=CELLS)[:-1]
    spectrum: Floats = dct(cells / w.sum(), type=2)
    return spectrum


def _smoothed(spectrum: Floats, width: float) -> float:
    """∫ |smoothed residual|: the reflected Gaussian only shrinks cosines, cos(πkt) by exp(-(πkσ)² / 2)."""
    shrunk = spectrum * np.exp(-np.square(np.pi * width * np.arange(CELLS)) / 2)
    return float(np.abs(idct(shrunk, type=2)).sum())
