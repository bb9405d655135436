"""Logs of several logging policies: naive, balanced and weighted estimators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.estimators.base import Estimator, LoggedRows
from ctrkit.ope.estimators.doubly_robust import DoublyRobust
from ctrkit.ope.estimators.importance import InversePropensityScoring
from ctrkit.ope.estimators.reweighted import Reweighted
from ctrkit.ope.estimators.sums import VectorEstimator, check_propensities, check_row_shapes, check_shape
from ctrkit.ope.intervals.unit_sums import Keys


@dataclass(frozen=True)
class LoggingPolicyRows:
    """B rows of a log of J logging policies.

    Attributes:
        loggers: [B] index, from 0, of the logging policy that chose the action.
        logging: [B, J] each logging policy's probability of the logged action. Naive and weighted estimators
            read only that of the row's own logging policy; the others may be NaN for them.
        policy: [B] the evaluated policy's probability of the logged action.
        rewards: [B] the logged rewards.
        q_logged: [B] a reward model's prediction for the logged action.
        q_policy: [B] the mean of the predictions under the policy.
        users: [B] keys of users, the same in every batch and part. None: rows are independent.
        counts: [B] how many decisions each row stands for: 1, or more where similar rows were dropped.

    Raises:
        DataError: an array has the wrong shape, a logging policy is unknown, or the row's own logging policy
            gives the logged action no probability.
    """

    loggers: Integers
    logging: Floats
    policy: Floats
    rewards: Floats
    q_logged: Floats | None = None
    q_policy: Floats | None = None
    users: Keys | None = None
    counts: Floats = field(kw_only=True)

    def __post_init__(self) -> None:
        rows = len(self.loggers)
        check_shape("logging", self.logging, (rows, self.logging.shape[-1]))
        check_row_shapes(self, ("policy", "rewards", "q_logged", "q_policy", "users", "counts"), (rows,))
        known = (self.loggers >= 0) & (self.loggers < self.logging.shape[1])
        if not known.all():
            row = int(np.argmin(known))
            raise DataError(
                f"logging policy {self.loggers[row]} is not one of the {self.logging.shape[1]} of the log",
                column="loggers",
                row=row,
                hint="Number the logging policies from 0",
            )
        check_propensities("logging", self.own)

    @property
    def own(self) -> Floats:
        """[B] the probability with which the row's own logging policy chose the action."""
        return np.asarray(self.logging[np.arange(len(self.loggers)), self.loggers])


def logging_policy_shares(counts: Sequence[float] | Integers) -> Floats:
    """Each logging policy's share of the decisions, [J], from its number of decisions."""
    return np.asarray(counts, dtype=np.float64) / np.sum(counts)


class NaiveLoggingPolicies(Reweighted[LoggingPolicyRows]):
    """mean(π / μ_own r): each row is weighted by its own logging policy.

    Agarwal, Basu, Schnabel and Joachims, Effective Evaluation Using Logged Bandit Feedback from Multiple
    Loggers, KDD 2017. Unbiased where every logging policy supports the evaluated one. A single logging policy
    far from the evaluated one makes the variance large.
    """

    name: ClassVar[str] = "naive-ips"
    kind: ClassVar[type[Estimator]] = InversePropensityScoring

    def convert(self, rows: LoggingPolicyRows) -> LoggedRows:
        """The rows as the inner estimator sees them; the largest possible weight is the largest one seen."""
        return _weighted(rows, rows.policy / rows.own)


class NaiveLoggingPoliciesDoublyRobust(NaiveLoggingPolicies):
    """The doubly robust estimator, with each row weighted by its own logging policy.

    Kallus, Saito and Uehara, Optimal Off-Policy Evaluation from Multiple Logging Policies, ICML 2021.
    """

    name: ClassVar[str] = "naive-dr"
    kind = DoublyRobust


class BalancedLoggingPolicies(Reweighted[LoggingPolicyRows]):
    """mean(π / Σ_j ρ_j μ_j r), ρ_j the shares of the logging policies: they count as one mixture.

    Agarwal et al., KDD 2017: unbiased where some logging policy supports the evaluated one, and its variance
    is never above that of the naive estimator. Kallus, Saito and Uehara, ICML 2021, show that its doubly
    robust form is efficient. It is the default where all logging policies' probabilities of each action are
    known.

    Args:
        shares: [J] the logging policies' shares of the rows of the whole log (see `logging_policy_shares`). A
            log in parts needs them before its first row; they may also be the shares of the traffic split.
        reward_range: the smallest and the largest possible reward; without it intervals are normal.
        largest_weight: the largest weight that is possible; by default the largest one seen.

    Raises:
        ConfigError: the shares do not sum to 1.
    """

    name: ClassVar[str] = "balanced-ips"
    kind: ClassVar[type[Estimator]] = InversePropensityScoring

    def __init__(
        self,
        shares: Floats,
        reward_range: tuple[float, float] | None = None,
        largest_weight: float | None = None,
    ) -> None:
        super().__init__(reward_range, largest_weight)
        if not ((shares >= 0).all() and abs(float(shares.sum()) - 1) < 1e-9):
            raise ConfigError(
                "the logging policies' shares do not sum to 1", hint="Give shares that sum to 1"
            )
        self.shares = shares

    def convert(self, rows: LoggingPolicyRows) -> LoggedRows:
        """The rows as the inner estimator sees them; the largest possible weight is the largest one seen."""
        check_shape("logging", rows.logging, (len(rows.policy), len(self.shares)))
        mixed = rows.logging @ self.shares
        check_propensities("logging", mixed)
        return _weighted(rows, rows.policy / mixed)


