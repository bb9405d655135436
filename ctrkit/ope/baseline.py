"""Estimators that make use of the weights' mean, known to be 1, to take out variance."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from ctrkit.ope.base import LoggedRows
from ctrkit.ope.doubly_robust import DoublyRobust, predictions
from ctrkit.ope.importance import InversePropensityScoring
from ctrkit.ope.moments import ONE, TERM, WEIGHT, Floats


class OptimalBaseline(InversePropensityScoring):
    """mean(w r) - β* (mean(w) - 1), with β* = cov(w, w r) / var(w).

    Gupta, Jeunen, Oosterhuis and de Rijke, Optimal Baseline Corrections for Off-Policy Contextual Bandits,
    RecSys 2024, arXiv 2405.05736: of all unbiased estimators with a constant baseline β, w (r - β) + β, the
    one of least variance. As weights have mean 1, β* is E[w (w - 1) r] / E[(w - 1)²] as well; with the
    covariance in its place a constant added to all rewards comes back whole. β* comes from the same rows,
    which costs a bias of O(1/n). Its Cressie-Read interval is that of IPS, which makes the same correction.
    """

    name: ClassVar[str] = "beta-ips"

    @property
    def baseline(self) -> float:
        """β*; 0 where all weights are alike, as then no baseline changes the spread."""
        moments = self.moments
        variance = self._covariance(WEIGHT)
        # Weights that are all alike vary by rounding errors only.
        if variance <= 1e-12 * float(WEIGHT @ moments.rows @ WEIGHT) / moments.count:
            return 0.0
        return self._covariance(TERM) / variance

    def value(self) -> float:
        """See `Estimator`."""
        mean = self.moments.mean
        return float(mean @ TERM - self.baseline * (mean @ WEIGHT - 1))

    def direction(self) -> Floats:
        """See `Estimator`."""
        return np.asarray(TERM - self.baseline * WEIGHT)

    def _covariance(self, direction: Floats) -> float:
        """Of the weight with direction · z; both centred first, so that little cancels."""
        mean = self.moments.mean
        weight = WEIGHT - (mean @ WEIGHT) * ONE
        other = direction - (mean @ direction) * ONE
        return float(weight @ self.moments.rows @ other) / self.moments.count


class SelfNormalizedDoublyRobust(DoublyRobust):
    """mean(Σ π(a) q(a)) + Σ w (r - q(a_logged)) / Σ w: doubly robust, its residuals self-normalised.

    Thomas and Brunskill, Data-Efficient Off-Policy Policy Evaluation, ICML 2016 (weighted doubly robust, for
    one step); Kallus and Uehara, Intrinsically Efficient, Stable, and Bounded Off-Policy Evaluation, NeurIPS
    2019. Its Cressie-Read interval is that of DR, which makes use of the weights' mean as well; the normal
    one holds where that mean is 1, as it is under right propensities.
    """

    name: ClassVar[str] = "sndr"

    def __init__(self, reward_range: tuple[float, float] | None = None) -> None:
        super().__init__(reward_range)
        self.q_total = 0.0

    def update(self, rows: LoggedRows) -> None:
        """See `Estimator`."""
        super().update(rows)
        self.q_total += rows.total(predictions(rows)[1])

    def merge(self, other: Self) -> None:
        """See `Estimator`."""
        super().merge(other)
        self.q_total += other.q_total

    def value(self) -> float:
        """See `Estimator`; NaN where all weights are 0."""
        return self.q_total / self.moments.count + self._residual()

    def direction(self) -> Floats:
        """See `Estimator`."""
        return np.asarray(TERM - np.nan_to_num(self._residual()) * WEIGHT)

    def _residual(self) -> float:
        """Σ w (r - q) / Σ w."""
        mean = self.moments.mean
        weight = float(mean @ WEIGHT)
        return float(mean @ TERM - self.q_total / self.moments.count) / weight if weight > 0 else np.nan
