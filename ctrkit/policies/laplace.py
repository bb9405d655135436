"""Laplace posterior of a network's last layer: how sure a model is, from one matrix and no retraining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigvalsh
from scipy.linalg.lapack import dpotrf, dtrtri
from scipy.optimize import brentq
from scipy.special import expit

from ctrkit.arrays import Floats
from ctrkit.compiled import kernel
from ctrkit.errors import DataError, RunError

_NEWTON_STEPS = 50
# Newton's decrement estimates how far the objective is above its minimum, in nats.
_CLOSE = 1e-12


@dataclass(frozen=True)
class LastLayerPosterior:
    """w ~ N(mean, precision⁻¹) for the logit φ·w of a click, where φ = (hidden, 1).

    The last layer of a network with a log loss is a logistic regression on what it reads, so the Laplace
    approximation costs one matrix: H = Σ c p(1−p) φφᵀ + τI over the training rows, a row of weight c being c
    rows.

    Source: D. MacKay, The evidence framework applied to classification networks, Neural Computation 4
    (1992); for bandits O. Chapelle, L. Li, An empirical evaluation of Thompson sampling, NeurIPS 2011.

    Attributes:
        mean: [D + 1], the weights and then the bias.
        precision: [D + 1, D + 1], positive definite.
    """

    mean: Floats
    precision: Floats

    def __post_init__(self) -> None:
        width = len(self.mean)
        if self.mean.ndim != 1 or self.precision.shape != (width, width):
            raise DataError(
                f"a posterior of mean {self.mean.shape} needs a precision of ({width}, {width}), "
                f"not {self.precision.shape}"
            )

    @classmethod
    def fit(
        cls,
        hidden: ArrayLike,
        weight: ArrayLike,
        bias: float,
        prior_precision: float | None = None,
        row_weight: ArrayLike | None = None,
    ) -> LastLayerPosterior:
        """The posterior around trained weights.

        Args:
            hidden: [N, D], what the last layer read on the training rows.
            weight: [D] and bias: the trained last layer, of the click logit.
            prior_precision: τ of the prior N(0, 1/τ) on each weight; by default the τ of the highest
                marginal likelihood (see `evidence_precision`). The bias has a flat prior: the rate of
                clicks says nothing of the size of weights.
            row_weight: of each row, at least 0, [N]; 1 by default.

        Raises:
            DataError: shapes that do not fit, a value that is not finite, or no rows.
        """
        features = with_bias(np.asarray(hidden, np.float64))
        mean = np.append(np.asarray(weight, np.float64), float(bias))
        if features.ndim != 2 or features.shape[1] != len(mean) or not len(features):
            raise DataError(
                f"hidden of shape {np.shape(hidden)} does not go with a last layer of {len(mean) - 1} weights"
            )
        if not (np.isfinite(features).all() and np.isfinite(mean).all()):
            raise DataError("hidden values or weights are not finite", hint="Train the model again")
        count = np.ones(len(features)) if row_weight is None else np.asarray(row_weight, np.float64)
        if count.shape != (len(features),) or not (np.isfinite(count).all() and (count >= 0).all()):
            raise DataError(
                f"one finite weight of at least 0 is needed for each of {len(features):,} rows",
                argument="row_weight",
            )
        curvature = _curvature(features, expit(features @ mean), count)
        tau = evidence_precision(curvature, mean) if prior_precision is None else prior_precision
        prior = np.append(np.full(len(mean) - 1, tau), 0.0)
        return cls(mean, curvature + np.diag(prior))

    def centred(self) -> LastLayerPosterior:
        """The posterior of the deviation from the mean."""
        return LastLayerPosterior(np.zeros_like(self.mean), self.precision)

    def sample(self, rng: np.random.Generator, size: int) -> Floats:
        """Draws of the weights, [size, D + 1], weights and then the bias."""
        return np.asarray(self.mean + rng.standard_normal((size, len(self.mean))) @ self.root.T)

    def score_moments(self, hidden: ArrayLike) -> tuple[Floats, Floats]:
        """Mean and deviation of the logit for hidden [..., D], each [...]."""
        features = with_bias(np.asarray(hidden, np.float64))
        return features @ self.mean, self.deviation(features)

    def deviation(self, features: Floats) -> Floats:
        """The deviation of features · w, [...], for features [..., D + 1]."""
        # One long product: of many small ones NumPy makes a loop.
        whitened = features.reshape(-1, features.shape[-1]) @ self.root
        variance = np.einsum("ni,ni->n", whitened, whitened)
        return np.asarray(np.sqrt(variance).reshape(features.shape[:-1]))

    def update(
        self, hidden: ArrayLike, clicks: ArrayLike, offset: ArrayLike | None = None
    ) -> LastLayerPosterior:
        """The Laplace posterior after more clicks, with this one as the prior.

        The new mean minimises  ½(w − m)ᵀΛ(w − m) − Σ log p(click | φ·w + offset)  (Newton's method, with
        halved steps where needed), and the new precision is Λ + Σ p(1−p) φφᵀ there.

        Args:
            hidden: [N, D].
            clicks: [N], 0 or 1.
            offset: [N], a known part of the logit.

        Raises:
            DataError: a hidden value that is not finite.
            RunError: when Newton's method does not settle.
        """
        features = with_bias(np.asarray(hidden, np.float64))
        if not np.isfinite(features).all():
            raise DataError("hidden values are not finite", hint="Train the model again")
        fixed = np.zeros(len(features)) if offset is None else np.asarray(offset, np.float64)
        weight, precision, settled = _newton(
            np.ascontiguousarray(features),
            np.ascontiguousarray(clicks, np.float64),
            np.ascontiguousarray(fixed),
            np.ascontiguousarray(self.mean),
            np.ascontiguousarray(self.precision),
        )
        if not settled:
            raise RunError("the posterior's update did not settle; are the hidden values of a sane size")
        return LastLayerPosterior(weight, precision)

    def state(self) -> dict[str, Floats]:
        """Plain arrays."""
        return {"mean": self.mean, "precision": self.precision}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LastLayerPosterior:
        """The inverse of `state`.

        Raises:
            KeyError, ValueError: the state is none that `state` gives. DataError: its precision is not
                positive definite.
        """
        mean, precision = (np.asarray(state[name], np.float64) for name in ("mean", "precision"))
        if mean.ndim != 1 or precision.shape != (mean.size, mean.size):
            raise ValueError(f"a mean of shape {mean.shape} and a precision of shape {precision.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(precision).all() and mean.size):
            raise ValueError("mean or precision are not finite")
        if not np.allclose(precision, precision.T, rtol=1e-6, atol=0):
            raise ValueError("the precision is not symmetric")
        made = cls(mean, precision)
        made.factor  # noqa: B018  (fails where it is not positive definite)
        return made

    @cached_property
    def factor(self) -> Floats:
        """L [D + 1, D + 1], lower triangular, with precision = L Lᵀ; found once."""
        # Of LAPACK itself: for so few weights the wrappers take longer than the work.
        factor, fault = dpotrf(self.precision, lower=1)
        if fault:
            raise DataError(
                "the posterior's precision is not positive definite",
                hint="Train the model again, with a higher prior precision",
            )
        return np.asarray(factor)

    @cached_property
    def root(self) -> Floats:
        """L⁻ᵀ [D + 1, D + 1], upper triangular, so that precision⁻¹ = L⁻ᵀ L⁻¹; found once."""
        return np.asarray(dtrtri(self.factor, lower=1)[0].T)


def _types() -> object:
    from numba import types

    vector, matrix = (types.Array(types.float64, axes, "C") for axes in (1, 2))
    rows = types.Array(types.float64, 1, "C", readonly=True)
    tables = types.Array(types.float64, 2, "C", readonly=True)
    found: Any = types.Tuple((vector, matrix, types.boolean))  # type: ignore[no-untyped-call]
    return found(tables, rows, rows, rows, tables)


@kernel(_types, "features: N D; clicked: N; fixed: N; mean: D; precision: D D")
def _newton(
    features: Floats, clicked: Floats, fixed: Floats, mean: Floats, precision: Floats
) -> tuple[Floats, Floats, bool]:
    """The new mean and precision of `LastLayerPosterior.update`, and whether the search settled.

    Compiled, for a tick brings few rows, and calls of NumPy take longer than the work.
    """
    rows, width = features.shape
    weight: Floats = mean.copy()
    curvature: Floats = precision.copy()
    logits: Floats = features @ mean + fixed
    step: Floats = np.zeros(width)
    slope, scale, value, decrement = np.zeros(rows), 0.0, np.inf, 0.0
    for _ in range(_NEWTON_STEPS):
        while True:
            # The objective at the weights moved by scale · step.
            moved = weight - scale * step
            pull = precision @ (moved - mean)
            lower = 0.5 * float((moved - mean) @ pull)
            for i in range(rows):
                logit = logits[i] - scale * slope[i]
                # log(1 + exp(logit)) without an overflow, less the logit where it was clicked
                lower += max(logit, 0.0) + np.log1p(np.exp(-abs(logit))) - clicked[i] * logit
            if lower <= value - 1e-4 * scale * decrement:
                break
            scale /= 2
            if scale < 1e-8:  # rounding, not the step, decides: the minimum is reached
                return weight, curvature, True
        weight, value, logits = moved, lower, logits - scale * slope
        p = 1.0 / (1.0 + np.exp(-logits))
        spread = features.copy()
        for i in range(rows):
            spread[i] *= p[i] * (1.0 - p[i])
        curvature = precision + spread.T @ features
        gradient = pull + (p - clicked) @ features
        step[:] = np.linalg.solve(curvature, gradient)
        decrement, scale, slope = float(gradient @ step), 1.0, features @ step
        if decrement < _CLOSE * max(1.0, abs(value)):
            return weight, curvature, True
    return weight, curvature, False


def evidence_precision(curvature: ArrayLike, mean: ArrayLike) -> float:
    """The prior precision τ of the weights that maximises the Laplace marginal likelihood.

    With a flat prior on the bias, the evidence is, up to a constant, ½ d log τ − ½ τ‖w‖² − ½ log det(S + τI),
    S being the Schur complement of the bias in the curvature. It has one maximum, where γ(τ) = τ‖w‖²
    with γ = Σ λ/(λ + τ), the number of well-determined weights (MacKay 1992, eq. 4.8).

    Args:
        curvature: [D + 1, D + 1], Σ p(1−p) φφᵀ without the prior.
        mean: [D + 1], the bias last.

    Raises:
        DataError: when the weights or the curvature are all 0, so that no τ is best.
    """
    h, w = np.asarray(curvature, np.float64), np.asarray(mean, np.float64)[:-1]
    schur = h[:-1, :-1] - np.outer(h[:-1, -1], h[-1, :-1]) / max(float(h[-1, -1]), np.finfo(float).tiny)
    eigenvalue = np.maximum(eigvalsh(schur), 0.0)
    size, top = float(w @ w), float(eigenvalue.max())
    if size == 0 or top == 0:
        raise DataError(
            "the last layer's weights or inputs are all the same, so its prior cannot be learnt",
            hint="Give prior_precision",
        )

    def slope(log_tau: float) -> float:
        tau = np.exp(log_tau)
        return float((eigenvalue / (eigenvalue + tau)).sum() - tau * size)

    # γ < d puts the root below log(d/‖w‖²); from there the bracket is opened downwards, where γ → d.
    high = np.log(len(w) / size) + 1.0
    low = min(np.log(top), high) - 1.0
    while slope(low) <= 0:
        low -= 2.0
    return float(np.exp(brentq(slope, low, high, xtol=1e-10)))


def with_bias(hidden: NDArray[np.floating[Any]]) -> Floats:
    """φ = (hidden, 1), along the last axis."""
    return np.concatenate([hidden, np.ones((*hidden.shape[:-1], 1))], axis=-1)


def _curvature(features: Floats, p: Floats, count: Floats) -> Floats:
    """Σ c p(1−p) φφᵀ."""
    return np.asarray((features * (count * p * (1.0 - p))[:, None]).T @ features)
