"""Weights made smaller: functions h(w) that trade the variance of large importance weights for a bias."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.settings import check

# Thresholds to choose from: three to a power of ten, and at last none.
THRESHOLDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 1e5, np.inf)


@dataclass(frozen=True)
class Shrinkage(ABC):
    """h: [B] weights -> [B] shrunk weights, with h(0) = 0, rising up to `peak` and 0 or falling from there.

    Attributes:
        strength: λ or τ, see the class.
        grid: the strengths that a rule chooses from.
        bounds: of a strength.

    Raises:
        ConfigError: for a strength out of range.
    """

    strength: float
    grid: ClassVar[tuple[float, ...]] = THRESHOLDS

    bounds: ClassVar[Any] = Annotated[float, Field(gt=0)]

    def __post_init__(self) -> None:
        check(self.bounds, self.strength, "the strength with which weights are shrunk")

    @abstractmethod
    def __call__(self, weights: Floats) -> Floats:
        """h(w) [B]."""

    @property
    def peak(self) -> float:
        """The least weight that no shrunk weight surpasses; infinite where h keeps rising."""
        return self.strength

    @property
    def shrinks(self) -> bool:
        """Whether any weight changes."""
        return self.strength < np.inf


class Clip(Shrinkage):
    """min(w, λ).

    Ionides, Truncated Importance Sampling, 2008. In the doubly robust estimator the pessimistic shrinkage of
    Su, Dimakopoulou, Krishnamurthy and Dudík, Doubly Robust Off-Policy Evaluation with Shrinkage, ICML 2020.
    """

    def __call__(self, weights: Floats) -> Floats:
        return np.minimum(weights, self.strength)


class Switch(Shrinkage):
    """w where w <= τ, else 0: rows of larger weight are left to the reward model.

    Wang, Agarwal and Dudík, Optimal and Adaptive Off-Policy Evaluation in Contextual Bandits, ICML 2017.
    """

    def __call__(self, weights: Floats) -> Floats:
        return np.where(weights <= self.strength, weights, 0.0)


class Optimistic(Shrinkage):
    """λ w / (w² + λ): half of a weight of √λ is kept, and of larger weights next to nothing.

    Su et al. 2020 (see `Clip`), the shrinkage that is best under a bound of the squared error which takes
    the reward model to be good.
    """

    grid: ClassVar[tuple[float, ...]] = tuple(threshold**2 for threshold in THRESHOLDS)

    def __call__(self, weights: Floats) -> Floats:
        # Divided through by λ, so that an infinite λ leaves the weights as they are.
        return np.asarray(weights / (1 + weights**2 / self.strength))

    @property
    def peak(self) -> float:
        return float(np.sqrt(self.strength))


class Harmonic(Shrinkage):
    """w / (1 - λ + λ w), 0 <= λ < 1: weights above 1 shrink, to at most 1/λ, and those below 1 grow.

    Metelli, Russo and Restelli, Subgaussian and Differentiable Importance Sampling for Off-Policy Evaluation
    and Learning, NeurIPS 2021: the harmonic mean of w and 1 (s = -1 there), which makes errors sub-Gaussian.
    """

    grid: ClassVar[tuple[float, ...]] = (
        *(0.0, 1e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3),
        *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    )

    bounds: ClassVar[Any] = Annotated[float, Field(ge=0, lt=1)]

    def __call__(self, weights: Floats) -> Floats:
        return np.asarray(weights / (1 - self.strength + self.strength * weights))

    @property
    def peak(self) -> float:
        return np.inf

    @property
    def shrinks(self) -> bool:
        return self.strength > 0
