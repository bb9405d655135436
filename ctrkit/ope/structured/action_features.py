"""Estimators for many actions: weights of shared features instead of weights of actions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows, WeightedEstimator
from ctrkit.ope.estimators.doubly_robust import DoublyRobust
from ctrkit.ope.estimators.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.estimators.reweighted import Reweighted
from ctrkit.ope.estimators.sums import check_propensities, check_row_shapes
from ctrkit.ope.estimators.weights import WeightTail
from ctrkit.ope.intervals.unit_sums import Keys


@dataclass(frozen=True)
class FeatureRows:
    """B rows of a log with K candidates each, whose features are known.

    Attributes:
        rewards: [B] the logged rewards.
        policy: [B, K] the policy's probabilities of the candidates; 0 where there is no candidate.
        logging: [B, K] the logging policy's probabilities of the candidates.
        likelihood: [B, K] p(e | a): the probability that candidate a shows the feature e of the logged
            action. 1 or 0 where a feature is a function of the action (see `of_features`).
        features: [B, K] codes from 0 of the candidates' features, where they are a function of the action.
        q_logged: [B] a reward model's prediction for the logged action.
        q_policy: [B] the mean of the predictions under the policy.
        users: [B] keys of users, the same in every batch and part. None: rows are independent.
        counts: [B] how many decisions each row stands for: 1, or more where similar rows were dropped.

    Raises:
        DataError: an array has the wrong shape, or a logged feature has probability 0 under the logging
            policy.
    """

    rewards: Floats
    policy: Floats
    logging: Floats
    likelihood: Floats
    features: Integers | None = None
    q_logged: Floats | None = None
    q_policy: Floats | None = None
    users: Keys | None = None
    counts: Floats = field(kw_only=True)

    def __post_init__(self) -> None:
        check_row_shapes(self, ("logging", "likelihood", "features"), self.policy.shape)
        check_row_shapes(self, ("q_logged", "q_policy", "users", "counts"), (len(self.rewards),))
        check_propensities("logging", (self.logging * self.likelihood).sum(axis=1))

    @classmethod
    def of_features(
        cls,
        rewards: Floats,
        policy: Floats,
        logging: Floats,
        features: Integers,
        action: Integers,
        q_logged: Floats | None = None,
        q_policy: Floats | None = None,
        users: Keys | None = None,
        *,
        counts: Floats,
    ) -> Self:
        """Rows whose candidates have one feature each, such as a cluster or category.

        Args:
            features: [B, K] codes from 0; arbitrary where there is no candidate.
            action: [B] index of the logged action among the candidates.
        """
        shown = np.take_along_axis(features, action[:, None], axis=1)
        likelihood = (features == shown).astype(np.float64)
        return cls(rewards, policy, logging, likelihood, features, q_logged, q_policy, users, counts=counts)

    @property
    def weights(self) -> Floats:
        """w(x, e) = Σ_a π(a) p(e | a) / Σ_a μ(a) p(e | a), [B]."""
        shown = (self.policy * self.likelihood).sum(axis=1)
        return np.asarray(shown / (self.logging * self.likelihood).sum(axis=1))

    def by_feature(self) -> tuple[Floats, Floats] | None:
        """Both policies' probabilities of every feature, [B, E] each; None where features are random."""
        if self.features is None:
            return None
        rows, width = len(self.rewards), int(self.features.max(initial=0)) + 1
        place = (np.arange(rows)[:, None] * width + self.features).ravel()

        def total(probabilities: Floats) -> Floats:
            sums = np.bincount(place, probabilities.ravel(), rows * width)
            return sums.astype(np.float64).reshape(rows, width)

        return total(self.policy), total(self.logging)


class MarginalizedInversePropensityScoring(Reweighted[FeatureRows]):
    """MIPS, mean(w(x, e) r), w(x, e) = p(e | x, π) / p(e | x, μ).

    Saito and Joachims, Off-Policy Evaluation for Large Action Spaces via Embeddings, ICML 2022.
    Unbiased if the action affects the reward only through its features, and the logging policy shows every
    feature that the policy shows. Otherwise it has a bias, from differences between actions with the same
    features, that its intervals do not include. In return its variance is that of few features, not of many
    actions.

    Args:
        reward_range: the smallest and the largest possible reward; without it intervals are normal.
        largest_weight: the largest weight that is possible. The default is the weight tail of the features
            (see `ctrkit.ope.estimators.weights`) where they are a function of the action, else the largest
            seen.
    """

    name: ClassVar[str] = "mips"
    kind: ClassVar[type[Estimator]] = InversePropensityScoring

    def __init__(
        self, reward_range: tuple[float, float] | None = None, largest_weight: float | None = None
    ) -> None:
        super().__init__(reward_range, largest_weight)
        self.tail = WeightTail()
        self.largest_seen = 1.0

    def convert(self, rows: FeatureRows) -> LoggedRows:
        """The rows as the inner estimator sees them; `result` sets the largest weight."""
        weights, by_feature = rows.weights, rows.by_feature()
        if by_feature is not None:
            self.tail.update(*by_feature, rows.counts)
        else:
            self.largest_seen = max(self.largest_seen, float(weights.max(initial=0.0)))
        return LoggedRows(
            weights, rows.rewards, 1.0, rows.q_logged, rows.q_policy, rows.users, counts=rows.counts
        )

    def merge(self, other: Self) -> None:
        super().merge(other)
        self.tail.merge(other.tail)
        self.largest_seen = max(self.largest_seen, other.largest_seen)

    def result(self, confidence: float = 0.95) -> Estimate:
        if isinstance(self.estimator, WeightedEstimator):
            tail = self.tail.largest if len(self.tail.weights) else 0.0
            self.estimator.largest_weight = max(self.largest_seen, tail)
        return super().result(confidence)


class SelfNormalizedMarginalized(MarginalizedInversePropensityScoring):
    """Σ w(x, e) r / Σ w(x, e): MIPS of Saito and Joachims 2022, normalised as SNIPS."""

    name: ClassVar[str] = "snmips"
    kind = SelfNormalizedInversePropensityScoring


class OffCEM(MarginalizedInversePropensityScoring):
    """mean(Σ π(a) f(x, a) + w(x, c) (r - f(x, a_logged))), c the cluster of the logged action.

    Saito, Ren and Joachims, Off-Policy Evaluation for Large Action Spaces via Conjunct Effect Modeling, ICML
    2023: the weights correct the effect of the cluster, and the model f the differences between actions of
        one
    cluster. Unbiased under local correctness: f is right up to a constant per context and cluster. So f may
    be a poor model of rewards; only its differences within a cluster must be right. f must not have been
    fitted on rows of the row's user (cross-fitting).

    The rows need q_logged, f at the logged action, and q_policy, the mean of f under the policy.
    """

    name: ClassVar[str] = "offcem"
    kind = DoublyRobust
