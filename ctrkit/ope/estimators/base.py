"""What an estimator is: terms of rows, whose moments give a value, a difference and their intervals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal, Self, TypeAlias, TypeVar

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.hashing import Words
from ctrkit.ope.intervals.interval import (
    ConfidenceInterval,
    Unseen,
    around,
    cressie_read,
    independent_difference,
    normal,
)
from ctrkit.ope.intervals.moments import REWARD, TERM, MomentColumns, Moments
from ctrkit.ope.intervals.unit_sums import Keys

# The weights and predictions of most estimators; those of a reward model fitted for the policy (MRDR); or
# weights of a density ratio.
View: TypeAlias = Literal["plain", "more robust", "balanced"]


@dataclass(frozen=True)
class LoggedRows:
    """All that an estimator sees of a policy on B rows of a log.

    Attributes:
        weights: [B] the policy's probability of the logged action over the logging policy's.
        rewards: [B].
        largest_weight: the largest weight to reckon with, seen or not (see `ctrkit.ope.estimators.weights`).
        q_logged: [B] the reward model's prediction for the logged action.
        q_policy: [B] its mean under the policy, Σ π(a) q(a).
        users: [B] keys of users, the same in whatever batch or part. None: rows are independent.
        units: [B] keys of users or rows (see `ctrkit.ope.logs.units`), for intervals that resample them.
        unsupported: [B] the policy's mass on candidates that are never logged, where it is known.
        counts: [B] how many decisions each row stands for: 1, but where others like it were dropped.
    """

    weights: Floats
    rewards: Floats
    largest_weight: float
    q_logged: Floats | None = None
    q_policy: Floats | None = None
    users: Keys | None = None
    units: Words | None = None
    unsupported: Floats | None = None
    counts: Floats = field(kw_only=True)

    @classmethod
    def of_logging(
        cls, rewards: Floats, *, counts: Floats, users: Keys | None, units: Words | None
    ) -> LoggedRows:
        """The rows as the logging policy itself sees them, to which each has weight 1."""
        return cls(np.ones(len(rewards)), rewards, 1.0, users=users, units=units, counts=counts)

    @cached_property
    def weighted_rewards(self) -> Floats:
        """[B]; one array for all who ask (see `Summaries`)."""
        return self.weights * self.rewards

    def total(self, values: Floats) -> float:
        """The sum of values [B] over the decisions."""
        return float(values @ self.counts)


@dataclass(frozen=True)
class Estimate:
    """An estimated value a row with its interval.

    Attributes:
        estimator: the estimator's name.
        value: the estimate; NaN where the rows determine none.
        interval: for the value; contains it.
        difference: value less the logging policy's mean reward, and its interval, from the same rows.
    """

    estimator: str
    value: float
    interval: ConfidenceInterval
    difference: float
    difference_interval: ConfidenceInterval


class Summary(ABC):
    """What is kept of rows: `Moments`, and what else is taken note of. Parts of a log merge."""

    @property
    @abstractmethod
    def sums(self) -> Sequence[Moments]:
        """All the sums that it keeps."""

    @abstractmethod
    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        """What of the rows goes into each of the `sums`; what these do not hold is taken note of here."""

    @abstractmethod
    def join(self, other: Self) -> None:
        """Take in what another has taken note of beside its sums."""

    def settle(self) -> None:  # noqa: B027
        """Choose anew what follows from the sums."""

    def update(self, rows: LoggedRows) -> None:
        """Take in rows."""
        columns = self.observe(rows)
        for sums, three in zip(self.sums, columns, strict=True):
            sums.update(*three, rows.users, rows.counts)
        self.settle()

    def merge(self, other: Self) -> None:
        """Take in what another of this class has seen, of these or of other users."""
        self.join(other)
        for mine, theirs in zip(self.sums, other.sums, strict=True):
            mine.merge(theirs)
        self.settle()


class IntervalMethod(ABC):
    """One way to an interval, with what it keeps of the rows beside the estimator's own sums."""

    def update(self, rows: LoggedRows, terms: Floats) -> None:  # noqa: B027
        """Take in the rows that the estimator takes in, and its terms."""

    def merge(self, other: IntervalMethod) -> None:  # noqa: B027
        """Take in what another of this class has seen."""

    @abstractmethod
    def interval(
        self, estimator: Estimator, value: float, baseline: float, confidence: float
    ) -> ConfidenceInterval | None:
        """See `Estimator.interval`; None where the method is none for this estimator."""


