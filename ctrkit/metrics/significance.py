"""Intervals of metrics: by linearisation if there is a formula, otherwise by the bootstrap.

Linearisation (the delta method, `influence.py`) writes a metric's error as a sum of contributions of the
rows; for AUC this gives DeLong's interval. It costs about as much as the metric itself. The bootstrap
(`resampling.py`) costs `draws` times as much. `comparison.py` compares two models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import erfc, sqrt
from statistics import NormalDist
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.calibration import debiased_ece, gap_covariance
from ctrkit.metrics.checks import held_rows, need_confidence, probability_rows
from ctrkit.metrics.influence import Contributions, Metric, contributions, is_linearised, need_units
from ctrkit.metrics.resampling import Resampler, unwrap

# From this many independent units on, the normal distribution replaces Student's t.
MANY_UNITS = 50.0
# A standard error below this share of a value is rounding.
_ROUNDING = 1e-12

MetricIntervalMethod: TypeAlias = Literal[
    "linearised", "quadratic form", "bootstrap", "scaled Poisson", "bound", "seeds", "folds"
]


@dataclass(frozen=True)
class MetricInterval:
    """A metric's value with its confidence interval.

    Attributes:
        value: the metric's value.
        low: the lower end of the interval.
        high: the upper end of the interval.
        confidence: the confidence level.
        method: how the interval was found. "bound" means that nothing varied (an AUC of 1), so that the ends
            depend only on the number of independent rows or groups.
    """

    value: float
    low: float
    high: float
    confidence: float
    method: MetricIntervalMethod

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def interval(
    metric: Metric,
    labels: ArrayLike,
    values: ArrayLike,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    *,
    draws: int = 500,
    seed: int = 0,
    weight: ArrayLike | None = None,
    columns: Mapping[str, ArrayLike] | None = None,
) -> MetricInterval:
    """The interval of a metric, by the best method for it.

    `auc`, `average_precision`, `pcoc`, `log_loss`, `brier`, `normalized_entropy` and
    `relative_information_gain` are linearised, and so are the means over groups, `gauc`, `ndcg_at` (with its
    k set by `functools.partial`), `mean_average_precision`, `mean_reciprocal_rank` and `hit_rate_at`;
    `debiased_ece` has a closed form too. Every other metric (`ece`, `smooth_ece`, your own function) is
    bootstrapped. Near an ECE of 0, where |gap| has a kink, the bootstrap's interval is too high: use
    `debiased_ece` there.

    Args:
        metric: a function (labels, values) or (labels, values, groups) -> float. If it takes a `weight` of
            rows, it is resampled without copying.
        labels: 0 or 1, [N].
        values: probabilities, or scores if the metric takes scores, [N].
        groups: the group of each row, [N]; rows of one group (a user's) are not independent. A metric within
            groups needs them.
        confidence: confidence level of the interval.
        draws: number of bootstrap draws.
        seed: seed of the bootstrap.
        weight: the weight of each row, for metrics that take it, [N]: the inverse of its sampling
            probability. A row of weight 2 counts as two copies of it, which are one independent row.
        columns: further columns that the metric takes by name, such as `fields` of `field_ece`, [N] each.

    Raises:
        DataError: bad values, or the metric is undefined on them.
        ConfigError: draws or confidence out of range, or the metric takes no weight.
    """
    need_confidence(confidence)
    function, options = unwrap(metric)
    if is_linearised(function, options) and not columns:
        return interval_of(contributions(function, labels, values, groups, weight, options), confidence)
    if function is debiased_ece:
        return _debiased_ece_interval(labels, values, groups, weight, confidence, options)
    return bootstrap(
        metric, labels, values, groups, confidence, draws=draws, seed=seed, weight=weight, columns=columns
    )


def bootstrap(
    metric: Metric,
    labels: ArrayLike,
    values: ArrayLike,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    *,
    draws: int = 500,
    seed: int = 0,
    weight: ArrayLike | None = None,
    columns: Mapping[str, ArrayLike] | None = None,
) -> MetricInterval:
    """The basic bootstrap interval, [2v - q_high, 2v - q_low] (Davison & Hinkley 1997, section 5.2).

    If groups are given, whole groups are drawn with replacement (Field & Welsh 2007). The basic form
    subtracts the bias of noise, which the percentile form would add again: ECE grows with noise, and a draw
    is noisier than the data. If the metric was never negative, the lower end is at least 0. Draws on which
    the metric is undefined (one class only) are left out.

    The arguments are those of `interval`. The metric gets copied or reordered rows, so everything that it
    needs of a row must come through its arguments.

    Raises:
        DataError: bad values, or the metric is undefined on the data or on over half of the draws.
        ConfigError: draws or confidence out of range, or the metric takes no weight.
    """
    need_confidence(confidence)
    need_draws(draws)
    sample = Resampler(metric, labels, [values], groups, weight, columns)
    drawn = sample.draws(draws, seed)[:, 0]
    return interval_of_draws(sample.point[0], drawn, confidence, sample.independent)


def need_draws(draws: int) -> None:
    """Raise a ConfigError for too few draws of a bootstrap."""
    if draws < 20:
        raise ConfigError(f"draws must be at least 20, and {draws} was given", hint="Use 500 or more")


def interval_of_draws(value: float, drawn: Floats, confidence: float, units: float) -> MetricInterval:
    """The basic bootstrap interval of a value and its draws, wider if units are few (see `bootstrap`)."""
    need_variation(float(np.ptp(drawn)), value)
    tail = (1 - confidence) / 2
    wider = quantile(confidence, units) / quantile(confidence, np.inf)
    low, high = value + wider * (value - np.quantile(drawn, [1 - tail, tail]))
    if min(value, drawn.min()) >= 0:
        low, high = max(low, 0.0), max(high, 0.0)
    return MetricInterval(value, float(low), float(high), confidence, "bootstrap")


def interval_of(found: Contributions, confidence: float) -> MetricInterval:
    """The interval of a linearised metric, computed on the scale on which its error is nearest to normal."""
    value, scale = found.value, found.scale
    varies = found.deviation > _ROUNDING * abs(value)
    if (scale == "log-odds" and value in (0, 1)) or (scale == "share" and not varies):
        # All units have the same value: count them as coin tosses. This bounds the share of other units,
        # whose value may be anything from 0 to 1.
        others = 1 - ((1 - confidence) / 2) ** (1 / found.trials) if found.trials else 1.0
        low = value * (1 - others)
        return MetricInterval(value, float(low), float(low + others), confidence, "bound")
    need_variation(found.deviation, value)
    half = quantile(confidence, found.units) * found.deviation
    if scale in ("logarithm", "share"):
        low, high = (value * _exp(sign * half / value) for sign in (-1, 1))
    elif scale == "logarithm of the rest":
        low, high = (1 - (1 - value) * _exp(sign * half / (1 - value)) for sign in (1, -1))
    else:
        odds, step = value / (1 - value), half / (value * (1 - value))
        low, high = (1 / (1 + _exp(-sign * step) / odds) for sign in (-1, 1))
    return MetricInterval(value, float(low), float(high), confidence, "linearised")


def quantile(confidence: float, units: float) -> float:
    """The half width of an interval, in standard errors.

    With fewer than 50 independent units, the variance estimated from them is uncertain itself. Then Student's
    t is used, with one degree of freedom less than there are units (for clusters, Cameron & Miller 2015,
    section VI); otherwise the normal distribution.
    """
    if units < MANY_UNITS:
        return float(stdtrit(units - 1, (1 + confidence) / 2))
    return NormalDist().inv_cdf((1 + confidence) / 2)


def two_sided(errors: float, units: float) -> float:
    """The two-sided p-value of a value so many standard errors from 0 (see `quantile`)."""
    return 2 * float(stdtr(units - 1, -abs(errors))) if units < MANY_UNITS else erfc(abs(errors) / sqrt(2))


def need_variation(spread: float, value: float) -> None:
    """Raise a DataError if a metric does not vary between samples of the rows."""
    if spread <= _ROUNDING * abs(value):
        raise DataError(
            "the metric does not vary from row to row, so it has no interval", hint="Give more rows"
        )


def _exp(exponent: float) -> float:
    """e to a power of at most 700: the end of an interval that is practically unbounded."""
    return float(np.exp(min(exponent, 700.0)))


def _debiased_ece_interval(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None,
    weight: ArrayLike | None,
    confidence: float,
    options: Mapping[str, Any],
) -> MetricInterval:
    """The interval of `debiased_ece`, from that of its square d'Sd - tr(SV).

    d are the gaps, V is their covariance, and S has the shares of bins on its diagonal. For normal d with
    mean δ the variance of this quadratic form is 4 δ'SVSδ + 2 tr(SVSV), and dd' - V estimates δδ' without
    bias. The ends are the square roots of the interval's ends, which are cut at 0.
    """
    given = {"groups": groups, "weight": weight, **options}
    held = held_rows(probability_rows(labels, probabilities, weight), groups)
    need_units(held.independent, held.units)
    share, gap, covariance = gap_covariance(labels, probabilities, **given)
    weighted = share * gap
    square = weighted @ gap - share @ np.diag(covariance)
    noise = float(np.sum(np.outer(share, share) * covariance**2))  # tr(SVSV)
    variance = 4 * max(0.0, float(weighted @ covariance @ weighted) - noise) + 2 * noise
    need_variation(float(np.sqrt(variance)), float(square))
    half = quantile(confidence, held.independent) * np.sqrt(variance)
    low, value, high = (float(np.sqrt(max(0.0, end))) for end in (square - half, square, square + half))
    return MetricInterval(value, low, high, confidence, "quadratic form")
