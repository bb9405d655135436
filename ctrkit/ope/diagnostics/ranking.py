"""Several policies on the same rows: paired differences, simultaneous intervals, probability of being best.

All policies are estimated from the same rows, so their errors are correlated, and a difference is often known
far better than either value. `JointEstimators` keeps the sums for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.ope.diagnostics.joint import JointEstimators
from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows, WeightedEstimator
from ctrkit.ope.estimators.baseline import DifferenceBaseline, optimal_baseline
from ctrkit.ope.estimators.importance import OnPolicy
from ctrkit.ope.intervals.interval import ConfidenceInterval, Unseen, around, cressie_read
from ctrkit.ope.intervals.moments import ONE, REWARD, TERM, WEIGHT

LOGGING = "logging"
# Points of the scrambled Sobol sequence, a power of 2: quantiles of a maximum have an error of about 0.002.
POINTS = 2**14
# Points whose comparisons are in memory at a time.
BLOCK = 2**11


@dataclass(frozen=True)
class PolicyDifference:
    """The difference of two policies' values on the same rows.

    Attributes:
        first: the name of the first policy.
        second: the name of the policy whose value is subtracted.
        value: the value of `first` minus that of `second`, per row.
        standard_error: of the difference.
        interval: interval for this difference alone.
        simultaneous: interval that holds together with those of all other comparisons at the confidence asked
            for.
        p_value: two-sided p-value, at which `interval` just reaches 0.
        adjusted_p_value: the p-value adjusted by Holm over all comparisons.
    """

    first: str
    second: str
    value: float
    standard_error: float
    interval: ConfidenceInterval
    simultaneous: ConfidenceInterval
    p_value: float
    adjusted_p_value: float


@dataclass(frozen=True)
class RankedPolicy:
    """A policy's value and the probability that it is the best of those compared."""

    name: str
    value: float
    interval: ConfidenceInterval
    probability_best: float


