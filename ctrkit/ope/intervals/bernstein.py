"""Empirical Bernstein intervals: valid for every log length, and wide."""

from __future__ import annotations

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.ope.intervals.interval import ConfidenceInterval
from ctrkit.ope.intervals.moments import Moments


def empirical_bernstein(
    moments: Moments, direction: Floats, bounds: tuple[float, float], confidence: float
) -> ConfidenceInterval:
    """Interval for the mean of g = direction · z, whatever the distribution of g within its bounds.

    Maurer and Pontil, Empirical Bernstein Bounds and Sample-Variance Penalization, COLT 2009, theorem 4:
    for n independent g of range R and sample variance V (with divisor n - 1), with probability 1 - δ

        E[g] - mean(g) <= √(2 V ln(2 / δ) / n) + 7 R ln(2 / δ) / (3 (n - 1)).

    Applied to both sides with δ = (1 - confidence) / 2. Nothing in it is asymptotic. For the
    weighted clicks of ads, the second part (which grows with the largest weight) exceeds the first up to very
    long logs.

    Args:
        moments: sums over the rows. The independent units are users, or rows that stand for c decisions each.
            The theorem is applied to the units' sums of c (g - E[g]), which have mean 0 and a range of at
            most R times the largest Σ c. So n in its second part is the number of decisions divided by the
            largest Σ c, or by the design effect if that is larger.
        direction: [4] the coefficients of g = direction · z.
        bounds: smallest and largest possible g. For IPS with rewards from 0 to 1 these are 0 and the largest
            weight. The interval stays within them.
        confidence: confidence level of the two-sided interval, such as 0.95.

    Raises:
        ConfigError: the bounds are infinite, or the lower one is not below the upper one.
    """
    least, most = bounds
    if not (np.isfinite(most - least) and least < most):
        raise ConfigError(
            f"the bounds {least:g} and {most:g} give no empirical Bernstein interval",
            hint="Give finite bounds, the lower one first",
        )
    mean = float(moments.mean @ direction)
    effect = max(moments.design_effect(direction), moments.largest)
    rows = moments.count / effect
    if rows <= 1:
        return ConfidenceInterval(least, most, "empirical Bernstein")
    tail = np.log(4 / (1 - confidence))
    # The standard error includes √(V / n) and the design effect.
    reach = moments.standard_error(direction) * np.sqrt(2 * tail) + 7 * (most - least) * tail / (
        3 * (rows - 1)
    )
    return ConfidenceInterval(
        max(float(mean - reach), least), min(float(mean + reach), most), "empirical Bernstein"
    )
