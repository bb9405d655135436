"""Laplace posterior of a network's last layer: how sure a model is, from one matrix and no retraining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve, cholesky, eigvalsh, solve_triangular
from scipy.optimize import brentq
from scipy.special import expit, log_expit

from ctrkit.errors import DataError, RunError

Floats: TypeAlias = NDArray[np.float64]

_NEWTON_STEPS = 50
# Newton's decrement estimates how far the objective is above its minimum, in nats.
_CLOSE = 1e-12


@dataclass(frozen=True)
class LastLayerPosterior:
    """w ~ N(mean, precision⁻¹) for the logit φ·w of a click, where φ = (hidden, 1).

    The last layer of a network with a log loss is a logistic regression on what it reads, so the Laplace
    approximation costs one matrix: H = Σ p(1−p) φφᵀ + τI over the training rows.

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
    ) -> LastLayerPosterior:
        """The posterior around trained weights.

        Args:
            hidden: [N, D], what the last layer read on the training rows.
            weight: [D] and bias: the trained last layer, of the click logit.
            prior_precision: τ of the prior N(0, 1/τ) on each weight; by default the τ of the highest
                marginal likelihood (see `evidence_precision`). The bias has a flat prior: the rate of
                clicks says nothing of the size of weights.

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
            raise DataError("hidden values or weights are not finite", mend="Train the model again")
        curvature = _curvature(features, features @ mean)
        tau = evidence_precision(curvature, mean) if prior_precision is None else prior_precision
        prior = np.append(np.full(len(mean) - 1, tau), 0.0)
        return cls(mean, curvature + np.diag(prior))

    def centred(self) -> LastLayerPosterior:
        """The posterior of the deviation from the mean."""
        return LastLayerPosterior(np.zeros_like(self.mean), self.precision)

    def sample(self, rng: np.random.Generator, size: int) -> Floats:
        """Draws of the weights, [size, D + 1], weights and then the bias."""
        # precision = L Lᵀ, so L⁻ᵀ ε has the covariance precision⁻¹.
        noise = solve_triangular(
            self._factor(), rng.standard_normal((size, len(self.mean))).T, trans="T", lower=True
        )
        return np.asarray(self.mean + noise.T)

    def score_moments(self, hidden: ArrayLike) -> tuple[Floats, Floats]:
        """Mean and deviation of the logit for hidden [..., D], each [...]."""
        features = with_bias(np.asarray(hidden, np.float64))
        return features @ self.mean, self.deviation(features)

    def deviation(self, features: Floats) -> Floats:
        """The deviation of features · w, [...], for features [..., D + 1]."""
        flat = features.reshape(-1, features.shape[-1])
        whitened = solve_triangular(self._factor(), flat.T, lower=True)
        return np.asarray(np.sqrt((whitened**2).sum(axis=0)).reshape(features.shape[:-1]))

    def update(
        self, hidden: ArrayLike, clicks: ArrayLike, offset: ArrayLike | None = None
    ) -> LastLayerPosterior:
        """The Laplace posterior after more clicks, with this one as the prior.

        The new mean minimises  ½(w − m)ᵀΛ(w − m) − Σ log p(click | φ·w + offset)  (Newton's method, with
        halved steps where needed), and the new precision is Λ + Σ p(1−p) φφᵀ there.

        Args:
            hidden: [N, D]; clicks: [N], 0 or 1; offset: [N], a known part of the logit.

        Raises:
            DataError: a hidden value that is not finite.
            RunError: when Newton's method does not settle.
        """
        features = with_bias(np.asarray(hidden, np.float64))
        if not np.isfinite(features).all():
            raise DataError("hidden values are not finite", mend="Train the model again")
        sign = 2.0 * np.asarray(clicks, np.float64) - 1.0
        fixed = np.zeros(len(features)) if offset is None else np.asarray(offset, np.float64)
        mean, precision = self.mean, self.precision

        def objective(w: Floats) -> float:
            away = w - mean
            return float(0.5 * away @ precision @ away - log_expit(sign * (features @ w + fixed)).sum())

        weight = mean
        value = objective(weight)
        for _ in range(_NEWTON_STEPS):
            logits = features @ weight + fixed
            gradient = precision @ (weight - mean) - features.T @ (sign * expit(-sign * logits))
            curvature = precision + _curvature(features, logits)
            step = cho_solve((cholesky(curvature, lower=True), True), gradient)
            decrement = float(gradient @ step)
            if decrement < _CLOSE * max(1.0, abs(value)):
                return LastLayerPosterior(weight, curvature)
            scale = 1.0
            while (moved := objective(weight - scale * step)) > value - 1e-4 * scale * decrement:
                scale /= 2
                if scale < 1e-8:  # rounding, not the step, decides: the minimum is reached
                    return LastLayerPosterior(weight, curvature)
            weight, value = weight - scale * step, moved
        raise RunError("the posterior's update did not settle; are the hidden values of a sane size")

    def state(self) -> dict[str, Floats]:
        """Plain arrays."""
        return {"mean": self.mean, "precision": self.precision}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LastLayerPosterior:
        """The inverse of `state`."""
        return cls(np.asarray(state["mean"], np.float64), np.asarray(state["precision"], np.float64))

    def _factor(self) -> Floats:
        return np.asarray(cholesky(self.precision, lower=True))


def evidence_precision(curvature: ArrayLike, mean: ArrayLike) -> float:
    """The prior precision τ of the weights that maximises the Laplace marginal likelihood.

    With a flat prior on the bias, the evidence is, up to a constant, ½ d log τ − ½ τ‖w‖² − ½ log det(S + τI),
    S being the Schur complement of the bias in the curvature. It has one maximum, where γ(τ) = τ‖w‖²
    with γ = Σ λ/(λ + τ), the number of well-determined weights (MacKay 1992, eq. 4.8).

    Args:
        curvature: [D + 1, D + 1], Σ p(1−p) φφᵀ without the prior; mean: [D + 1], the bias last.

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
            mend="Give prior_precision",
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


def with_bias(hidden: Floats) -> Floats:
    """φ = (hidden, 1), along the last axis."""
    return np.concatenate([hidden, np.ones((*hidden.shape[:-1], 1))], axis=-1)


def _curvature(features: Floats, logits: Floats) -> Floats:
    """Σ p(1−p) φφᵀ."""
    p = expit(logits)
    return np.asarray((features * (p * (1.0 - p))[:, None]).T @ features)
