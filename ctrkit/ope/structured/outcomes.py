"""Several outcomes of a policy, such as click, conversion, value and cost, and their ratios.

Both intervals of ratios assume normal means. With only a few conversions they are too short, the delta
method's more than Fieller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from scipy import stats

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError, nearest
from ctrkit.ope.diagnostics.joint import JointEstimators
from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows
from ctrkit.ope.intervals.interval import ConfidenceInterval
from ctrkit.ope.intervals.moments import REWARD

Range: TypeAlias = tuple[float, float]
RatioMethod: TypeAlias = Literal["auto", "delta", "fieller"]

# Numerator and denominator: return on ad spend, cost per conversion, cost per click, conversion rate.
RATIOS: dict[str, tuple[str, str]] = {
    "roas": ("value", "cost"),
    "cpa": ("cost", "conversion"),
    "ecpc": ("cost", "click"),
    "cvr": ("conversion", "click"),
}
# Where z² times the squared relative error of the denominator is smaller than this, the intervals of the
# delta method and of Fieller hardly differ.
NEGLIGIBLE = 0.05


@dataclass(frozen=True)
class RatioEstimate:
    """A ratio of two outcomes' means under a policy.

    Attributes:
        name: the name of the ratio.
        value: the ratio; NaN where the denominator is 0.
        interval: the interval of the ratio; an end may be infinite where the denominator may be 0.
        logging: the ratio under the logging policy.
        difference: `value` minus `logging`.
        difference_interval: the delta method's interval of the difference; unbounded where `interval` is.
    """

    name: str
    value: float
    interval: ConfidenceInterval
    logging: float
    difference: float
    difference_interval: ConfidenceInterval


@dataclass(frozen=True)
class OutcomeEstimates:
    """Each outcome's mean per row under a policy, and ratios of the means."""

    outcomes: dict[str, Estimate]
    ratios: dict[str, RatioEstimate]
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class OutcomeSums:
    """Estimates the means of several reward columns under a policy, and their ratios.

    Args:
        ranges: the smallest and the largest possible value by outcome; None where unknown.
        kind: the class of the estimator, such as `SelfNormalizedInversePropensityScoring`.
        ratios: name to (numerator, denominator); by default those of `RATIOS` whose outcomes are there.

    Raises:
        ConfigError: a ratio needs an outcome that is not there.
    """

    def __init__(
        self,
        ranges: Mapping[str, Range | None],
        kind: type[Estimator],
        ratios: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self.ranges = dict(ranges)
        if ratios is None:
            ratios = {name: pair for name, pair in RATIOS.items() if set(pair) <= set(ranges)}
        for name, pair in ratios.items():
            for outcome in pair:
                if outcome not in ranges:
                    raise ConfigError(
                        f"the ratio '{name}' needs the outcome '{outcome}', which is not there",
                        hint=nearest(outcome, ranges),
                    )
        self.ratios = dict(ratios)
        self.joint = JointEstimators({name: kind(range_) for name, range_ in ranges.items()})

    def update(self, rows: Mapping[str, LoggedRows]) -> None:
        """Take in rows: the same rows for each outcome, with its own rewards and predictions."""
        self.joint.update(rows)

    def merge(self, other: Self) -> None:
        """Merge the rows of another, of other users."""
        self.joint.merge(other.joint)

    def result(self, confidence: float = 0.95, method: RatioMethod = "auto") -> OutcomeEstimates:
        """Means with the estimators' own intervals, and ratios.

        Args:
            confidence: confidence level of each interval.
            method: the method of the ratios' intervals: `delta`, `fieller`, or `auto`, which is Fieller's
                where the two may differ (see `NEGLIGIBLE`).

        Raises:
            ConfigError: for a confidence out of bounds.
        """
        if not 0 < confidence < 1:
            raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", hint="Give 0.95, say")
        estimates = {name: each.result(confidence) for name, each in self.joint.estimators.items()}
        ratios = {
            name: self._ratio(name, *pair, estimates, confidence, method)
            for name, pair in self.ratios.items()
        }
        return OutcomeEstimates(estimates, ratios, confidence)

    def _ratio(
        self,
        name: str,
        above: str,
        below: str,
        estimates: Mapping[str, Estimate],
        confidence: float,
        method: RatioMethod,
    ) -> RatioEstimate:
        joint = self.joint
        mean = joint.sums.mean
        top, bottom = estimates[above].value, estimates[below].value
        directions = np.stack([joint.direction(above), joint.direction(below)])
        logged = np.stack([joint.coefficients(above, REWARD), joint.coefficients(below, REWARD)])
        logged_top, logged_bottom = logged @ mean
        signs = not any((self.ranges[part] or (-1.0, 0.0))[0] < 0 for part in (above, below))
        reach = float(stats.norm.isf((1 - confidence) / 2))
        suffix = ", clustered" if joint.clustered else ""

        covariance = joint.covariance(directions)
        doubt = np.inf if bottom == 0 else reach**2 * covariance[1, 1] / bottom**2
        value = top / bottom if bottom else np.nan
        slope = _slope(top, bottom, directions)
        if method == "fieller" or (method == "auto" and not doubt < NEGLIGIBLE):
            low, high = fieller(top, bottom, covariance, reach, nonnegative=signs)
            interval = ConfidenceInterval(low, high, f"fieller{suffix}")
        else:
            error = _error(joint, slope) if slope is not None else np.inf
            low = value - reach * error if bottom else -np.inf
            high = value + reach * error if bottom else np.inf
            interval = ConfidenceInterval(max(low, 0.0) if signs else low, high, f"delta{suffix}")

        before = float(logged_top / logged_bottom) if logged_bottom else np.nan
        base = _slope(float(logged_top), float(logged_bottom), logged)
        bounded = bool(np.isfinite([interval.low, interval.high]).all())
        if slope is None or base is None or not bounded:
            least, most = -np.inf, np.inf
        else:
            error = _error(joint, slope - base)
            least, most = value - before - reach * error, value - before + reach * error
        difference = ConfidenceInterval(float(least), float(most), f"delta{suffix}")
        return RatioEstimate(name, float(value), interval, before, float(value - before), difference)


def _slope(top: float, bottom: float, directions: Floats) -> Floats | None:
    """Coefficients of z whose mean has the variance of top / bottom (the delta method); None for bottom 0.

    Oehlert, A Note on the Delta Method, The American Statistician 1992: (δ top - ratio · δ bottom) / bottom.
    """
    return None if bottom == 0 else np.asarray((directions[0] - top / bottom * directions[1]) / bottom)


def _error(joint: JointEstimators, direction: Floats) -> float:
    return float(np.sqrt(joint.covariance(direction[None])[0, 0]))


def fieller(
    top: float, bottom: float, covariance: Floats, reach: float, nonnegative: bool = False
) -> tuple[float, float]:
    """Fieller's interval of the ratio of two means with normal errors.

    Fieller, Some Problems in Interval Estimation, Journal of the Royal Statistical Society B, 1954: all
    ratios ρ with (top - ρ bottom)² <= reach² (s_tt - 2 ρ s_tb + ρ² s_bb). Where the denominator may be 0 this
    set is unbounded: two rays, or all numbers. Then the smallest interval that contains the set is returned.

    Args:
        top: the estimated mean in the numerator.
        bottom: the estimated mean in the denominator.
        covariance: [2, 2] covariance of the two estimates.
        reach: how many standard errors the interval extends, such as 1.96.
        nonnegative: whether neither mean can be below 0, so that the ratio cannot either.
    """
    least = 0.0 if nonnegative else -np.inf
    squared = reach**2
    a = bottom**2 - squared * covariance[1, 1]
    b = top * bottom - squared * covariance[0, 1]
    c = top**2 - squared * covariance[0, 0]
    inside = b**2 - a * c  # at least 0 where a > 0, as the estimate itself belongs to the set
    if a > 0:
        half = float(np.sqrt(max(inside, 0.0)))
        low, high = (b - half) / a, (b + half) / a
        return max(float(low), least), max(float(high), least)
    if not nonnegative or inside <= 0 or a == 0:
        return least, np.inf
    # Two rays: up to the smaller root, and from the larger one on.
    half = float(np.sqrt(inside))
    smaller, larger = sorted(((b - half) / a, (b + half) / a))
    return (0.0 if smaller >= 0 else max(float(larger), 0.0)), np.inf
