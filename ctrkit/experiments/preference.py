"""What interleaved impressions say together, and how many impressions they save beside an A/B test."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ctrkit.arrays import Floats, Indices
from ctrkit.experiments.interleaving import Preference, preference
from ctrkit.metrics.significance import quantile, two_sided


class MeanPreference(NamedTuple):
    """The preferences of many impressions, from -1 (the first ranking is better) to 1 (the second one is).

    Attributes:
        mean: mean preference of an impression.
        low: lower end of its interval.
        high: upper end.
        p_value: two-sided, of a mean of 0; NaN where nothing varies.
        signs: users that prefer the second ranking, the first or neither, with the sign test.
    """

    mean: float
    low: float
    high: float
    p_value: float
    signs: Preference


def preference_of(preferences: Floats, units: Indices, confidence: float) -> MeanPreference:
    """The mean preference, and the sign test.

    The mean is that of Chapelle, Joachims, Radlinski and Yue (TOIS 2012), twice their share of wins above one
    half, where ties count half. Its standard error is that of a ratio, Σ preferences over Σ impressions of
    the units (Cochran, Sampling Techniques, 1977, section 6.4), so that a user with many impressions is one
    unit. The sign test of users holds for any number of
    them, if a ranking that is no better wins a user as often as it loses one.

    Args:
        preferences: of each impression, [n].
        units: number of each impression's user, from 0 and each there, [n].
        confidence: confidence level of the interval.
    """
    sums, sizes = np.bincount(units, preferences), np.bincount(units)
    mean = float(preferences.mean())
    error = _error(sums - mean * sizes, sizes)
    reach = quantile(confidence, sizes.size) * error
    # Marginal credit of equal rankings is 0 but for rounding.
    signs = np.sign(np.round(sums, 9))
    wins, losses = int((signs > 0).sum()), int((signs < 0).sum())
    return MeanPreference(
        mean,
        max(mean - reach, -1.0),
        min(mean + reach, 1.0),
        two_sided(mean / error, sizes.size) if error > 0 else np.nan,
        preference(wins, losses, sizes.size - wins - losses, confidence),
    )


class Needed(NamedTuple):
    """Impressions that a test needs; infinite where the log shows no difference, NaN where nothing varies.

    Attributes:
        interleaving: with interleaved lists.
        ab_test: with half of the impressions for each ranker.
    """

    interleaving: float
    ab_test: float


def impressions_needed(
    preferences: Floats, clicks: Floats, sizes: Indices, *, significance: float = 0.05, power: float = 0.8
) -> Needed:
    """Impressions at which each test finds the log's difference with a power.

    n = (z(1 - α/2) + z(power))² v / d² for a difference d that has the variance v / n (Kohavi, Tang and Xu,
    Trustworthy Online Controlled Experiments, 2020, chapter 17). Of an A/B test with halves, v is twice the
    sum of both variances. Users are units, as many impressions each as in the log.

    Args:
        preferences: sum of each user's preferences, [U].
        clicks: each user's clicks, were all lists the first ranker's and were all the second's, [2, U].
        sizes: number of each user's impressions, [U].
        significance: α, of a two-sided test.
        power: chance to find the difference.
    """
    normal, impressions = NormalDist(), sizes.sum()
    scale = (normal.inv_cdf(1 - significance / 2) + normal.inv_cdf(power)) ** 2
    means = [sums.sum() / impressions for sums in (preferences, *clicks)]
    variances = [
        impressions * _error(sums - mean * sizes, sizes) ** 2
        for sums, mean in zip((preferences, *clicks), means, strict=True)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        return Needed(
            float(scale * variances[0] / np.square(means[0])),
            float(scale * 2 * (variances[1] + variances[2]) / np.square(means[2] - means[1])),
        )


def _error(residuals: Floats, sizes: Indices) -> float:
    """The standard error of Σ values / Σ sizes, from the units' residuals."""
    if sizes.size < 2:
        return float("nan")
    return float(np.sqrt(sizes.size / (sizes.size - 1) * (residuals @ residuals)) / sizes.sum())
