"""Clopper-Pearson intervals of weighted rewards, treated as a scaled binomial count."""

from __future__ import annotations

import numpy as np
from scipy import stats

from ctrkit.errors import ConfigError
from ctrkit.ope.intervals.interval import ConfidenceInterval
from ctrkit.ope.intervals.moments import TERM, WEIGHT, Moments


def clopper_pearson(
    moments: Moments, largest_weight: float, reward_range: tuple[float, float], confidence: float
) -> ConfidenceInterval:
    """Interval for the value of a policy from the moments of its IPS terms f = w r.

    Clopper and Pearson, The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial,
    Biometrika 1934, as used for weighted rows by Karampatziakis, Langford and Mineiro (NeurIPS 2020,
    section 4) and the vw-estimators package. With s = (r - least) / (most - least) in [0, 1] and w at most
    W, Σ w s / W counts as the successes of n / W trials, k of m:

        low = Beta⁻¹(α / 2; k, m - k + 1),   high = Beta⁻¹(1 - α / 2; k + 1, m - k).

    The interval is exact where all weights are 1 and rewards have two values. With other weights it assumes a
    variance of w s of at most W v (1 - v), while the true bound is v (W - v). The two are nearly equal at the
    click rates of ads; the assumed one is too small where most rewards are 1 and weights are large.

    Args:
        moments: sums over the rows. The number of trials is divided by their design effect, where users have
            several rows or rows stand for several decisions.
        largest_weight: W, the largest possible weight, which may be above the largest weight of the rows.
        reward_range: smallest and largest possible reward.
        confidence: confidence level of the two-sided interval, such as 0.95.

    Raises:
        ConfigError: the largest weight is not above 0 and finite, or the range is empty.
    """
    least, most = reward_range
    if not (0 < largest_weight < np.inf and least < most):
        raise ConfigError(
            f"weights up to {largest_weight:g} and rewards from {least:g} to {most:g} give no interval",
            hint="Give a finite largest weight above 0, and the lower reward first",
        )
    if not moments.degrees:
        return ConfidenceInterval(least, most, "clopper-pearson")
    scaled = (TERM - least * WEIGHT) / (most - least)
    trials = moments.count / largest_weight / moments.design_effect(scaled)
    # Where the weights' mean is above 1 by chance, there could be more successes than trials.
    successes = float(np.clip(moments.mean @ scaled, 0.0, 1.0)) * trials
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, successes, trials - successes + 1)) if successes > 0 else 0.0
    high = float(stats.beta.isf(tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return ConfidenceInterval(least + (most - least) * low, least + (most - least) * high, "clopper-pearson")
