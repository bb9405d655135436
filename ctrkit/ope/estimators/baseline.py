"""Estimators that use the known mean of the weights, 1, to reduce variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import LoggedRows, register
from ctrkit.ope.estimators.doubly_robust import DoublyRobust, predictions
from ctrkit.ope.estimators.importance import InversePropensityScoring
from ctrkit.ope.intervals.moments import ONE, REWARD, TERM, WEIGHT, MomentColumns, Moments


@register
class OptimalBaseline(InversePropensityScoring):
    """mean(w r) - β* (mean(w) - 1), with β* = cov(w, w r) / var(w).

    Gupta, Jeunen, Oosterhuis and de Rijke, Optimal Baseline Corrections for Off-Policy Contextual Bandits,
    RecSys 2024, arXiv 2405.05736: it has the smallest variance of all unbiased estimators with a constant
    baseline β, w (r - β) + β. As weights have mean 1, β* also equals E[w (w - 1) r] / E[(w - 1)²]; with the
    covariance instead, a constant added to all rewards adds exactly that constant to the estimate. β* comes
    from the same rows, which costs a bias of O(1/n). The Cressie-Read interval is that of IPS, which makes
    the same correction.
    """

    name: ClassVar[str] = "beta-ips"

    @property
    def baseline(self) -> float:
        """β*."""
        return optimal_baseline(self.moments, TERM)

    def value(self) -> float:
        mean = self.moments.mean
        return float(mean @ TERM - self.baseline * (mean @ WEIGHT - 1))

    def direction(self) -> Floats:
        return np.asarray(TERM - self.baseline * WEIGHT)


@register
class DifferenceBaseline(OptimalBaseline):
    """mean(r) + mean((w - 1) (r - β*)), with β* = cov(w, (w - 1) r) / var(w).

    Gupta, Jeunen, Oosterhuis and Vasile, Δ-OPE: Off-Policy Estimation with Pairs of Policies, RecSys 2024,
    arXiv 2405.10024, whose Δβ-IPS of two policies is mean((w_1 - w_2) (r - β)). As E[w_1 - w_2] = 0, no β
    biases it. Its variance, E[(w_1 - w_2)² (r - β)²] minus a square without β, is smallest at
    β* = E[(w_1 - w_2)² r] / E[(w_1 - w_2)²]. Here the second policy is the logging one, w_2 = 1: of all
    estimators with a constant baseline this one has the difference of smallest variance, and `beta-ips` the
    value of smallest variance. `PolicyRanking` takes the β* of each pair. β* comes from covariances on the
    same rows, as in `beta-ips`.
    """

    name: ClassVar[str] = "delta-beta-ips"

    @property
    def baseline(self) -> float:
        """β*."""
        return optimal_baseline(self.moments, TERM - REWARD)


def optimal_baseline(moments: Moments, direction: Floats) -> float:
    """cov(w, g) / var(w) for g = direction · z: the β for which g - β w has the smallest variance.

    0 where all weights are equal, because then no baseline changes the variance.
    """
    mean = moments.mean
    # Both are centred first, so that rounding errors stay small.
    weight, other = (each - (mean @ each) * ONE for each in (WEIGHT, direction))
    variance = float(weight @ moments.rows @ weight)
    # Equal weights vary by rounding errors only.
    if variance <= 1e-12 * float(WEIGHT @ moments.rows @ WEIGHT):
        return 0.0
    return float(weight @ moments.rows @ other) / variance


@register
class SelfNormalizedDoublyRobust(DoublyRobust):
    """mean(Σ π(a) q(a)) + Σ w (r - q(a_logged)) / Σ w: doubly robust, its residuals self-normalised.

    Thomas and Brunskill, Data-Efficient Off-Policy Policy Evaluation, ICML 2016 (weighted doubly robust, for
    one step); Kallus and Uehara, Intrinsically Efficient, Stable, and Bounded Off-Policy Evaluation, NeurIPS
    2019. Its Cressie-Read interval is that of DR, which uses the mean of the weights too. The normal one
    assumes that this mean is 1, as it is under right propensities.
    """

    name: ClassVar[str] = "sndr"

    def __init__(self, reward_range: tuple[float, float] | None = None) -> None:
        super().__init__(reward_range)
        self.q_total = 0.0

    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        self.q_total += rows.total(predictions(rows)[1])
        return super().observe(rows)

    def join(self, other: Self) -> None:
        super().join(other)
        self.q_total += other.q_total

    def value(self) -> float:
        """The estimate from all rows so far; NaN where all weights are 0."""
        return self.q_total / self.moments.count + self._residual()

    def direction(self) -> Floats:
        return np.asarray(TERM - np.nan_to_num(self._residual()) * WEIGHT)

    def _residual(self) -> float:
        """Σ w (r - q) / Σ w."""
        mean = self.moments.mean
        weight = float(mean @ WEIGHT)
        return float(mean @ TERM - self.q_total / self.moments.count) / weight if weight > 0 else np.nan
