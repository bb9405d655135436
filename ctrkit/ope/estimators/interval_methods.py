"""Interval methods by name, which replace the intervals that estimators choose themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError, nearest
from ctrkit.ope.estimators.base import Estimate, Estimator, IntervalMethod, LoggedRows, WeightedEstimator
from ctrkit.ope.estimators.doubly_robust import DirectMethod, DoublyRobust
from ctrkit.ope.estimators.importance import (
    InversePropensityScoring,
    OnPolicy,
    SelfNormalizedInversePropensityScoring,
    logging_moments,
)
from ctrkit.ope.intervals.bernstein import empirical_bernstein
from ctrkit.ope.intervals.bootstrap import PoissonBootstrap, difference_to_logging
from ctrkit.ope.intervals.clopper_pearson import clopper_pearson
from ctrkit.ope.intervals.confidence_sequence import ConfidenceSequence
from ctrkit.ope.intervals.interval import ConfidenceInterval, normal
from ctrkit.ope.intervals.log_smoothing import LogSmoothing
from ctrkit.ope.intervals.moments import REWARD, TERM, Moments

Range = tuple[float, float]
# Estimators whose terms are w r, with known bounds, and whose value is exactly or almost the terms' mean.
_WEIGHTED_REWARDS = (InversePropensityScoring, SelfNormalizedInversePropensityScoring, OnPolicy)
# Estimators whose value is a function of the mean of z = (1, w, f, r).
_OF_MEANS = (*_WEIGHTED_REWARDS, DirectMethod, DoublyRobust)


class Normal(IntervalMethod):
    """Normal intervals by the delta method, in place of Cressie-Read's."""

    def interval(
        self, estimator: Estimator, value: float, of_difference: bool, confidence: float
    ) -> ConfidenceInterval | None:
        if type(estimator).interval is not WeightedEstimator.interval:
            return None
        return normal(value, estimator.moments, estimator.direction() - of_difference * REWARD, confidence)


class CressieRead(IntervalMethod):
    """Cressie-Read's intervals: what estimators with weights use by default, if the reward range is known."""

    def interval(
        self, estimator: Estimator, value: float, of_difference: bool, confidence: float
    ) -> ConfidenceInterval | None:
        return None


class ClopperPearson(IntervalMethod):
    """Clopper-Pearson intervals for weighted rewards (see `clopper_pearson`)."""

    def __init__(self, reward_range: Range) -> None:
        self.reward_range = reward_range

    def interval(
        self, estimator: Estimator, value: float, of_difference: bool, confidence: float
    ) -> ConfidenceInterval | None:
        if type(estimator) not in _WEIGHTED_REWARDS:
            return None
        assert isinstance(estimator, WeightedEstimator)
        moments, largest = estimator.moments, max(estimator.largest_weight, 1.0)
        return _difference(
            lambda level: clopper_pearson(moments, largest, self.reward_range, level),
            lambda level: clopper_pearson(logging_moments(moments), 1.0, self.reward_range, level),
            of_difference,
            confidence,
        )


class EmpiricalBernstein(IntervalMethod):
    """Empirical Bernstein intervals for estimators with bounded terms (see `empirical_bernstein`)."""

    def __init__(self, reward_range: Range) -> None:
        self.reward_range = reward_range

    def interval(
        self, estimator: Estimator, value: float, of_difference: bool, confidence: float
    ) -> ConfidenceInterval | None:
        if type(estimator) not in (*_WEIGHTED_REWARDS, DoublyRobust):
            return None
        assert isinstance(estimator, WeightedEstimator)
        corners = [estimator.unseen(w, of_difference, self.reward_range) for w in estimator.weight_range()]
        bounds = (min(corner.low for corner in corners), max(corner.high for corner in corners))
        if not bounds[0] < bounds[1]:
            return None
        return empirical_bernstein(estimator.moments, TERM - of_difference * REWARD, bounds, confidence)


