"""Ranking by calibrated probabilities that are often equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.errors import DataError
from ctrkit.metrics.checks import as_column

# By so much of itself a probability moves from its equals: enough to be seen in its log-odds down to 1e-30.
_STEP = 2.0**-44


def ranking_key(probabilities: ArrayLike, logits: ArrayLike) -> Floats:
    """Numbers to rank by: the order of the probabilities, rows of equal probability in that of their logits.

    Isotonic regression and histogram binning give one probability to many logits, which costs ranking (AUC,
    and who wins among candidates) what the model knew. The raw logit tells those rows apart, and calibration
    stays as it is. Rows share a key only if both of their numbers are equal.

    Args:
        probabilities: calibrated, [N].
        logits: what they were made from, [N].

    Returns:
        0, 1, 2 and so on from the lowest, [N]; to compare rows of this call only.

    Raises:
        DataError: bad values, or lengths that differ.
    """
    p, z = as_column(probabilities, "probabilities"), as_column(logits, "logits")
    if len(p) != len(z):
        raise DataError(f"probabilities has {len(p)} rows and logits has {len(z)}", argument="logits")
    order = np.lexsort((z, p))
    rises = (np.diff(p[order]) > 0) | (np.diff(z[order]) > 0)
    key = np.empty(len(p))
    key[order] = np.append(0, np.cumsum(rises))
    return key


def told_apart(probabilities: Floats, logits: Floats) -> Floats:
    """Probabilities of which equal ones within a row are moved apart, by their last digits, as their logits
    stand, [B, K].

    Whoever takes the best of a row by its probability, or by anything that rises with it, then takes the one
    that the model finds best. One of k equal ones, or of nearly so, moves by at most k · 5.7e-14 of itself;
    nothing else does.

    Args:
        probabilities: calibrated, NaN where there is none, [B, K].
        logits: what they were made from, [B, K].
    """
    order = np.lexsort((logits, probabilities))  # by row; what is NaN comes last
    p, z = (np.take_along_axis(values, order, axis=1) for values in (probabilities, logits))
    rises = np.zeros(p.shape, bool)
    rises[:, 1:] = (p[:, 1:] > p[:, :-1]) | (z[:, 1:] > z[:, :-1])
    if (p[:, 1:] > p[:, :-1])[rises[:, 1:]].all():
        return probabilities
    # Each at least a step above the one below: p'(i) = max(p(i), (1 + step) · p'(i - 1)).
    steps = (1 + _STEP) ** np.cumsum(rises, axis=1)
    moved = np.fmax.accumulate(p / steps, axis=1) * steps
    found = np.empty(p.shape)
    np.put_along_axis(found, order, np.where(moved > p * (1 + _STEP / 4), moved, p), axis=1)
    return np.minimum(found, 1.0)
