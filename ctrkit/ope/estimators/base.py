"""The base classes of estimators: each row gives a term, whose moments give values and intervals."""

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

# Which weights and predictions an estimator reads: "plain" ones; those of the reward model of MRDR, fitted
# for the policy ("more robust"); or weights of a density ratio ("balanced").
View: TypeAlias = Literal["plain", "more robust", "balanced"]


@dataclass(frozen=True)
class LoggedRows:
    """All that an estimator sees of a policy on B rows of a log.

    Attributes:
        weights: [B] the policy's probability of the logged action over the logging policy's.
        rewards: [B] the logged rewards.
        largest_weight: the largest weight that is possible, seen or not (see
            `ctrkit.ope.estimators.weights`).
        q_logged: [B] the reward model's prediction for the logged action.
        q_policy: [B] the mean of the predictions under the policy, Σ π(a) q(a).
        users: [B] keys of users, the same in every batch and part. None: rows are independent.
        units: [B] keys of users or rows (see `ctrkit.ope.logs.units`), for intervals that resample them.
        unsupported: [B] the policy's probability of candidates that the logging policy never chooses; None
            where unknown.
        counts: [B] how many decisions each row stands for: 1, or more where similar rows were dropped.
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
        """The rows for the logging policy itself: all weights are 1."""
        return cls(np.ones(len(rewards)), rewards, 1.0, users=users, units=units, counts=counts)

    @cached_property
    def weighted_rewards(self) -> Floats:
        """Weights times rewards, [B]; the same array at every call, so that `Summaries` keeps it once."""
        return self.weights * self.rewards

    def total(self, values: Floats) -> float:
        """The sum of values [B] over the decisions."""
        return float(values @ self.counts)


@dataclass(frozen=True)
class Estimate:
    """An estimated value per row, with its interval.

    Attributes:
        estimator: the estimator's name.
        value: the estimate; NaN where the rows determine none.
        interval: the interval of the value, which it contains.
        difference: the value minus the logging policy's mean reward on the same rows.
        difference_interval: the interval of the difference.
    """

    estimator: str
    value: float
    interval: ConfidenceInterval
    difference: float
    difference_interval: ConfidenceInterval


class EstimatorSums(ABC):
    """Statistics of rows: `Moments` and other state. Parts of a log merge."""

    @property
    @abstractmethod
    def sums(self) -> Sequence[Moments]:
        """All its `Moments`."""

    @abstractmethod
    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        """The columns of the rows that go into each of the `sums`; updates all other state."""

    @abstractmethod
    def join(self, other: Self) -> None:
        """Merge all state of another besides its sums."""

    def settle(self) -> None:  # noqa: B027
        """Update all state that follows from the sums."""

    def update(self, rows: LoggedRows) -> None:
        """Take in rows."""
        columns = self.observe(rows)
        for sums, three in zip(self.sums, columns, strict=True):
            sums.update(*three, rows.users, rows.counts)
        self.settle()

    def merge(self, other: Self) -> None:
        """Merge the rows of another of this class, of the same or of other users."""
        self.join(other)
        for mine, theirs in zip(self.sums, other.sums, strict=True):
            mine.merge(theirs)
        self.settle()


class IntervalMethod(ABC):
    """A method of intervals, with the statistics that it needs besides the estimator's own sums."""

    def update(self, rows: LoggedRows, terms: Floats) -> None:  # noqa: B027
        """Take in the rows of the estimator, and its terms [B]."""

    def merge(self, other: IntervalMethod) -> None:  # noqa: B027
        """Merge the rows of another of this class."""

    @abstractmethod
    def interval(
        self, estimator: Estimator, value: float, of_difference: bool, confidence: float
    ) -> ConfidenceInterval | None:
        """As `Estimator.interval`; None where this method does not apply to the estimator."""


