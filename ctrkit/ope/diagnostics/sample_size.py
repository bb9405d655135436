"""How many rows it takes to tell a difference, from the rows there are."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from ctrkit.errors import ConfigError
from ctrkit.ope.estimators.base import Estimate

POWER = 0.8
# Nobody logs so many: an effect that takes more is none.
MOST_ROWS = 1e15


@dataclass(frozen=True)
class SampleSize:
    """What it takes to tell a difference of a given size from none.

    Attributes:
        effect: the difference that is to be told, a row.
        rows: the rows there are.
        rows_needed: rows in all; None where no number does, for an effect of 0 or next to it, or one that is
            no finite number.
        rows_more: of those, what is still missing; None likewise.
        power: the probability with which as many rows as there are would tell this effect.
        detectable: the least effect that as many rows as there are would tell with the power asked for.
        confidence, target_power: of the test that is planned.
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
    """Rows needed until an interval leaves out 0 with the power asked for.

    Lachin, Introduction to Sample Size Determination and Power Analysis for Clinical Trials, Controlled
    Clinical Trials 1981: an effect δ is told with power 1 - β by a two-sided test of
    level α where δ = (z_{1-α/2} + z_{1-β}) σ / √n. Here σ / √n is the standard error of the difference, with
    whatever it holds of weights and of users' rows that go together, so that n further rows of the same kind
    of log (as many a user) shrink it by their root. The other tail, of telling an effect of the wrong sign,
    is left out: it has less than 5e-5 where the power is at least a half and the confidence 95 %.

    An observed effect is a noisy plan: it is too large whenever chance made it so, and then too few rows
    are asked for. An effect that would matter, given beforehand, is better.

    Args:
        effect: the difference to be told, of either sign.
        standard_error: of the difference, found on `rows` rows.
        rows: how many rows that error comes from.
        confidence: of the two-sided interval that will be asked.
        power: the probability to tell, from 0.5 on.

    Raises:
        ConfigError: for a confidence or power out of bounds, no rows, or an error that is no number above 0.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", hint="Give 0.95, say")
    if not 0.5 <= power < 1:
        raise ConfigError(f"a power of {power} is not from 0.5 to below 1", hint="Give 0.8, say")
    if rows < 1:
        raise ConfigError(f"nothing can be planned from {rows} rows", hint="Give the rows of the log")
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
    """Rows needed until an estimate's difference from the logging policy is told from 0.

    The standard error is read off the interval of the difference: half its width over the normal quantile.
    For a normal interval that is its standard error. Cressie-Read's, which need not have the estimate in the
    middle, are wider while positives are few, and shrink faster than by the root of the rows: for them the
    number is an upper one.

    Args:
        estimate: with intervals of this confidence.
        rows: the log's.
        effect: the difference to be told; by default the one observed.

    Raises:
        ConfigError: see `sample_size`.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", hint="Give 0.95, say")
    interval = estimate.difference_interval
    error = (interval.high - interval.low) / 2 / float(stats.norm.isf((1 - confidence) / 2))
    return sample_size(estimate.difference if effect is None else effect, error, rows, confidence, power)


def readable(rows: int) -> str:
    """A number of rows to read: whole below ten thousand, else with two or three digits that matter."""
    if rows < 10_000:
        return f"{rows:,}"
    for size, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if rows >= size:
            return f"{rows / size:.3g} {name}" if rows < 1000 * size else f"{rows / size:,.0f} {name}"
    return f"{round(rows, 3 - len(str(rows))):,}"
