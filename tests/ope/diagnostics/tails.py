"""Of weights that are all in memory: the tail, and the share of the heaviest."""

from __future__ import annotations

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.diagnostics.overlap import TailShape, tail_shape


def top_share(weights: Floats, share: float = 0.01) -> float:
    """The share of all weight that this share of the rows, the heaviest, carries; 1 where all are 0.

    Equal weights give `share` itself. Weights [N]; at least one row counts as top.
    """
    rows = len(weights)
    top = min(max(int(rows * share), 1), rows)
    total = float(weights.sum())
    return float(np.partition(weights, rows - top)[rows - top :].sum()) / total if total > 0 else 1.0


def weight_tail(weights: Floats) -> TailShape:
    """By the rule of Vehtari et al. 2024: the tail are the min(N / 5, 3 √N) heaviest rows."""
    size = int(min(len(weights) / 5, 3 * np.sqrt(len(weights))))
    return tail_shape(np.sort(weights)[-size - 1 :], np.ones(min(size + 1, len(weights))), size)
