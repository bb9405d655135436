"""Many actions that share features: weights of features in place of weights of actions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows, WeightedEstimator
from ctrkit.ope.estimators.doubly_robust import DoublyRobust
from ctrkit.ope.estimators.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.estimators.reweighted import Reweighted
from ctrkit.ope.estimators.sums import check_propensities, check_shape
from ctrkit.ope.estimators.weights import WeightTail
from ctrkit.ope.intervals.unit_sums import Keys


@dataclass(frozen=True)
class FeatureRows:
    """B rows of a log with K candidates each, whose features are known.

    Attributes:
        rewards: [B].
        policy: [B, K] the policy's probabilities of the candidates; 0 where there is none.
        logging: [B, K] the logging policy's.
        likelihood: [B, K] p(e | a): the probability that candidate a shows the feature e of the logged
            action. 1 or 0 where a feature is a function of the action (see `of_features`).
        features: [B, K] codes from 0 of the candidates' features, where they are a function of the action.
        q_logged: [B] a reward model's prediction for the logged action.
        q_policy: [B] its mean under the policy.
        users: [B] keys, the same of a user in all batches and parts. None: rows are independent.
        counts: [B] how many decisions each row stands for: 1, but where others like it were dropped.

    Raises:
        DataError: for arrays of other shapes, and a logged feature that the logging policy never shows.
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
        rows = len(self.rewards)
        for name in ("logging", "likelihood", "features"):
            array = getattr(self, name)
            if array is not None:
                check_shape(name, array, self.policy.shape)
        for name in ("q_logged", "q_policy", "users", "counts"):
            array = getattr(self, name)
            if array is not None:
                check_shape(name, array, (rows,))
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
            features: [B, K] codes from 0; places without a candidate may hold any.
            action: [B] the place of the logged action among the candidates.
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
        """Both policies' probabilities of every feature, [B, E] each; None where features are drawn."""
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
    Unbiased where the action acts on the reward through its features alone, and the logging policy shows
    every feature that the policy shows. Otherwise biased by what actions of one feature differ in, which no
    interval here contains; that is the price for the variance of few features in place of many actions.

    Args:
        reward_range: see `Reweighted`.
        largest_weight: the largest weight to reckon with; by default the weight tail of the features (see
            `ctrkit.ope.estimators.weights`) where they are a function of the action, else the largest seen.
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
        """See `Reweighted`; the largest weight is settled in `result`, when the tail is whole."""
        weights, by_feature = rows.weights, rows.by_feature()
        if by_feature is not None:
            self.tail.update(*by_feature, rows.counts)
        else:
            self.largest_seen = max(self.largest_seen, float(weights.max(initial=0.0)))
        return LoggedRows(
            weights, rows.rewards, 1.0, rows.q_logged, rows.q_policy, rows.users, counts=rows.counts
        )

    def merge(self, other: Self) -> None:
        """See `Reweighted`."""
        super().merge(other)
        self.tail.merge(other.tail)
        self.largest_seen = max(self.largest_seen, other.largest_seen)

    def result(self, confidence: float = 0.95) -> Estimate:
        """See `Reweighted`."""
        if isinstance(self.estimator, WeightedEstimator):
            tail = self.tail.largest if len(self.tail.weights) else 0.0
            self.estimator.largest_weight = max(self.largest_seen, tail)
        return super().result(confidence)


class SelfNormalizedMarginalized(MarginalizedInversePropensityScoring):
    """Σ w(x, e) r / Σ w(x, e). Saito and Joachims 2022, with the normalisation of SNIPS."""

    name: ClassVar[str] = "snmips"
    kind = SelfNormalizedInversePropensityScoring


class OffCEM(MarginalizedInversePropensityScoring):
    """mean(Σ π(a) f(x, a) + w(x, c) (r - f(x, a_logged))), c the cluster of the logged action.

    Saito, Ren and Joachims, Off-Policy Evaluation for Large Action Spaces via Conjunct Effect Modeling, ICML
    2023: weights of clusters see to what clusters have in common, the model f to what actions of one cluster
    differ in. Unbiased under local correctness: f is right up to a constant a context and cluster. So f may
    be far off as a model of rewards; it needs the differences within a cluster only, such as from a
    regression on the differences between rows of one cluster. f must not have seen the row's user
    (cross-fitting).

    The rows need q_logged and q_policy, f at the logged action and its mean under the policy.
    """

    name: ClassVar[str] = "offcem"
    kind = DoublyRobust
