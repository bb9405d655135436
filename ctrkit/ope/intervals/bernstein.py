"""Empirical Bernstein intervals: true for every log length, and wide."""

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

    Applied to both sides with δ = (1 - confidence) / 2. Nothing in it is asymptotic; for the weighted
    clicks of ads the second part, which grows with the largest weight, outweighs the first for long.

    Args:
        moments: mergeable; see `Moments`. What is independent are users, or rows of which each stands for c
            decisions: the sums of c (g - E[g]) over them have mean 0 and a range of at most R times the
            largest Σ c, and the theorem is applied to those. So n in its second part is the number of
            decisions over the largest Σ c, or over the design effect, if that is larger.
        direction: g = direction · z.
        bounds: the least and the largest possible g; for IPS with rewards from 0 to 1, 0 and the largest
            weight. The interval stays within them.
        confidence: such as 0.95; the interval is two-sided.

    Raises:
        ConfigError: for infinite or empty bounds.
    """
    least, most = bounds
    if not (np.isfinite(most - least) and least < most):
        raise ConfigError(
            f"terms from {least:g} to {most:g} have no empirical Bernstein interval",
            hint="Give finite bounds, the lesser one first",
        )
    mean = float(moments.mean @ direction)
    effect = max(moments.design_effect(direction), moments.largest)
    rows = moments.count / effect
    if rows <= 1:
        return ConfidenceInterval(least, most, "empirical Bernstein")
    tail = np.log(4 / (1 - confidence))
    # The standard error holds √(V / n) and the design effect.
    reach = moments.standard_error(direction) * np.sqrt(2 * tail) + 7 * (most - least) * tail / (
        3 * (rows - 1)
    )
    return ConfidenceInterval(
        max(float(mean - reach), least), min(float(mean + reach), most), "empirical Bernstein"
    )
