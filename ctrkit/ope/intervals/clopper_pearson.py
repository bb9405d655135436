"""Clopper-Pearson intervals of weighted rewards: a binomial count that has been scaled."""

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

    Exact where all weights are 1 and the rewards have two values. With other weights it takes the worst
    case for the variance of w s to be W v (1 - v), where it is v (W - v): nearly the same at the click
    rates of ads, too little where most rewards are 1 and weights are large.

    Args:
        moments: mergeable; see `Moments`. Where users are known, or rows stand for others that were dropped,
            fewer trials count, by the design effect.
        largest_weight: W, the largest possible weight; the moments do not know it.
        reward_range: the least and the largest possible reward.
        confidence: such as 0.95; the interval is two-sided.

    Raises:
        ConfigError: for a largest weight that is not above 0, or an empty range.
    """
    least, most = reward_range
    if not (0 < largest_weight < np.inf and least < most):
        raise ConfigError(
            f"no interval follows from weights up to {largest_weight:g}, rewards from {least:g} to {most:g}",
            hint="Give a finite weight above 0, and the lesser reward first",
        )
    if not moments.degrees:
        return ConfidenceInterval(least, most, "clopper-pearson")
    scaled = (TERM - least * WEIGHT) / (most - least)
    trials = moments.count / largest_weight / moments.design_effect(scaled)
    # Where the weights' mean is above 1 by chance, the successes could outnumber the trials.
    successes = float(np.clip(moments.mean @ scaled, 0.0, 1.0)) * trials
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, successes, trials - successes + 1)) if successes > 0 else 0.0
    high = float(stats.beta.isf(tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return ConfidenceInterval(least + (most - least) * low, least + (most - least) * high, "clopper-pearson")
