"""How sure a measured metric is: intervals from linearisation where it is known, else the bootstrap.

Linearisation (the delta method, `influence.py`) writes a metric's error as a sum of what each row
contributes; for AUC this is DeLong's interval. It costs about as much as the metric itself does; the
bootstrap (`resampling.py`) costs `draws` times that. Two models are compared in `comparison.py`.
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

# From so many independent units on, the normal distribution stands in for Student's t.
MANY_UNITS = 50.0
# A standard error below this share of a value is rounding.
_ROUNDING = 1e-12

IntervalMethod: TypeAlias = Literal["linearised", "quadratic form", "bootstrap", "scaled Poisson", "bound"]


@dataclass(frozen=True)
class MetricInterval:
    """A metric's value with the ends of its confidence interval and how they were found.

    Of method "bound" where nothing varied (an AUC of 1): the ends count independent rows or groups alone.
    """

    value: float
    low: float
    high: float
    confidence: float
    method: IntervalMethod

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
    """The interval of a metric by the best method there is for it.

    `auc`, `average_precision`, `pcoc`, `log_loss`, `brier`, `normalized_entropy` and
    `relative_information_gain` are linearised, and so are the means over groups, `gauc`, `ndcg_at` (with its
    k set by `functools.partial`), `mean_average_precision`, `mean_reciprocal_rank` and `hit_rate_at`;
    `debiased_ece` has a closed form too. Every other metric (`ece`, `smooth_ece`, a function of one's own) is
    bootstrapped. Near an ECE of 0, where |gap| has its kink, the bootstrap's interval is too high: read
    `debiased_ece` there.

    Args:
        metric: a function (labels, values) or (labels, values, groups) -> float; one that takes a `weight`
            of rows is resampled without copying.
        labels: 0 or 1, [N].
        values: probabilities, or scores where the metric takes those, [N].
        groups: rows of one group (a user's) are drawn together, [N]; a metric of groups needs them.
        draws, seed: of the bootstrap, which alone uses them.
        weight: of rows, for metrics that take it, [N]; a row of weight 2 counts as two copies of itself,
            which are one independent row: what the inverse of a sampling probability means.
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

    Whole groups are drawn with replacement where given (Field & Welsh 2007). The basic form takes off the
    bias that the percentile form would add once more: ECE grows with noise, and a resample is noisier than
    the data. A metric that was never negative has its low end cut at 0. Draws on which the metric is
    undefined (one class only) are left out.

    Args:
        as in `interval`. The metric sees rows copied, or in another order: what it needs of each row must
        come through its arguments.

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
    """The basic bootstrap interval of a value and its draws, wider where units are few; see `bootstrap`."""
    need_variation(float(np.ptp(drawn)), value)
    tail = (1 - confidence) / 2
    wider = quantile(confidence, units) / quantile(confidence, np.inf)
    low, high = value + wider * (value - np.quantile(drawn, [1 - tail, tail]))
    if min(value, drawn.min()) >= 0:
        low, high = max(low, 0.0), max(high, 0.0)
    return MetricInterval(value, float(low), float(high), confidence, "bootstrap")


def interval_of(found: Contributions, confidence: float) -> MetricInterval:
    """The interval of a linearised metric, taken on the scale on which its error is nearest to normal."""
    value, scale = found.value, found.scale
    varies = found.deviation > _ROUNDING * abs(value)
    if (scale == "log-odds" and value in (0, 1)) or (scale == "share" and not varies):
        # All units say the same: count them as coin tosses. Of others, which may say anything from 0 to 1,
        # there are at most so many.
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
    """How many standard errors from its middle an interval ends.

    Below 50 independent units, a variance estimated from them is itself unsure: Student's t with one degree
    of freedom less than there are units (for clusters, Cameron & Miller 2015, section VI), else the normal.
    """
    if units < MANY_UNITS:
        return float(stdtrit(units - 1, (1 + confidence) / 2))
    return NormalDist().inv_cdf((1 + confidence) / 2)


def two_sided(errors: float, units: float) -> float:
    """The chance of a value so many standard errors from 0, or further, were it 0; see `quantile`."""
    return 2 * float(stdtr(units - 1, -abs(errors))) if units < MANY_UNITS else erfc(abs(errors) / sqrt(2))


def need_variation(spread: float, value: float) -> None:
    """Raise a DataError where a metric is the same whichever rows it is taken of."""
    if spread <= _ROUNDING * abs(value):
        raise DataError(
            "the metric does not vary from row to row, so nothing tells how sure it is", hint="Give more rows"
        )


def _exp(exponent: float) -> float:
    """e to a power, that of 700 for all above: the end of an interval that is as good as unbounded."""
    return float(np.exp(min(exponent, 700.0)))


def _debiased_ece_interval(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None,
    weight: ArrayLike | None,
    confidence: float,
    options: Mapping[str, Any],
) -> MetricInterval:
    """Interval of the debiased square d'Sd - tr(SV), a quadratic form of the gaps d with covariance V, at
    shares S on the diagonal.

    For normal d with mean δ its variance is 4 δ'SVSδ + 2 tr(SVSV); δδ' is estimated without bias by
    dd' - V. The ends are square roots, cut at 0.
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