class Betting(IntervalMethod):
    """Betting intervals for weighted rewards of independent rows (see `ConfidenceSequence`)."""

    def __init__(self, reward_range: Range) -> None:
        self.policy = ConfidenceSequence(reward_range)
        self.logging = ConfidenceSequence(reward_range, 1.0)

    def update(self, rows: LoggedRows, terms: Floats) -> None:
        for sequence, seen in (
            (self.policy, rows),
            (
                self.logging,
                LoggedRows.of_logging(rows.rewards, counts=rows.counts, users=rows.users, units=rows.units),
            ),
        ):
            sequence.update(seen.weights, seen.rewards, seen.counts)

    def merge(self, other: IntervalMethod) -> None:
        assert isinstance(other, Betting)
        self.policy.merge(other.policy)
        self.logging.merge(other.logging)

    def interval(
        self, estimator: Estimator, value: float, of_difference: bool, confidence: float
    ) -> ConfidenceInterval | None:
        if type(estimator) not in _WEIGHTED_REWARDS or estimator.clustered:
            return None
        return _difference(self.policy.interval, self.logging.interval, of_difference, confidence)


class Guaranteed(IntervalMethod):
    """Intervals by logarithmic smoothing for weighted rewards (see `LogSmoothing`)."""

    def __init__(self, reward_range: Range) -> None:
        self.policy = LogSmoothing(reward_range)
        self.logging = LogSmoothing(reward_range)

    def update(self, rows: LoggedRows, terms: Floats) -> None:
        self.policy.update(rows.weights, rows.rewards, rows.counts)
        self.logging.update(np.ones(len(rows.rewards)), rows.rewards, rows.counts)

    def merge(self, other: IntervalMethod) -> None:
        assert isinstance(other, Guaranteed)
        self.policy.merge(other.policy)
        self.logging.merge(other.logging)

    def interval(
        self, estimator: Estimator, value: float, of_difference: bool, confidence: float
    ) -> ConfidenceInterval | None:
        if type(estimator) not in _WEIGHTED_REWARDS:
            return None
        policy, logging = (each.interval(estimator.moments.largest) for each in (self.policy, self.logging))
        return _difference(policy, logging, of_difference, confidence)


class Bootstrap(IntervalMethod):
    """Bootstrap intervals, for estimators whose value is a function of sums (see `PoissonBootstrap`).

    Args:
        seed: seed of the replicates.
    """

    def __init__(self, seed: int = 0) -> None:
        self.bootstrap = PoissonBootstrap(seed=seed)

    def update(self, rows: LoggedRows, terms: Floats) -> None:
        if rows.units is None:
            raise ValueError("a bootstrap needs the keys of users or rows")
        self.bootstrap.update(rows.weights, terms, rows.rewards, rows.units, rows.counts)

    def merge(self, other: IntervalMethod) -> None:
        assert isinstance(other, Bootstrap)
        self.bootstrap.merge(other.bootstrap)

    def interval(
        self, estimator: Estimator, value: float, of_difference: bool, confidence: float
    ) -> ConfidenceInterval | None:
        if type(estimator) not in _OF_MEANS or not estimator.moments.degrees:
            return None
        replicate = copy(estimator)

        def statistic(sums: Floats) -> Floats:
            found = np.empty(len(sums))
            for place, row in enumerate(sums):
                replicate.moments = Moments()
                replicate.moments.rows[0] = row
                found[place] = replicate.value()
            return found

        chosen = difference_to_logging(statistic) if of_difference else statistic
        return self.bootstrap.interval(chosen, confidence)


def _difference(
    policy: Callable[[float], ConfidenceInterval],
    logging: Callable[[float], ConfidenceInterval],
    of_difference: bool,
    confidence: float,
) -> ConfidenceInterval:
    """The policy's interval, or that of its difference from the logging policy.

    The interval of the difference has the farthest ends of both policies' intervals, each at half the risk
    (Bonferroni).
    """
    if not of_difference:
        return policy(confidence)
    one, two = (each((1 + confidence) / 2) for each in (policy, logging))
    return ConfidenceInterval(one.low - two.high, one.high - two.low, f"{one.method}, of both")


