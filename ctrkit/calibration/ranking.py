"""Ranking by calibrated probabilities that are often equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.errors import DataError
from ctrkit.metrics.checks import Floats, as_column


def ranking_key(probabilities: ArrayLike, logits: ArrayLike) -> Floats:
    """Numbers to rank by: the order of the probabilities, rows of equal probability in that of their logits.

    Isotonic regression and histogram binning give one probability to many logits, which costs ranking (AUC,
    and who wins among candidates) what the model knew. The raw logit tells those rows apart, and calibration
    stays as it is. Rows share a key only if both of their numbers are equal.

    Args:
        probabilities: calibrated, [N]. logits: what they were made from, [N].

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
