"""Estimators that reweight the logged rewards, without a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows, View, WeightedEstimator, register
from ctrkit.ope.intervals.moments import ONE, REWARD, TERM, WEIGHT, MomentColumns, Moments


@register
class InversePropensityScoring(WeightedEstimator):
    """mean(w r): unbiased where propensities are right and positive for every action of the policy.

    Horvitz and Thompson, A Generalization of Sampling Without Replacement From a Finite Universe, 1952.
    """

    name: ClassVar[str] = "ips"

    def terms(self, rows: LoggedRows) -> Floats:
        return rows.weighted_rewards

    def unseen_terms(self, weight: float, reward: float) -> tuple[float, float]:
        return weight * reward, weight * reward


@register
class SelfNormalizedInversePropensityScoring(InversePropensityScoring):
    """Σ w r / Σ w: biased by O(1/n), with less variance, and never outside the reward range.

    Swaminathan and Joachims, The Self-Normalized Estimator for Counterfactual Learning, NeurIPS 2015. Its
    Cressie-Read interval is that of IPS, which uses the mean of the weights too.
    """

    name: ClassVar[str] = "snips"

    def value(self) -> float:
        """The estimate from all rows so far; NaN where all weights are 0."""
        mean = self.moments.mean
        return float(mean @ TERM / (mean @ WEIGHT)) if mean @ WEIGHT > 0 else np.nan

    def direction(self) -> Floats:
        mean_weight = self.moments.mean @ WEIGHT
        return np.asarray((TERM - self.value() * WEIGHT) / mean_weight) if mean_weight > 0 else TERM


@register
class Balanced(InversePropensityScoring):
    """mean(w r) with w from a classifier that separates the policy's choices from the logged ones.

    Sondhi, Arbour and Dimmery, Balanced Off-Policy Evaluation in General Action Spaces, AISTATS 2020. It uses
    no propensities. It has the bias of the classifier, which the interval does not include (see
    `ctrkit.ope.models.density_ratio`).
    """

    name: ClassVar[str] = "balanced"
    view: ClassVar[View] = "balanced"
    given: ClassVar[str | None] = "the weights' model"


class OnPolicy(WeightedEstimator):
    """mean(r): the value of the logging policy itself, for which every weight is 1."""

    name: ClassVar[str] = "on-policy"

    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        return super().observe(
            LoggedRows.of_logging(rows.rewards, counts=rows.counts, users=rows.users, units=rows.units)
        )

    def terms(self, rows: LoggedRows) -> Floats:
        return rows.rewards

    def weight_range(self) -> tuple[float, ...]:
        return (1.0,)

    def unseen_terms(self, weight: float, reward: float) -> tuple[float, float]:
        return reward, reward


def logging_value(estimator: Estimator, confidence: float) -> Estimate:
    """The logging policy's value on the rows that an estimator has seen."""
    found = OnPolicy(estimator.reward_range)
    found.moments = logging_moments(estimator.moments)
    found.largest_weight = 1.0
    return found.result(confidence)


def logging_moments(moments: Moments) -> Moments:
    """The moments for the logging policy: its rewards are the terms, and all weights are 1."""
    return moments.projected(np.stack([ONE, ONE, REWARD, REWARD]))
