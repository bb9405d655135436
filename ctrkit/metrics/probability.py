"""How good probabilities are, row by row: log loss, Brier score, normalised entropy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.metrics.checks import Floats, need_both_classes, probability_rows

# A probability of exactly 0 or 1 that turns out wrong costs -log(2.2e-16) = 36 nats, as in scikit-learn,
# and not ∞.
SMALLEST = float(np.finfo(np.float64).eps)


def log_loss(labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean of -(y log p + (1 - y) log(1 - p)), in nats; p is held to [2.2e-16, 1 - 2.2e-16].

    Raises:
        DataError: bad values.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    return float(w @ log_losses(y, p) / w.sum())


def brier(labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean of (p - y)² (Brier 1950).

    Raises:
        DataError: bad values.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    return float(w @ np.square(p - y) / w.sum())


def normalized_entropy(labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Log loss over the log loss of always predicting the rows' own base rate (He et al. 2014, eq. 1).

    Below 1 is better than the base rate; unlike log loss, it compares across data of different base rates.

    Raises:
        DataError: bad values, or only one class has weight.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    need_both_classes(float(w @ y), float(w @ (1 - y)), "normalized entropy")
    return float(w @ log_losses(y, p) / w.sum() / entropy(float(w @ y / w.sum())))


def log_losses(y: Floats, p: Floats) -> Floats:
    """The log loss of each row, [N]."""
    p = np.clip(p, SMALLEST, 1 - SMALLEST)
    # Of a label that is 0 or 1, one term is zero: only the logarithm of the other is needed.
    return -np.log(np.where(y == 1, p, 1 - p))


def entropy(rate: float) -> float:
    """Entropy of a coin that shows 1 at this rate, in nats."""
    return float(-(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))