class Estimator(Summary):
    """Estimates a policy's value, the expected reward a row, from the log of another policy.

    Each row gives a term; the terms' `Moments` are all that is kept. So memory grows with the users, where
    they are known, and not with the log, `merge` joins the parts of a log that were read apart, wherever a
    user's rows stand, and point and interval come from the same sums.

    Args:
        reward_range: the least and the largest possible reward, where they are known.

    Attributes:
        method: of the intervals, in place of the estimator's own; set before the first rows.
        known: whether the log's propensities are logged ones, and no estimates of them.
    """

    name: ClassVar[str]
    # What its own intervals are with a known range of rewards.
    own_interval: ClassVar[str] = "normal"
    # Whether it is for policies that take one action for sure, and no others.
    deterministic_only: ClassVar[bool] = False
    # Whether it has a bias that its intervals leave out and that is often larger than they are.
    biased: ClassVar[bool] = False
    needs_reward_model: ClassVar[bool] = False
    # Whose weights and predictions it takes: see `ctrkit.ope.estimators.rows`.
    view: ClassVar[View] = "plain"
    # What its intervals take as it is, by whatever method they are.
    given: ClassVar[str | None] = None

    def __init__(self, reward_range: tuple[float, float] | None = None) -> None:
        self.reward_range = reward_range
        self.moments = Moments()
        self.method: IntervalMethod | None = None
        self.known = True

    @abstractmethod
    def terms(self, rows: LoggedRows) -> Floats:
        """f [B], one a row; the value is their mean unless `value` says otherwise."""

    def value(self) -> float:
        """The estimate from all rows so far."""
        return float(self.moments.mean @ TERM)

    def direction(self) -> Floats:
        """Coefficients of z = (1, w, f, r) whose mean spreads as the value does (the delta method)."""
        return TERM

    @property
    def sums(self) -> Sequence[Moments]:
        """See `Summary`."""
        return (self.moments,)

    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        """See `Summary`."""
        terms = self.terms(rows)
        if self.method is not None:
            self.method.update(rows, terms)
        return ((rows.weights, terms, rows.rewards),)

    @property
    def clustered(self) -> bool:
        """Whether rows are taken together, as some user has several."""
        return self.moments.clustered

    def join(self, other: Self) -> None:
        """See `Summary`."""
        if self.method is not None and other.method is not None:
            self.method.merge(other.method)

    def result(self, confidence: float = 0.95) -> Estimate:
        """Value, and difference to the logging policy's mean reward, with two-sided intervals."""
        value = self.value()
        difference = value - float(self.moments.mean @ REWARD)
        interval = self._around(value, self._interval(value, 0.0, confidence))
        paired = self._around(difference, self._interval(difference, 1.0, confidence))
        if not self.known:
            logging = normal(value - difference, self.moments, REWARD, confidence)
            paired = independent_difference(value, interval, value - difference, logging, paired)
        return Estimate(self.name, value, interval, difference, paired)

    def _interval(self, value: float, baseline: float, confidence: float) -> ConfidenceInterval:
        """By the method asked for, where it is one for this estimator; else its own."""
        found = self.method.interval(self, value, baseline, confidence) if self.method is not None else None
        found = self.interval(value, baseline, confidence) if found is None else found
        return found if self.given is None else replace(found, method=f"{found.method}, given {self.given}")

    def interval(self, value: float, baseline: float, confidence: float) -> ConfidenceInterval:
        """Interval for the policy's value less `baseline` (0 or 1) times the logging policy's."""
        return normal(value, self.moments, self.direction() - baseline * REWARD, confidence)

    def _around(self, value: float, interval: ConfidenceInterval) -> ConfidenceInterval:
        """The interval, widened where it leaves out the estimate, which is told; and told of clusters."""
        method = f"{interval.method}, clustered" if self.clustered else interval.method
        return around(value, replace(interval, method=method))


EstimatorT = TypeVar("EstimatorT", bound=type[Estimator])

# By the names that commands take and show.
ESTIMATORS: dict[str, type[Estimator]] = {}


def register(estimator: EstimatorT) -> EstimatorT:
    """Class decorator: make an estimator known by its `name`."""
    ESTIMATORS[estimator.name] = estimator
    return estimator


class WeightedEstimator(Estimator):
    """An estimator that rests on the weights, whose mean is known to be 1.

    With a range of rewards its intervals are Cressie-Read's, without one they are normal.
    """

    own_interval: ClassVar[str] = "cressie-read"

    def __init__(self, reward_range: tuple[float, float] | None = None) -> None:
        super().__init__(reward_range)
        self.largest_weight = 0.0

    @abstractmethod
    def unseen_terms(self, weight: float, reward: float) -> tuple[float, float]:
        """The least and the largest term of a row of this weight and reward that the log might have held."""

    def weight_range(self) -> tuple[float, ...]:
        """The weights of such rows: the least, the mean and the largest.

        Where all rows seen have weight 1, none of another weight could be missing alone.
        """
        return 0.0, 1.0, self.largest_weight

    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        """See `Estimator`."""
        self.largest_weight = max(self.largest_weight, rows.largest_weight)
        return super().observe(rows)

    def join(self, other: Self) -> None:
        """See `Estimator`."""
        super().join(other)
        self.largest_weight = max(self.largest_weight, other.largest_weight)

    def interval(self, value: float, baseline: float, confidence: float) -> ConfidenceInterval:
        """See `Estimator`."""
        if self.reward_range is None:
            return super().interval(value, baseline, confidence)
        unseen = [self.unseen(weight, baseline, self.reward_range) for weight in self.weight_range()]
        found = cressie_read(self.moments, TERM - baseline * REWARD, unseen, confidence)
        least, most = self.reward_range
        low, high = np.clip([found.low, found.high], least - baseline * most, most - baseline * least)
        return ConfidenceInterval(float(low), float(high), found.method)

    def unseen(self, weight: float, baseline: float, rewards: tuple[float, float]) -> Unseen:
        """A row of this weight, its term less `baseline` times its reward."""
        ranges = [(reward, *self.unseen_terms(weight, reward)) for reward in rewards]
        return Unseen(
            weight,
            min(low - baseline * reward for reward, low, _ in ranges),
            max(high - baseline * reward for reward, _, high in ranges),
        )
