"""The best candidate of many slots under many weight vectors, in one compiled pass."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ctrkit.arrays import Floats, Indices
from ctrkit.compiled import kernel

Hidden: TypeAlias = NDArray[np.floating[Any]]


def best_of(logit: Floats, worth: Floats) -> tuple[Indices, Floats]:
    """The candidate with the highest value expit(logit) · worth of each slot, and that value, each [n].

    Among candidates with the same value it is the one with the highest logit, and among those the first.

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

    The logit of a candidate is calibrated + hidden · w + bias. Besides the candidate with the highest logit,
    only candidates with a higher value of a click can be the best, which saves most of the exponentials.

    Args:
        calibrated: [n, K], the known part of the logit, −∞ where there is no candidate.
        hidden: [n, K, D], the inputs of the last layer, in single or double precision.
        worth: [n, K], the value of a click.
        weights: [R, D + 1], weight vectors, the bias last.
        rows: [m], indices of slots.
        draws: [m, L], indices of weight vectors.
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


def shares(calibrated: Floats, hidden: Hidden, worth: Floats, weights: Floats, rows: Indices) -> Floats:
    """The share of the R weight vectors under which each candidate is the best of its slot, [m, K].

    Args:
        calibrated: as in `best_under`.
        hidden: as in `best_under`.
        worth: as in `best_under`.
        weights: as in `best_under`.
        rows: as in `best_under`.
    """
    found = np.zeros((len(rows), calibrated.shape[1]))
    _shares(
        np.ascontiguousarray(calibrated),
        np.ascontiguousarray(hidden),
        np.asarray(worth, np.float64),
        np.ascontiguousarray(weights.T),
        np.ascontiguousarray(rows),
        found,
    )
    return found


def _read(axes: int, number: str = "float64", layout: Literal["C", "A"] = "C") -> Any:
    """Numba's type of an array that is read."""
    from numba import types

    return types.Array(getattr(types, number), axes, layout, readonly=True)


def _types() -> object:
    from numba import types

    written = types.Array(types.intp, 2, "C"), types.Array(types.float64, 2, "C")
    return [
        types.void(
            _read(2),
            _read(3, width),
            _read(2, layout="A"),
            _read(2),
            _read(1, "intp"),
            _read(2, "intp"),
            *written,
        )
        for width in ("float32", "float64")
    ]


@kernel(
    _types,
    "calibrated: N K; hidden: N K D; worth: N K; weights: R D+1; rows: M; draws: M L; ad: M L; value: M L",
    reorder=True,
)
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
            # Only a higher value of a click can compensate for a lower probability.
            least = worth[i, best]
            for k in range(ads):
                if worth[i, k] > least and logit[k] > -np.inf:
                    now = worth[i, k] / (1.0 + np.exp(-logit[k]))
                    if now > most or (now == most and logit[k] > logit[best]):
                        best, most = k, now
            ad[j, r], value[j, r] = best, most


def _types_of_shares() -> object:
    from numba import types

    written = types.Array(types.float64, 2, "C")
    return [
        types.void(_read(2), _read(3, width), _read(2, layout="A"), _read(2), _read(1, "intp"), written)
        for width in ("float32", "float64")
    ]


@kernel(
    _types_of_shares,
    "calibrated: N K; hidden: N K D; worth: N K; weights: D+1 R; rows: M; found: M K",
    reorder=True,
)
def _shares(
    calibrated: Floats, hidden: Hidden, worth: Floats, weights: Floats, rows: Indices, found: Floats
) -> None:
    """Fill `found`, which is 0; weights [D + 1, R], so that all draws are scored at once."""
    ads, width, count = hidden.shape[1], hidden.shape[2], weights.shape[1]
    logit, top, likeliest = np.empty((ads, count)), np.empty(count), np.empty(count, np.int64)
    for j in range(rows.shape[0]):
        i = rows[j]
        alike = True
        for k in range(ads):
            alike = alike and worth[i, k] == worth[i, 0]
            for r in range(count):
                logit[k, r] = weights[width, r]
            for d in range(width):
                x = hidden[i, k, d]
                for r in range(count):
                    logit[k, r] += x * weights[d, r]
            for r in range(count):
                logit[k, r] += calibrated[i, k]
                better = k == 0 or logit[k, r] > top[r]
                top[r] = logit[k, r] if better else top[r]
                likeliest[r] = k if better else likeliest[r]
        for r in range(count):
            best = likeliest[r]
            if not alike:
                most = worth[i, best] / (1.0 + np.exp(-top[r]))
                # Only a higher value of a click can compensate for a lower probability.
                least = worth[i, best]
                for k in range(ads):
                    if worth[i, k] > least and logit[k, r] > -np.inf:
                        now = worth[i, k] / (1.0 + np.exp(-logit[k, r]))
                        if now > most or (now == most and logit[k, r] > logit[best, r]):
                            best, most = k, now
            found[j, best] += 1.0
        for k in range(ads):
            found[j, k] /= count