class BalancedLoggingPoliciesDoublyRobust(BalancedLoggingPolicies):
    """Doubly robust, with the weights of `BalancedLoggingPolicies`. Kallus, Saito and Uehara 2021."""

    name: ClassVar[str] = "balanced-dr"
    kind = DoublyRobust


def _weighted(rows: LoggingPolicyRows, weights: Floats) -> LoggedRows:
    largest = max(1.0, float(weights.max(initial=0.0)))
    return LoggedRows(
        weights, rows.rewards, largest, rows.q_logged, rows.q_policy, rows.users, counts=rows.counts
    )


class WeightedLoggingPolicies(VectorEstimator[LoggingPolicyRows]):
    """Σ_j λ_j mean_j(π / μ_j r): the estimates of each logging policy, weighted by inverse variance.

    Agarwal et al., KDD 2017; Kallus, Saito and Uehara, ICML 2021; with variances estimated from the rows:
    λ_j ∝ n_j / var_j, var_j the variance (over n_j) of the terms of logging policy j. Unbiased for fixed λ.
    Estimated λ are correlated with the estimates: a logging policy with few clicks has both a low estimate
    and a low variance, and pulls the value down. So use it for logs with many clicks per logging policy. NaN
    where all terms of a logging policy are equal, for example without clicks.

    The interval is normal, by the delta method. It takes λ as given: λ sums to 1 and all means have the same
    expectation, so a change of λ moves the value by less than the means differ.

    Args:
        loggers: the number J of logging policies. The rows need only the probabilities of their own logging
            policy.
    """

    name: ClassVar[str] = "weighted-ips"

    def __init__(self, loggers: int) -> None:
        # z: 1; whose row it is [J]; its whole term [J]; the weighted part of it [J]; the other part; reward.
        super().__init__(3 * loggers + 3)
        self.loggers = loggers

    def parts(self, rows: LoggingPolicyRows) -> tuple[Floats, Floats]:
        """The parts of each row's term with and without the weight λ, [B] each."""
        return rows.policy / rows.own * rows.rewards, np.zeros(len(rows.rewards))

    def vectors(self, rows: LoggingPolicyRows) -> Floats:
        check_shape("logging", rows.logging, (len(rows.policy), self.loggers))
        mine = np.equal.outer(np.arange(self.loggers), rows.loggers).astype(np.float64)
        weighted, plain = self.parts(rows)
        one = np.ones((1, len(plain)))
        z = [one, mine, mine * (weighted + plain), mine * weighted, plain[None], rows.rewards[None]]
        return np.concatenate(z)

    def _blocks(self) -> tuple[Floats, Floats, Floats]:
        """Each logging policy's rows n_j, mean weighted part and λ_j, [J] each; 0 without rows."""
        j = self.loggers
        whose, whole, part = (slice(1 + at * j, 1 + (at + 1) * j) for at in range(3))
        count, total = self.sums.rows[0, whose], self.sums.rows[0, whole]
        square = np.diag(self.sums.rows)[whole]
        there = count > 0
        rows = np.where(there, count, 1.0)
        variance = square / rows - (total / rows) ** 2
        # The variance of equal terms is a rounding error.
        variance[variance <= 1e-14 * square / rows] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(there, count / variance, 0.0)
            return count, self.sums.rows[0, part] / rows, precision / precision.sum()

    def value(self) -> float:
        """The estimate; NaN where all terms of a logging policy are equal."""
        _, means, shares = self._blocks()
        return float(shares @ means + self.sums.mean[-2])

    def direction(self) -> Floats:
        count, means, shares = self._blocks()
        # d(Σ weighted / Σ mine) of each logging policy; n_j / n are the means of `mine`.
        slope = shares * self.sums.rows[0, 0] / np.where(count > 0, count, 1.0)
        return np.concatenate([[0.0], -slope * means, 0 * slope, slope, [1.0, 0.0]])

    def reward(self) -> Floats:
        return np.asarray(np.eye(len(self.sums.rows))[-1])


class WeightedLoggingPoliciesDoublyRobust(WeightedLoggingPolicies):
    """mean(q(π)) + Σ_j λ_j mean_j(π / μ_j (r - q)), λ_j by the variance of q(π) + π / μ_j (r - q).

    Kallus, Saito and Uehara, ICML 2021, in the form of obp: contexts have the same distribution under all
    logging policies, so the model's part is averaged over all rows.
    """

    name: ClassVar[str] = "weighted-dr"

    def parts(self, rows: LoggingPolicyRows) -> tuple[Floats, Floats]:
        if rows.q_logged is None or rows.q_policy is None:
            raise ValueError("this estimator needs q_logged and q_policy of a reward model")
        return rows.policy / rows.own * (rows.rewards - rows.q_logged), rows.q_policy
