"""The best candidate of many slots under many weight vectors, in one compiled pass."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ctrkit.bidding.strategies.base import Floats, Indices
from ctrkit.compiled import kernel

Hidden: TypeAlias = NDArray[np.floating[Any]]


def best_of(logit: Floats, worth: Floats) -> tuple[Indices, Floats]:
    """The candidate of the highest value expit(logit) · worth by slot, and that value, each [n].

    Of candidates of the same value it is the likeliest, and of those the first.

    Args:
        logit: [n, K], −∞ where there is no candidate, which is never the best of a slot that has one.
        worth: [n, K], the value of a click.
    """
    value = np.where(logit > -np.inf, expit(logit) * worth, -1.0)
    top = value.max(axis=1)
    ad = np.where(value == top[:, None], logit, -np.inf).argmax(axis=1)
    return ad, np.maximum(top, 0.0)


def best_under(
    calibrated: Floats, hidden: Hidden, worth: Floats, weights: Floats, rows: Indices, draws: Indices
) -> tuple[Indices, Floats]:
    """The best candidate of slot rows[j] under the weights draws[j, l], and its value, each [m, L].

    The logit of a candidate is calibrated + hidden · w + bias. Next to the likeliest one, only candidates
    whose click is worth more can be the best, which saves most of the exponentials.

    Args:
        calibrated: [n, K], the known part of the logit, −∞ where there is no candidate.
        hidden: [n, K, D], in single or double precision.
        worth: [n, K], the value of a click.
        weights: [R, D + 1], the bias last.
        rows: [m]; draws: [m, L].
    """
    ad, value = np.empty(draws.shape, np.intp), np.empty(draws.shape)
    _best_under(
        np.ascontiguousarray(calibrated),
        np.ascontiguousarray(hidden),
        np.asarray(worth, np.float64),  # often one row for all, and not copied
        np.ascontiguousarray(weights),
        np.ascontiguousarray(rows),
        np.ascontiguousarray(draws),
        ad,
        value,
    )
    return ad, value


def best_under_numpy(
    calibrated: Floats, hidden: Hidden, worth: Floats, weights: Floats, rows: Indices, draws: Indices
) -> tuple[Indices, Floats]:
    """`best_under` in words of NumPy."""
    drawn, place = weights[draws], np.repeat(rows, draws.shape[1])
    score = np.einsum("mkd,mld->mlk", hidden[rows], drawn[..., :-1]) + drawn[..., -1:]
    ad, value = best_of(calibrated[place] + score.reshape(len(place), -1), worth[place])
    return ad.reshape(draws.shape), value.reshape(draws.shape)


def shares(calibrated: Floats, hidden: Hidden, worth: Floats, weights: Floats, rows: Indices) -> Floats:
    """The share of the R weight vectors under which each candidate is the best of its slot, [m, K].

    Args: as of `best_under`.
    """
    count, ads = len(weights), calibrated.shape[1]
    draws = np.broadcast_to(np.arange(count), (len(rows), count))
    ad, _ = best_under(calibrated, hidden, worth, weights, rows, draws)
    ad += np.arange(len(rows))[:, None] * ads
    return np.bincount(ad.ravel(), minlength=len(rows) * ads).reshape(len(rows), ads) / count


def _types() -> object:
    from numba import types

    def read(number: Any, axes: int) -> Any:
        return types.Array(number, axes, "C", readonly=True)

    worth = types.Array(types.float64, 2, "A", readonly=True)
    matrix, rows, draws = read(types.float64, 2), read(types.intp, 1), read(types.intp, 2)
    written = types.Array(types.intp, 2, "C"), types.Array(types.float64, 2, "C")
    return [
        types.void(matrix, read(width, 3), worth, matrix, rows, draws, *written)
        for width in (types.float32, types.float64)
    ]


@kernel(_types, reorder=True)
def _best_under(
    calibrated: Floats,
    hidden: Hidden,
    worth: Floats,
    weights: Floats,
    rows: Indices,
    draws: Indices,
    ad: Indices,
    value: Floats,
) -> None:
    """Fill `ad` and `value`."""
    ads, width = hidden.shape[1], hidden.shape[2]
    logit = np.empty(ads)
    for j in range(rows.shape[0]):
        i = rows[j]
        for r in range(draws.shape[1]):
            weight = weights[draws[j, r]]
            best, top = 0, -np.inf
            for k in range(ads):
                score = 0.0
                for d in range(width):
                    score += hidden[i, k, d] * weight[d]
                logit[k] = score = calibrated[i, k] + (score + weight[width])
                best, top = (k, score) if score > top else (best, top)
            most = worth[i, best] / (1.0 + np.exp(-top))
            # Only a click that is worth more can make up for being less likely.
            least = worth[i, best]
            for k in range(ads):
                if worth[i, k] > least and logit[k] > -np.inf:
                    now = worth[i, k] / (1.0 + np.exp(-logit[k]))
                    if now > most or (now == most and logit[k] > logit[best]):
                        best, most = k, now
            ad[j, r], value[j, r] = best, most