@dataclass(frozen=True)
class Ranking:
    """Policies, the highest value first, and the comparisons between them.

    Attributes:
        policies: ordered by value.
        differences: the comparisons between pairs of policies.
        confidence: confidence level of all intervals.
        critical: how many standard errors the simultaneous intervals extend to each side.
    """

    policies: tuple[RankedPolicy, ...]
    differences: tuple[PolicyDifference, ...]
    confidence: float
    critical: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class PolicyRanking:
    """Estimates several policies by one estimator on the same rows, and compares them.

    With `DifferenceBaseline` each pair has its own baseline. The difference is then not exactly the
    difference of the two values, and by chance its sign may disagree with their order.

    Args:
        names: the names of the policies.
        kind: the class of the estimator, such as `SelfNormalizedInversePropensityScoring`.
        reward_range: the smallest and the largest possible reward, where known. With it estimators that use
            weights have Cressie-Read intervals; without it intervals are normal.
        logging: whether the logging policy is compared too, under the name "logging".

    Raises:
        ConfigError: a name is used twice, or there are fewer than two policies in all.
    """

    def __init__(
        self,
        names: Sequence[str],
        kind: type[Estimator],
        reward_range: tuple[float, float] | None = None,
        logging: bool = True,
    ) -> None:
        self.names = tuple(names)
        self.logging = logging
        self.reward_range = reward_range
        everyone = [*self.names, *([LOGGING] if logging else [])]
        if len(set(everyone)) < len(everyone):
            raise ConfigError(
                f"two policies have the same name: {', '.join(everyone)}", hint="Give each its own name"
            )
        if len(everyone) < 2:
            raise ConfigError("one policy alone cannot be ranked", hint="Give at least two policies")
        estimators: dict[str, Estimator] = {name: kind(reward_range) for name in self.names}
        if logging:
            estimators[LOGGING] = OnPolicy(reward_range)
        self.joint = JointEstimators(estimators)

    def update(self, rows: Sequence[LoggedRows]) -> None:
        """Take in the same rows as each policy sees them, in the order of `names`."""
        seen = dict(zip(self.names, rows, strict=True))
        if self.logging:
            one = rows[0]
            seen[LOGGING] = LoggedRows.of_logging(
                one.rewards, counts=one.counts, users=one.users, units=one.units
            )
        self.joint.update(seen)

    def merge(self, other: Self) -> None:
        """Take in what another has seen of the same policies, of other users."""
        self.joint.merge(other.joint)

    def result(self, confidence: float = 0.95, against: str | None = None, seed: int = 0) -> Ranking:
        """Values, differences and each policy's probability to be the best.

        Simultaneous intervals are the single-step ones of Hothorn, Bretz and Westfall, Simultaneous
        Inference in General Parametric Models, Biometrical Journal 2008: they reach as far as
        the quantile of the largest |Z| of the comparisons, whose Z are jointly normal with the correlations
        found. Where the intervals are Cressie-Read's, each is taken at the confidence of that quantile.

        Args:
            confidence: confidence level of each interval, and of all simultaneous intervals together.
            against: compare only with this policy (Dunnett's comparisons); by default every pair.
            seed: seed of the quasi-random draws.

        Raises:
            ConfigError: for a confidence out of bounds or an unknown policy.
        """
        if not 0 < confidence < 1:
            raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", hint="Give 0.95, say")
        joint = self.joint
        names = list(joint.estimators)
        if against is not None and against not in names:
            raise ConfigError(f"there is no policy '{against}'", hint=f"Known names: {', '.join(names)}")
        estimates = {name: estimator.result(confidence) for name, estimator in joint.estimators.items()}
        values = np.array([estimates[name].value for name in names])
        directions = np.stack([joint.direction(name) for name in names])
        order = np.argsort(-values, kind="stable")  # NaN last
        pairs = [
            (int(i), int(j))
            for i, j in combinations(order, 2)
            if against is None or against in (names[i], names[j])
        ]
        if against is not None:
            here = names.index(against)
            pairs = [(j, i) if i == here else (i, j) for i, j in pairs]

        found = [self._difference(names[i], names[j]) for i, j in pairs]
        gaps = [gap for gap, _ in found]
        covariance = joint.covariance(np.stack([direction for _, direction in found]))
        errors = np.sqrt(np.diag(covariance))
        critical = largest_normal_quantile(covariance, confidence, seed)
        makers = [
            self._interval(estimates[names[i]], estimates[names[j]], (names[i], names[j]), gap, float(error))
            for (i, j), gap, error in zip(pairs, gaps, errors, strict=True)
        ]
        p_values = np.array([_p_value(maker) for maker in makers])
        differences = tuple(
            PolicyDifference(
                names[i],
                names[j],
                gaps[k],
                float(errors[k]),
                makers[k](float(stats.norm.isf((1 - confidence) / 2))),
                makers[k](critical),
                float(p_values[k]),
                float(adjusted),
            )
            for k, ((i, j), adjusted) in enumerate(zip(pairs, holm(p_values), strict=True))
        )
        best = best_probabilities(values, joint.covariance(directions), seed)
        ranked = tuple(
            RankedPolicy(names[i], float(values[i]), estimates[names[i]].interval, float(best[i]))
            for i in order
        )
        return Ranking(ranked, differences, confidence, critical)

    def _difference(self, first: str, second: str) -> tuple[float, Floats]:
        """The value of a difference, and the coefficients of z whose mean has its variance.

        Δβ-IPS uses the baseline of this pair, which is that of a single policy with weight 1 + w_1 - w_2 and
        term f_1 - f_2. Every other estimator gives the difference of the two values.
        """
        joint = self.joint
        one, two = (joint.estimators[name] for name in (first, second))
        if not any(isinstance(each, DifferenceBaseline) for each in (one, two)):
            return one.value() - two.value(), joint.direction(first) - joint.direction(second)
        weight, term = (
            joint.coefficients(first, each) - joint.coefficients(second, each) for each in (WEIGHT, TERM)
        )
        always = joint.coefficients(first, ONE)
        moments = joint.moments(np.stack([always, always + weight, term, 0 * term]))
        direction = term - optimal_baseline(moments, TERM) * weight
        return float(joint.sums.mean @ direction), direction

    def _interval(
        self, first: Estimate, second: Estimate, names: tuple[str, str], gap: float, error: float
    ) -> Callable[[float], ConfidenceInterval]:
        """The interval of a difference, as a function of how many standard errors it extends to each side.

        It is Cressie-Read's where both estimators have the interval of `WeightedEstimator`. Estimators with
        another interval have a normal one here, because their unseen rows are not known. The mean of both
        weights is 1; Cressie-Read's interval uses only that 1 + w_1 - w_2, which goes with the difference of
        the terms, has mean 1. Against the logging policy, w_2 = 1, nothing is lost.
        """
        one, two = (self.joint.estimators[name] for name in names)
        methods = [each.difference_interval.method.split(", ") for each in (first, second)]
        # Notes of an estimator on its interval ("without the bias of ...") hold for the difference too.
        notes = "".join(f", {note}" for note in dict.fromkeys(methods[0][1:] + methods[1][1:]))

        sums = self.joint.sums

        def normal_interval(reach: float) -> ConfidenceInterval:
            if sums.degrees < self.joint.count:  # as in `intervals.normal`
                reach = float(stats.t.isf(stats.norm.sf(reach), sums.degrees)) if sums.degrees else np.inf
            return ConfidenceInterval(gap - reach * error, gap + reach * error, f"normal{notes}")

        if (
            self.reward_range is None
            or not (isinstance(one, WeightedEstimator) and isinstance(two, WeightedEstimator))
            or any(type(each).interval is not WeightedEstimator.interval for each in (one, two))
        ):
            return normal_interval
        coefficients, (left, right) = self.joint.coefficients, names
        moments = self.joint.moments(
            np.stack(
                [
                    coefficients(left, ONE),
                    coefficients(left, ONE) + coefficients(left, WEIGHT) - coefficients(right, WEIGHT),
                    coefficients(left, TERM) - coefficients(right, TERM),
                    coefficients(left, REWARD),
                ]
            )
        )
        unseen = [
            _unseen_pair(one, two, w, v, self.reward_range)
            for w, v in product(one.weight_range(), two.weight_range())
        ]
        width = self.reward_range[1] - self.reward_range[0]

        def cressie_read_interval(reach: float) -> ConfidenceInterval:
            found = cressie_read(moments, TERM, unseen, 1 - 2 * float(stats.norm.sf(reach)))
            low, high = np.clip([found.low, found.high], -width, width)
            return around(gap, ConfidenceInterval(float(low), float(high), f"{found.method}{notes}"))

        return cressie_read_interval