class Estimator(EstimatorSums):
    """Estimates a policy's value, the expected reward per row, from the log of another policy.

    Each row gives a term, and only the terms' `Moments` are kept. So memory grows with the number of users,
    where they are known, and not with the rows. `merge` joins parts of a log that were read separately, even
    if a user has rows in several parts. Value and interval come from the same sums.

    Args:
        reward_range: the smallest and the largest possible reward, where known.

    Attributes:
        method: the method of the intervals; None for the estimator's own. Set it before the first rows.
        known: whether the log's propensities are logged; False where they are estimated.
    """

    name: ClassVar[str]
    # The method of its own intervals with a known range of rewards.
    own_interval: ClassVar[str] = "normal"
    # Whether it is only for deterministic policies.
    deterministic_only: ClassVar[bool] = False
    # Whether it has a bias that its intervals do not include and that is often larger than they are.
    biased: ClassVar[bool] = False
    needs_reward_model: ClassVar[bool] = False
    # Which weights and predictions it reads (see `ctrkit.ope.estimators.rows`).
    view: ClassVar[View] = "plain"
    # What its intervals take as given, whatever their method.
    given: ClassVar[str | None] = None

    def __init__(self, reward_range: tuple[float, float] | None = None) -> None:
        self.reward_range = reward_range
        self.moments = Moments()
        self.method: IntervalMethod | None = None
        self.known = True

    @abstractmethod
    def terms(self, rows: LoggedRows) -> Floats:
        """The terms f, [B], one per row; their mean is the value unless `value` is overridden."""

    def value(self) -> float:
        """The estimate from all rows so far."""
        return float(self.moments.mean @ TERM)

    def direction(self) -> Floats:
        """Coefficients of z = (1, w, f, r) whose mean has the variance of the value (the delta method)."""
        return TERM

    @property
    def sums(self) -> Sequence[Moments]:
        return (self.moments,)

    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        terms = self.terms(rows)
        if self.method is not None:
            self.method.update(rows, terms)
        return ((rows.weights, terms, rows.rewards),)

    @property
    def clustered(self) -> bool:
        """Whether some user has several rows, which are then taken together."""
        return self.moments.clustered

    def join(self, other: Self) -> None:
        if self.method is not None and other.method is not None:
            self.method.merge(other.method)

    def result(self, confidence: float = 0.95) -> Estimate:
        """Value, and difference from the logging policy's mean reward, with two-sided intervals."""
        value = self.value()
        difference = value - float(self.moments.mean @ REWARD)
        interval = self._around(value, self._interval(value, False, confidence))
        paired = self._around(difference, self._interval(difference, True, confidence))
        if not self.known:
            logging = normal(value - difference, self.moments, REWARD, confidence)
            paired = independent_difference(value, interval, value - difference, logging, paired)
        return Estimate(self.name, value, interval, difference, paired)

    def _interval(self, value: float, of_difference: bool, confidence: float) -> ConfidenceInterval:
        """The interval by `method` where that applies to this estimator; else its own interval."""
        found = (
            self.method.interval(self, value, of_difference, confidence) if self.method is not None else None
        )
        found = self.interval(value, of_difference, confidence) if found is None else found
        return found if self.given is None else replace(found, method=f"{found.method}, given {self.given}")

    def interval(self, value: float, of_difference: bool, confidence: float) -> ConfidenceInterval:
        """The estimator's own interval.

        Args:
            value: the estimate: of the value, or of the difference.
            of_difference: whether the interval is of the policy's difference from the logging policy, and not
                of its value.
            confidence: confidence level, between 0 and 1.
        """
        return normal(value, self.moments, self.direction() - of_difference * REWARD, confidence)

    def _around(self, value: float, interval: ConfidenceInterval) -> ConfidenceInterval:
        """The interval, widened and marked where it excludes the estimate; its method names clustering."""
        method = f"{interval.method}, clustered" if self.clustered else interval.method
        return around(value, replace(interval, method=method))


EstimatorT = TypeVar("EstimatorT", bound=type[Estimator])

# The estimators by the names that commands take and show.
ESTIMATORS: dict[str, type[Estimator]] = {}


def register(estimator: EstimatorT) -> EstimatorT:
    """Class decorator: register an estimator under its `name`."""
    ESTIMATORS[estimator.name] = estimator
    return estimator


class WeightedEstimator(Estimator):
    """An estimator that uses weights, whose mean is known to be 1.

    With a reward range its intervals are Cressie-Read's; without one they are normal.
    """

    own_interval: ClassVar[str] = "cressie-read"

    def __init__(self, reward_range: tuple[float, float] | None = None) -> None:
        super().__init__(reward_range)
        self.largest_weight = 0.0

    @abstractmethod
    def unseen_terms(self, weight: float, reward: float) -> tuple[float, float]:
        """The smallest and the largest term of an unseen row with this weight and reward."""

    def weight_range(self) -> tuple[float, ...]:
        """The weights of unseen rows: the smallest, the mean and the largest.

        The mean is there for logs in which all rows have weight 1: a missing row of another weight alone
        would contradict the mean.
        """
        return 0.0, 1.0, self.largest_weight

    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        self.largest_weight = max(self.largest_weight, rows.largest_weight)
        return super().observe(rows)

    def join(self, other: Self) -> None:
        super().join(other)
        self.largest_weight = max(self.largest_weight, other.largest_weight)

    def interval(self, value: float, of_difference: bool, confidence: float) -> ConfidenceInterval:
        if self.reward_range is None:
            return super().interval(value, of_difference, confidence)
        unseen = [self.unseen(weight, of_difference, self.reward_range) for weight in self.weight_range()]
        found = cressie_read(self.moments, TERM - of_difference * REWARD, unseen, confidence)
        least, most = self.reward_range
        low, high = np.clip(
            [found.low, found.high], least - of_difference * most, most - of_difference * least
        )
        return ConfidenceInterval(float(low), float(high), found.method)

    def unseen(self, weight: float, of_difference: bool, rewards: tuple[float, float]) -> Unseen:
        """An unseen row of this weight; its term minus its reward where the interval is of the difference."""
        ranges = [(reward, *self.unseen_terms(weight, reward)) for reward in rewards]
        return Unseen(
            weight,
            min(low - of_difference * reward for reward, low, _ in ranges),
            max(high - of_difference * reward for reward, _, high in ranges),
        )
