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
from ctrkit.ope.estimators.sums import VectorEstimator, check_propensities, check_shape
from ctrkit.ope.intervals.unit_sums import Keys


@dataclass(frozen=True)
class LoggerRows:
    """B rows of a log that J logging policies wrote.

    Attributes:
        loggers: [B] which of them chose the row's action, from 0.
        logging: [B, J] the probability with which each of them would have chosen it. Naive and weighted
            estimators look at the row's own logger only; the others' may be NaN for them.
        policy: [B] the policy's probability of it.
        rewards: [B].
        q_logged: [B] a reward model's prediction for the logged action.
        q_policy: [B] its mean under the policy.
        users: [B] keys, the same of a user in all batches and parts. None: rows are independent.
        counts: [B] how many decisions each row stands for: 1, but where others like it were dropped.

    Raises:
        DataError: for arrays of other shapes, an unknown logger, and an action to which its own logger gives
            no probability.
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
        for name in ("policy", "rewards", "q_logged", "q_policy", "users", "counts"):
            array = getattr(self, name)
            if array is not None:
                check_shape(name, array, (rows,))
        known = (self.loggers >= 0) & (self.loggers < self.logging.shape[1])
        if not known.all():
            row = int(np.argmin(known))
            raise DataError(
                f"logger {self.loggers[row]} is none of the {self.logging.shape[1]} loggers",
                column="loggers",
                row=row,
                hint="Number the loggers from 0",
            )
        check_propensities("logging", self.own)

    @property
    def own(self) -> Floats:
        """[B] the probability with which the row's own logger chose the action."""
        return np.asarray(self.logging[np.arange(len(self.loggers)), self.loggers])


def logger_shares(counts: Sequence[float] | Integers) -> Floats:
    """Each logger's share of the decisions, [J], from their numbers, which add up over the parts of a log."""
    return np.asarray(counts, dtype=np.float64) / np.sum(counts)


class NaiveLoggers(Reweighted[LoggerRows]):
    """mean(π / μ_own r): each row weighted by its own logger.

    Agarwal, Basu, Schnabel and Joachims, Effective Evaluation Using Logged Bandit Feedback from Multiple
    Loggers, KDD 2017. Unbiased where every logger supports the policy; one logger far from the
    policy spoils the variance of all.
    """

    name: ClassVar[str] = "naive-ips"
    kind: ClassVar[type[Estimator]] = InversePropensityScoring

    def convert(self, rows: LoggerRows) -> LoggedRows:
        """See `Reweighted`; the largest weight to reckon with is the largest seen."""
        return _weighted(rows, rows.policy / rows.own)


class NaiveLoggersDoublyRobust(NaiveLoggers):
    """The doubly robust estimator with each row weighted by its own logger.

    Kallus, Saito and Uehara, Optimal Off-Policy Evaluation from Multiple Logging Policies, ICML 2021.
    """

    name: ClassVar[str] = "naive-dr"
    kind = DoublyRobust


