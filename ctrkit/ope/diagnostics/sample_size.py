"""How many rows are needed to detect a difference, estimated from the rows of a log."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from ctrkit.errors import ConfigError
from ctrkit.ope.estimators.base import Estimate

POWER = 0.8
# Nobody logs so many rows: an effect that needs more counts as none.
MOST_ROWS = 1e15


@dataclass(frozen=True)
class SampleSize:
    """The rows needed to detect a difference of a given size.

    Attributes:
        effect: the difference to detect, per row.
        rows: the number of rows of the log.
        rows_needed: rows needed in all; None where no number of rows is enough, because the effect is 0,
            almost 0 or not finite.
        rows_more: how many of the rows needed are still missing; None as `rows_needed`.
        power: the probability of detecting this effect with as many rows as the log has.
        detectable: the minimum detectable difference: the smallest effect that as many rows as the log has
            detect with the target power.
        confidence: confidence level of the planned two-sided test.
        target_power: power of the planned test.
    """

    effect: float
    rows: int
    rows_needed: int | None
    rows_more: int | None
    power: float
    detectable: float
    confidence: float
    target_power: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def sample_size(
    effect: float, standard_error: float, rows: int, confidence: float = 0.95, power: float = POWER
) -> SampleSize:
    """The rows needed until an interval excludes 0 with the given power.

    Lachin, Introduction to Sample Size Determination and Power Analysis for Clinical Trials, Controlled
    Clinical Trials 1981: a two-sided test of level α detects an effect δ with power 1 - β where
    δ = (z_{1-α/2} + z_{1-β}) σ / √n. Here σ / √n is the standard error of the difference. It already accounts
    for weights and for several rows of a user, so it shrinks with the square root of the rows if the longer
    log has as many rows per user. The other tail, an effect of the wrong sign, is left out: its probability
    is below 5e-5 where the power is at least a half and the confidence 95 %.

    Planning with an observed effect is risky: where chance made the effect too large, the plan has too few
    rows. It is better to plan with the smallest effect that would matter.

    Args:
        effect: the difference to detect, of either sign.
        standard_error: standard error of the difference on `rows` rows.
        rows: the number of rows that the standard error comes from.
        confidence: confidence level of the planned two-sided interval.
        power: the probability of detecting the effect, at least 0.5 and below 1.

    Raises:
        ConfigError: for a confidence or power out of bounds, no rows, or a standard error that is not a
            finite number above 0.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", hint="Give 0.95, say")
    if not 0.5 <= power < 1:
        raise ConfigError(f"a power of {power} is not at least 0.5 and below 1", hint="Give 0.8, say")
    if rows < 1:
        raise ConfigError(f"{rows} rows are too few to plan from", hint="Give the number of rows of the log")
    if not (math.isfinite(standard_error) and standard_error > 0):
        raise ConfigError(
            f"a standard error of {standard_error} says nothing about longer logs",
            hint="Give a log in which rewards and weights vary",
        )
    critical = float(stats.norm.isf((1 - confidence) / 2))
    detectable = (critical + float(stats.norm.ppf(power))) * standard_error
    ratio = abs(effect) / standard_error
    told = float(stats.norm.cdf(ratio - critical) + stats.norm.cdf(-ratio - critical))
    needed = None
    times = detectable / effect if effect != 0 and math.isfinite(effect) else math.inf
    if rows * times * times < MOST_ROWS:
        # Rounded before it is rounded up: 100 rows are not to become 101 by an error in the 16th digit.
        needed = max(math.ceil(round(rows * times**2, 6)), 1)
    return SampleSize(
        effect,
        rows,
        needed,
        None if needed is None else max(needed - rows, 0),
        told,
        detectable,
        confidence,
        power,
    )


def sample_size_of(
    estimate: Estimate,
    rows: int,
    confidence: float = 0.95,
    power: float = POWER,
    effect: float | None = None,
) -> SampleSize:
    """The rows needed until the interval of an estimate's difference from the logging policy excludes 0.

    The standard error is half the width of that interval over the normal quantile. For a normal interval this
    is exact. A Cressie-Read interval is wider while positives are few, and shrinks faster than with the
    square root of the rows: for it the number of rows is an upper bound.

    Args:
        estimate: an estimate with intervals of this confidence.
        rows: the number of rows of the log.
        confidence: confidence level of the estimate's intervals and of the planned one.
        power: the probability of detecting the effect, at least 0.5 and below 1.
        effect: the difference to detect; by default the observed one.

    Raises:
        ConfigError: as `sample_size`.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", hint="Give 0.95, say")
    interval = estimate.difference_interval
    error = (interval.high - interval.low) / 2 / float(stats.norm.isf((1 - confidence) / 2))
    return sample_size(estimate.difference if effect is None else effect, error, rows, confidence, power)


def readable(rows: int) -> str:
    """A number of rows as text: exact below ten thousand, else rounded to two or three digits."""
    if rows < 10_000:
        return f"{rows:,}"
    for size, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if rows >= size:
            return f"{rows / size:.3g} {name}" if rows < 1000 * size else f"{rows / size:,.0f} {name}"
    return f"{round(rows, 3 - len(str(rows))):,}"
