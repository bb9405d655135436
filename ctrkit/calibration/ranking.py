"""Ranking by calibrated probabilities, of which many may be equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.errors import DataError
from ctrkit.metrics.checks import as_column

# Equal probabilities are separated by this share of themselves, enough to change the log-odds down to 1e-30.
_STEP = 2.0**-44


def ranking_key(probabilities: ArrayLike, logits: ArrayLike) -> Floats:
    """Numbers to rank rows by: by probability, and by logit among equal probabilities.

    Isotonic regression and histogram binning give one probability to many logits, so that rankings (AUC, the
    best candidate) lose what the model knew. The logit breaks these ties, and the probabilities stay as they
    are. Rows share a key only if both their probabilities and their logits are equal.

    Args:
        probabilities: the calibrated probabilities, [N].
        logits: the logits that they come from, [N].

    Returns:
        0, 1, 2 and so on from the lowest, [N]; comparable only within one call.

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
    """Probabilities without ties: their last digits separate equal ones within a row, by logit, [B, K].

    The candidate with the largest probability, or with the largest value of anything that rises with it, is
    then the one with the largest logit. Among k equal (or nearly equal) probabilities, each moves by at most
    k · 5.7e-14 of itself; no others move.

    Args:
        probabilities: the calibrated probabilities, NaN if there is none, [B, K].
        logits: the logits that they come from, [B, K].
    """
    order = np.lexsort((logits, probabilities))  # by row; NaN comes last
    p, z = (np.take_along_axis(values, order, axis=1) for values in (probabilities, logits))
    rises = np.zeros(p.shape, bool)
    rises[:, 1:] = (p[:, 1:] > p[:, :-1]) | (z[:, 1:] > z[:, :-1])
    if (p[:, 1:] > p[:, :-1])[rises[:, 1:]].all():
        return probabilities
    # Each is at least one step above the one below: p'(i) = max(p(i), (1 + step) · p'(i - 1)).
    steps = (1 + _STEP) ** np.cumsum(rises, axis=1)
    moved = np.fmax.accumulate(p / steps, axis=1) * steps
    found = np.empty(p.shape)
    np.put_along_axis(found, order, np.where(moved > p * (1 + _STEP / 4), moved, p), axis=1)
    return np.minimum(found, 1.0)
