"""Pooling: rows by equal logit, and shares of positives until they rise."""

from __future__ import annotations

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.calibration.kernels import gather, merge, pool


def distinct_logits(logits: Floats, labels: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Distinct logits, rising, with the weight of their positives and of all their rows, each [K]."""
    rows = len(logits)
    distinct, positives, mass = np.empty(rows), np.empty(rows), np.empty(rows)
    if (weight == 1).all():
        # Two sorts of values and a merge are several times faster than one sort of positions.
        is_positive = labels == 1
        count = merge(np.sort(logits[is_positive]), np.sort(logits[~is_positive]), distinct, positives, mass)
    else:
        order = np.argsort(logits).astype(np.int64, copy=False)
        count = gather(logits, labels, weight, order, distinct, positives, mass)
    return distinct[:count], positives[:count], mass[:count]


def rising_shares(positives: Floats, mass: Floats) -> tuple[Integers, Floats]:
    """The starts of the blocks of isotonic shares, and the shares, each [blocks]."""
    starts, shares = np.empty(len(mass), np.int64), np.empty(len(mass))
    count = pool(positives, mass, starts, shares)
    return starts[:count].copy(), shares[:count].copy()


def need_rising(probabilities: Floats) -> None:
    """Raise a ValueError unless probabilities rise within [0, 1]."""
    inside = (probabilities >= 0).all() and (probabilities <= 1).all()
    if not (inside and (np.diff(probabilities) >= 0).all()):
        raise ValueError("the probabilities do not rise within [0, 1]")
