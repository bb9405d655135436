"""Slates with one reward to which their slots add up: the pseudo-inverse estimator."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.structured.slates import SlateRows, SlateStandardIPS


class _SignedWeights(InversePropensityScoring):
    """IPS whose weights may be below 0, though their mean is 1."""

    least_weight = 0.0

    def weight_range(self) -> tuple[float, ...]:
        return self.least_weight, 1.0, self.largest_weight


class _SelfNormalizedSignedWeights(_SignedWeights, SelfNormalizedInversePropensityScoring):
    """The same, divided by the mean weight."""


class SlatePseudoInverse(SlateStandardIPS):
    """mean((1 - L + Σ_l π(a_l | x) / μ(a_l | x)) Σ_l r_l), for slots that are filled independently.

    Swaminathan, Krishnamurthy, Agarwal, Dudík, Langford, Jose and Zitouni, Off-Policy Evaluation for Slate
    Recommendation, NeurIPS 2017, example 4: unbiased where the reward of the slate is a sum of functions of
    (x, slot, its action), in expectation, with a variance that grows with L and not exponentially. It needs
    no rewards by slot: put the slate's reward into any one slot, and 0 into the others.

    Args:
        slots: L.
        reward_range: the least and the largest reward of one slot; without it intervals are normal ones.
            For a reward of the slate as a whole, give its range divided by L.
        largest_weight: by default the largest seen.
    """

    name: ClassVar[str] = "pi"
    kind = _SignedWeights

    def __init__(
        self,
        slots: int,
        reward_range: tuple[float, float] | None = None,
        largest_weight: float | None = None,
    ) -> None:
        super().__init__(slots, reward_range, largest_weight)
        self.widen(slots)

    def widen(self, slots: int) -> None:
        super().widen(slots)
        if isinstance(self.estimator, _SignedWeights):
            self.estimator.least_weight = 1.0 - slots

    def weights(self, rows: SlateRows) -> Floats:
        return np.asarray(1 - self.slots + rows.marginal_ratios().sum(axis=1))


class SelfNormalizedSlatePseudoInverse(SlatePseudoInverse):
    """Σ w R / Σ w with the weights of `SlatePseudoInverse`. Swaminathan et al. 2017 (wPI)."""

    name: ClassVar[str] = "snpi"
    kind = _SelfNormalizedSignedWeights
