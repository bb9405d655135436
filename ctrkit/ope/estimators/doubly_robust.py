"""Estimators that use a reward model: the direct method and the doubly robust method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import Estimator, LoggedRows, View, WeightedEstimator, register
from ctrkit.ope.intervals.moments import MomentColumns


def predictions(rows: LoggedRows) -> tuple[Floats, Floats]:
    """q of the logged action and of the policy, [B] each."""
    if rows.q_logged is None or rows.q_policy is None:
        raise ValueError("this estimator needs q_logged and q_policy of a reward model")
    return rows.q_logged, rows.q_policy


@register
class DirectMethod(Estimator):
    """mean(Σ π(a) q(a)): the expected reward of the policy under the reward model.

    It has the bias of the model. The interval covers the variance over contexts only and takes the model as
    given.
    """

    name: ClassVar[str] = "dm"
    needs_reward_model: ClassVar[bool] = True
    given: ClassVar[str | None] = "the reward model"

    def terms(self, rows: LoggedRows) -> Floats:
        return predictions(rows)[1]


@register
class DoublyRobust(WeightedEstimator):
    """mean(Σ π(a) q(a) + w (r - q(a_logged))): the direct method, its bias corrected by reweighted residuals.

    Dudík, Langford and Li, Doubly Robust Policy Evaluation and Learning, ICML 2011. Unbiased under right
    propensities whatever the model, if each row's q comes from a model that has not seen the row's user.
    """

    name: ClassVar[str] = "dr"
    needs_reward_model: ClassVar[bool] = True

    def __init__(self, reward_range: tuple[float, float] | None = None) -> None:
        super().__init__(reward_range)
        # Least and largest q_logged and q_policy.
        self.least_q = np.full(2, np.inf)
        self.largest_q = np.full(2, -np.inf)

    def terms(self, rows: LoggedRows) -> Floats:
        q_logged, q_policy = predictions(rows)
        return q_policy + rows.weights * (rows.rewards - q_logged)

    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        q = np.stack(predictions(rows))
        self._widen(q.min(axis=1), q.max(axis=1))
        return super().observe(rows)

    def join(self, other: Self) -> None:
        super().join(other)
        self._widen(other.least_q, other.largest_q)

    def _widen(self, least: Floats, largest: Floats) -> None:
        self.least_q = np.minimum(self.least_q, least)
        self.largest_q = np.maximum(self.largest_q, largest)

    def unseen_terms(self, weight: float, reward: float) -> tuple[float, float]:
        """The bounds over all pairs of predictions seen, because an unseen row may have any of them."""
        return (
            float(self.least_q[1] + weight * (reward - self.largest_q[0])),
            float(self.largest_q[1] + weight * (reward - self.least_q[0])),
        )


@register
class MoreRobustDoublyRobust(DoublyRobust):
    """The doubly robust estimator with the reward model that minimises its variance.

    Farajtabar, Chow and Ghavamzadeh, More Robust Doubly Robust Off-policy Evaluation, ICML 2018: the model is
    fitted to the log for this one policy, each row weighted by what its residual adds to the variance. See
    `ctrkit.ope.models.reward_model`.
    """

    name: ClassVar[str] = "mrdr"
    view: ClassVar[View] = "more robust"
