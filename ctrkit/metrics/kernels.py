"""Loops over rows that NumPy cannot express (see `ctrkit.compiled`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrkit.arrays import Floats, Indices
from ctrkit.compiled import kernel


def add_wins(
    y: Floats,
    s: Floats,
    w: Floats,
    group: Indices,
    starts: Indices,
    scores: Floats,
    weights: Floats,
    wins: Floats,
) -> None:
    """Add to `wins`, by group, the weight of pairs in which a positive row ranks above a negative one.

    Args:
        y: the label of each row, [N].
        s: the score of each row, [N].
        w: the weight of each row, [N]; or one weight for all rows, [1].
        group: the group of each row, [N].
        starts: where each group's positive rows start, [groups + 1].
        scores: the scores of the positive rows, by group and rising score.
        weights: the weights of these rows; they are overwritten.
        wins: the weight of pairs won, [groups].
    """
    whole = np.ascontiguousarray
    y, s, w, group, starts, scores = (
        whole(y), whole(s), whole(w), whole(group), whole(starts), whole(scores),
    )  # fmt: skip
    _add_wins(y, s, w, group, starts, scores, weights, wins)


def _signature() -> Any:
    from numba import types

    read, read_whole = (types.Array(of, 1, "C", readonly=True) for of in (types.float64, types.int64))
    written = types.Array(types.float64, 1, "C")
    return types.void(read, read, read, read_whole, read_whole, read, written, written)


@kernel(_signature, "y: N; s: N; w: N|1; group: N; wins: G; starts: G+1; scores: P; weights: P")
def _add_wins(
    y: Floats,
    s: Floats,
    w: Floats,
    group: Indices,
    starts: Indices,
    scores: Floats,
    weights: Floats,
    wins: Floats,
) -> None:
    """The loop of `add_wins`."""
    for g in range(wins.shape[0]):
        for k in range(starts[g + 1] - 2, starts[g] - 1, -1):
            weights[k] += weights[k + 1]  # from here on: the weight of this and all higher ones
    for row in range(y.shape[0]):
        g = group[row]
        end = starts[g + 1]
        if y[row] == 1.0 or starts[g] == end:
            continue
        score = s[row]
        low, high = starts[g], end
        while low < high:  # the first that is not below
            middle = (low + high) >> 1
            if scores[middle] < score:
                low = middle + 1
            else:
                high = middle
        if low == end:
            continue
        not_below = weights[low]
        high = end
        if scores[low] != score:
            high = low
        while low < high:  # the first that is above
            middle = (low + high) >> 1
            if scores[middle] <= score:
                low = middle + 1
            else:
                high = middle
        above = 0.0
        if low < end:
            above = weights[low]
        weight = w[0]
        if w.shape[0] > 1:
            weight = w[row]
        wins[g] += weight * (above + not_below) / 2