_OF_RANGES: Mapping[str, Callable[[Range], IntervalMethod]] = {
    "cressie-read": lambda rewards: CressieRead(),
    "clopper-pearson": ClopperPearson,
    "empirical-bernstein": EmpiricalBernstein,
    "betting": Betting,
    "log-smoothing": Guaranteed,
}
# The `ConfidenceInterval.method` of the intervals that each method makes.
_CALLED = {
    "cressie-read": "cressie-read",
    "normal": "normal",
    "clopper-pearson": "clopper-pearson",
    "empirical-bernstein": "empirical Bernstein",
    "betting": "betting",
    "log-smoothing": "log smoothing",
    "bootstrap": "Poisson bootstrap",
}
INTERVALS = tuple(_CALLED)
AUTO = "auto"


def make_interval_method(name: str, reward_range: Range | None, seed: int = 0) -> IntervalMethod | None:
    """The method of a name from `INTERVALS`; None for `auto`, where the estimator chooses.

    Raises:
        ConfigError: the name is unknown, or the method needs a reward range and there is none.
    """
    if name == AUTO:
        return None
    if name not in INTERVALS:
        raise ConfigError(f"there is no interval '{name}'", hint=nearest(name, (AUTO, *INTERVALS)))
    if name == "normal":
        return Normal()
    if name == "bootstrap":
        return Bootstrap(seed)
    if reward_range is None:
        raise ConfigError(
            f"{name} intervals need the smallest and the largest possible reward",
            hint="Give reward_range=[0,1], for example, or --interval normal",
        )
    return _OF_RANGES[name](reward_range)


def other_methods(name: str, estimates: Sequence[Estimate]) -> list[str]:
    """The estimators whose intervals have another method than asked for; none for `auto`."""
    called = _CALLED.get(name, "")
    return [one.estimator for one in estimates if not one.interval.method.startswith(called)]


def why(name: str, reward_range: Range | None) -> str:
    """Which intervals are used and why, in one or two sentences."""
    if name == AUTO and reward_range is not None:
        return (
            f"Intervals are Cressie-Read's (empirical likelihood), because rewards are between "
            f"{reward_range[0]:g} and {reward_range[1]:g}. They hold where clicks are few; normal ones are "
            "too short there."
        )
    if name == AUTO:
        return (
            "Intervals are normal, because the reward range is unknown. They are too short where rewards are "
            "skewed. Set reward_range for Cressie-Read's intervals."
        )
    return {
        "cressie-read": "Intervals are Cressie-Read's (empirical likelihood), as asked for.",
        "normal": "Intervals are normal, as asked for. They are too short where clicks are few.",
        "clopper-pearson": (
            "Intervals of weighted rewards are Clopper-Pearson's, as asked for. They hold where clicks are "
            "few, and are too short where most rewards are 1 and weights are large. Other estimators keep "
            "their own intervals."
        ),
        "empirical-bernstein": (
            "Intervals are empirical Bernstein's where terms are bounded, as asked for. They hold for every "
            "length of the log, and are wide."
        ),
        "betting": (
            "Intervals of weighted rewards are confidence sequences, as asked for. They hold however often "
            "the log is evaluated while it grows. Other estimators keep their own intervals, and so do logs "
            "whose users have several rows."
        ),
        "log-smoothing": (
            "Intervals of weighted rewards are by logarithmic smoothing, as asked for. Each end is a "
            "guaranteed bound for every length of the log and all weights. Use the lower end to promise a "
            "value; the upper end is far away. Other estimators keep their own intervals."
        ),
        "bootstrap": (
            "Intervals are percentiles of a Poisson bootstrap by user, as asked for. They are too short "
            "where clicks are few."
        ),
    }[name]