def holm(p_values: ArrayLike) -> Floats:
    """p-values adjusted so that all at most α are rejected with a family-wise error of at most α.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 1979:
    the k-th smallest of m is multiplied by m - k + 1, and none may be less than one before it. A NaN stays,
    and counts as a comparison.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def largest_normal_quantile(covariance: Floats, confidence: float, seed: int = 0) -> float:
    """c with P(max |Z_k| <= c) = confidence, Z standard normal with the correlations of `covariance` [M, M].

    Comparisons without variance are left out. Found by scrambled Sobol points in as many dimensions as the
    correlations have, which are one less than the policies for all their pairs; exact in one dimension.
    """
    single = float(stats.norm.isf((1 - confidence) / 2))
    error = np.sqrt(np.diag(covariance))
    varying = error > 0
    if not (varying.any() and np.isfinite(error).all()):
        return single
    correlation = covariance[np.ix_(varying, varying)] / np.outer(error[varying], error[varying])
    root = _root(correlation)
    if root.shape[1] == 1:
        return single
    draws = _normal_points(root.shape[1], seed)
    largest = np.concatenate(
        [np.abs(draws[at : at + BLOCK] @ root.T).max(axis=1) for at in range(0, len(draws), BLOCK)]
    )
    return max(single, float(np.quantile(largest, confidence)))


def best_probabilities(values: Floats, covariance: Floats, seed: int = 0) -> Floats:
    """Each policy's probability of having the highest value, [K].

    The values have the normal posterior N(values, covariance) of a flat prior. Exact for two policies, else
    by scrambled Sobol points. Policies that are equal share their probability. A policy without a value, or
    with an unknown variance, has NaN.
    """
    found = np.full(len(values), np.nan)
    known = np.flatnonzero(np.isfinite(values) & np.isfinite(np.diag(covariance)))
    mean, spread = values[known], covariance[np.ix_(known, known)]
    if len(known) == 2:
        gap = mean[0] - mean[1]
        error = float(np.sqrt(max(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1], 0.0)))
        alike = error <= 1e-7 * float(np.sqrt(np.diag(spread)).max())
        chance = 0.5 * (1 + np.sign(gap)) if alike else stats.norm.cdf(gap / error)
        found[known] = chance, 1 - chance
        return found
    if len(known) == 0:
        return found
    root = _root(spread)
    draws = mean + _normal_points(max(root.shape[1], 1), seed)[:, : root.shape[1]] @ root.T
    # Rounding errors have a root of 1e-8 of the spread: policies nearer than that are equal.
    lead = draws >= draws.max(axis=1, keepdims=True) - 1e-6 * float(np.sqrt(np.diag(spread)).max())
    found[known] = (lead / lead.sum(axis=1, keepdims=True)).mean(axis=0)
    return found


def _normal_points(dimensions: int, seed: int) -> Floats:
    points = stats.qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed)).random(POINTS)
    return np.asarray(stats.norm.ppf(np.clip(points, 1e-12, 1 - 1e-12)))


def _root(covariance: Floats) -> Floats:
    """R [M, rank] with R Rᵀ = covariance, of any rank."""
    size, vectors = np.linalg.eigh(covariance)
    kept = size > 1e-12 * max(float(size[-1]), 0.0)
    return np.asarray(vectors[:, kept] * np.sqrt(size[kept]))


def _p_value(interval: Callable[[float], ConfidenceInterval]) -> float:
    """Two-sided p-value: the smallest α whose interval of confidence 1 - α excludes 0."""
    inside, outside = 8.0, 0.0
    narrow = interval(1e-6)
    if np.isnan(narrow.low):
        return np.nan
    if narrow.low <= 0 <= narrow.high:
        return 1.0
    wide = interval(inside)
    if not wide.low <= 0 <= wide.high:
        return float(2 * stats.norm.sf(inside))
    for _ in range(30):
        middle = (inside + outside) / 2
        found = interval(middle)
        if found.low <= 0 <= found.high:
            inside = middle
        else:
            outside = middle
    return float(2 * stats.norm.sf(inside))


def _unseen_pair(
    one: WeightedEstimator, two: WeightedEstimator, w: float, v: float, rewards: tuple[float, float]
) -> Unseen:
    """A row that the log might have held, with weight w for the first policy and v for the second."""
    ranges = [(one.unseen_terms(w, reward), two.unseen_terms(v, reward)) for reward in rewards]
    return Unseen(
        1 + w - v,
        min(first[0] - second[1] for first, second in ranges),
        max(first[1] - second[0] for first, second in ranges),
    )