class BalancedLoggers(Reweighted[LoggerRows]):
    """mean(π / Σ_j ρ_j μ_j r), ρ_j the loggers' shares of the rows: as if one logger had mixed them all.

    Agarwal et al., KDD 2017: unbiased where some logger supports the policy, and never of more
    variance than the naive one. Kallus, Saito and Uehara, ICML 2021, show its doubly robust form to be
    efficient. The default where all loggers' probabilities of each action are known.

    Args:
        shares: [J] the loggers' shares of the rows of the whole log (see `logger_shares`). A log in parts
            needs them before its first row; they may also be the shares that the traffic was split by.
        reward_range, largest_weight: see `Reweighted`.

    Raises:
        ConfigError: for shares that are no distribution.
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
            raise ConfigError("the loggers' shares are no distribution", hint="Give shares that sum to 1")
        self.shares = shares

    def convert(self, rows: LoggerRows) -> LoggedRows:
        """See `Reweighted`; the largest weight to reckon with is the largest seen."""
        check_shape("logging", rows.logging, (len(rows.policy), len(self.shares)))
        mixed = rows.logging @ self.shares
        check_propensities("logging", mixed)
        return _weighted(rows, rows.policy / mixed)


class BalancedLoggersDoublyRobust(BalancedLoggers):
    """The doubly robust estimator with the weights of `BalancedLoggers`. Kallus, Saito and Uehara 2021."""

    name: ClassVar[str] = "balanced-dr"
    kind = DoublyRobust


def _weighted(rows: LoggerRows, weights: Floats) -> LoggedRows:
    largest = max(1.0, float(weights.max(initial=0.0)))
    return LoggedRows(
        weights, rows.rewards, largest, rows.q_logged, rows.q_policy, rows.users, counts=rows.counts
    )


class WeightedLoggers(VectorEstimator[LoggerRows]):
    """Σ_j λ_j mean_j(π / μ_j r): each logger's own estimate, in inverse proportion to its variance.

    Agarwal et al., KDD 2017; Kallus, Saito and Uehara, ICML 2021; with variances estimated from the rows:
    λ_j ∝ n_j / var_j, var_j the variance (over n_j) of logger j's terms. Unbiased for fixed λ. Estimated
    ones go along with the estimates: a logger of few clicks has both a low estimate and a low variance, and
    draws the value down. So it is for logs with many clicks a logger; NaN where a logger's terms are all
    alike, as when none was clicked.

    The interval is normal, by the delta method; it takes λ as given, since a change of weights that sum
    to 1 moves a mean of equal expectations by less than the means themselves are apart.

    Args:
        loggers: their number J. The rows need no probabilities but each row's own logger's.
    """

    name: ClassVar[str] = "weighted-ips"

    def __init__(self, loggers: int) -> None:
        # z: 1; whose row it is [J]; its whole term [J]; the weighted part of it [J]; the other part; reward.
        super().__init__(3 * loggers + 3)
        self.loggers = loggers

    def parts(self, rows: LoggerRows) -> tuple[Floats, Floats]:
        """The part of each row's term that is weighted by λ, and the part that is not, [B] each."""
        return rows.policy / rows.own * rows.rewards, np.zeros(len(rows.rewards))

    def vectors(self, rows: LoggerRows) -> Floats:
        """See `VectorEstimator`."""
        check_shape("logging", rows.logging, (len(rows.policy), self.loggers))
        mine = np.equal.outer(np.arange(self.loggers), rows.loggers).astype(np.float64)
        weighted, plain = self.parts(rows)
        one = np.ones((1, len(plain)))
        z = [one, mine, mine * (weighted + plain), mine * weighted, plain[None], rows.rewards[None]]
        return np.concatenate(z)

    def _blocks(self) -> tuple[Floats, Floats, Floats]:
        """Each logger's rows n_j, its mean weighted part, and λ_j; [J] each, 0 for a logger without rows."""
        j = self.loggers
        whose, whole, part = (slice(1 + at * j, 1 + (at + 1) * j) for at in range(3))
        count, total = self.sums.rows[0, whose], self.sums.rows[0, whole]
        square = np.diag(self.sums.rows)[whole]
        there = count > 0
        rows = np.where(there, count, 1.0)
        variance = square / rows - (total / rows) ** 2
        # What is left of terms that are all alike is rounding error.
        variance[variance <= 1e-14 * square / rows] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(there, count / variance, 0.0)
            return count, self.sums.rows[0, part] / rows, precision / precision.sum()

    def value(self) -> float:
        """See `VectorEstimator`; NaN where some logger's terms are all alike."""
        _, means, shares = self._blocks()
        return float(shares @ means + self.sums.mean[-2])

    def direction(self) -> Floats:
        """See `VectorEstimator`."""
        count, means, shares = self._blocks()
        # d(Σ weighted / Σ mine) of each logger; n_j / n are the means of `mine`.
        slope = shares * self.sums.rows[0, 0] / np.where(count > 0, count, 1.0)
        return np.concatenate([[0.0], -slope * means, 0 * slope, slope, [1.0, 0.0]])

    def reward(self) -> Floats:
        """See `VectorEstimator`."""
        return np.asarray(np.eye(len(self.sums.rows))[-1])


class WeightedLoggersDoublyRobust(WeightedLoggers):
    """mean(q(π)) + Σ_j λ_j mean_j(π / μ_j (r - q)), λ_j by the variance of q(π) + π / μ_j (r - q).

    Kallus, Saito and Uehara, ICML 2021, in the form in which obp has it: contexts are the same for all
    loggers, so the model's part is averaged over all rows alike.
    """

    name: ClassVar[str] = "weighted-dr"

    def parts(self, rows: LoggerRows) -> tuple[Floats, Floats]:
        """See `WeightedLoggers`."""
        if rows.q_logged is None or rows.q_policy is None:
            raise ValueError("this estimator needs q_logged and q_policy of a reward model")
        return rows.policy / rows.own * (rows.rewards - rows.q_logged), rows.q_policy
