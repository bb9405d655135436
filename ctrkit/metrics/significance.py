"""How sure a measured metric is: intervals from linearisation where it is known, else the bootstrap.

Linearisation (the delta method) writes a metric's error as a sum of what each row contributes; the variance
is that of the contributions, summed within groups first when rows of a group (a user's) are not independent.
For AUC this is DeLong's interval. It costs about as much as the metric itself does; the bootstrap costs
`draws` times that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.calibration import debiased_ece, gap_covariance, pcoc
from ctrkit.metrics.checks import Floats, Indices, dense_rank, group_codes, need_confidence, score_rows
from ctrkit.metrics.probability import brier, entropy, log_loss, log_losses, normalized_entropy
from ctrkit.metrics.ranking import auc, auc_by_group, gauc

# A function (labels, probabilities, weight=...) -> float; a weight of 2 must count as two rows.
Metric: TypeAlias = Callable[..., float]
Method: TypeAlias = Literal["linearised", "quadratic form", "bootstrap"]


@dataclass(frozen=True)
class Interval:
    """A metric's value with the ends of its confidence interval and how they were found."""

    value: float
    low: float
    high: float
    confidence: float
    method: Method

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def interval(
    metric: Metric,
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None = None,
    draws: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The interval of a metric by the best method there is for it.

    `auc`, `gauc`, `pcoc`, `log_loss`, `brier` and `normalized_entropy` are linearised, `debiased_ece` has a
    closed form too; every other metric (`ece`, `mce`, a function of one's own) is bootstrapped. Near an ECE
    of 0, where |gap| has its kink, the bootstrap's interval is too high: read `debiased_ece` there.

    Args:
        metric: a function (labels, probabilities, weight=...) -> float.
        labels, probabilities: [N]; scores do for `auc` and `gauc`.
        groups: rows of one group are drawn together; needed by `gauc`.
        draws: of the bootstrap, which alone uses it, and `seed`.

    Raises:
        DataError: bad values, or the metric is undefined on them.
        ConfigError: draws or confidence out of range.
    """
    need_confidence(confidence)
    if metric in _LINEARISED:
        return _linearised(metric, labels, probabilities, groups, confidence)
    if metric is debiased_ece:
        return _debiased_ece_interval(labels, probabilities, groups, confidence)
    return bootstrap(metric, labels, probabilities, groups, draws, confidence, seed)


def bootstrap(
    metric: Metric,
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None = None,
    draws: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The basic bootstrap interval, [2v - q_high, 2v - q_low] (Davison & Hinkley 1997, section 5.2).

    Whole groups are drawn with replacement where given (Field & Welsh 2007); how often a row was drawn
    becomes its weight, so nothing is copied. The basic form takes off the bias that the percentile form
    would add once more: ECE grows with noise, and a resample is noisier than the data. A metric that
    was never negative has its low end cut at 0. Draws on which the metric is undefined (one class only)
    are left out.

    Raises:
        DataError: bad values, or the metric is undefined on the data or on over half of the draws.
        ConfigError: draws or confidence out of range.
    """
    need_confidence(confidence)
    if draws < 20:
        raise ConfigError(f"draws must be at least 20, and {draws} was given", mend="Use 500 or more")
    y, p, _ = score_rows(labels, probabilities, column="probabilities")
    codes, number = (np.arange(len(y)), len(y)) if groups is None else group_codes(groups, len(y))
    order = np.argsort(p, kind="stable")  # once, so that metrics which sort find it done at every draw
    y, p, codes = y[order], p[order], codes[order]
    value = metric(y, p)
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        times = np.bincount(random.integers(number, size=number), minlength=number)
        try:
            drawn.append(metric(y, p, weight=times[codes]))
        except DataError:
            continue
    if len(drawn) < draws / 2:
        raise DataError("the metric is undefined on most resamples of the rows", mend="Give more rows")
    tail = (1 - confidence) / 2
    low, high = 2 * value - np.quantile(drawn, [1 - tail, tail])
    if min(value, *drawn) >= 0:
        low, high = max(low, 0.0), max(high, 0.0)
    return Interval(value, float(low), float(high), confidence, "bootstrap")


def _linearised(
    metric: Metric, labels: ArrayLike, values: ArrayLike, groups: ArrayLike | None, confidence: float
) -> Interval:
    y, v, _ = score_rows(labels, values, column="probabilities")
    if metric is gauc and groups is None:
        raise DataError("GAUC needs groups", column="groups", mend="Name the group of each row")
    codes, number = (np.arange(len(y)), len(y)) if groups is None else group_codes(groups, len(y))
    if number < 2:
        raise DataError(
            "an interval needs at least two rows or groups", column="groups", mend="Give more rows"
        )
    value = metric(y, v, codes) if metric is gauc else metric(y, v)
    influence, scale = _LINEARISED[metric]
    by_cluster = np.bincount(codes, influence(y, v, codes, value), minlength=number)
    deviation = float(np.sqrt(by_cluster @ by_cluster * number / (number - 1)))
    half = NormalDist().inv_cdf((1 + confidence) / 2) * deviation
    low, high = value, value
    if scale == "logarithm" and value > 0:
        low, high = (value * np.exp(sign * half / value) for sign in (-1, 1))
    elif scale == "log-odds" and 0 < value < 1:
        odds, step = value / (1 - value), half / (value * (1 - value))
        low, high = (1 / (1 + np.exp(-sign * step) / odds) for sign in (-1, 1))
    elif scale == "log-odds":
        # Every pair was won (or lost): nothing varies, so count pairs of distinct rows as coin tosses.
        pairs = min(y.sum(), len(y) - y.sum())
        bound = ((1 - confidence) / 2) ** (1 / pairs)
        low, high = (bound, value) if value == 1 else (value, 1 - bound)
    return Interval(value, float(low), float(high), confidence, "linearised")


def _auc_influence(y: Floats, s: Floats, _: Indices, value: float) -> Floats:
    """DeLong, DeLong & Clarke-Pearson 1988: each row's share of opponents beaten, less the mean, over the
    size of its class; summed by cluster this is Obuchowski 1997."""
    rank = dense_rank(s)
    positives, negatives = np.bincount(rank, y), np.bincount(rank, 1 - y)
    m, n = positives.sum(), negatives.sum()
    if min(m, n) < 2:
        raise DataError(
            "an interval of AUC needs two rows of each class", column="labels", mend="Give more rows"
        )
    beaten = (np.cumsum(negatives) - negatives / 2) / n
    beaten_by = (m - np.cumsum(positives) + positives / 2) / m
    # The roots turn sums of squares into the sample variances of DeLong, for small classes.
    of_positive = (beaten[rank] - value) / np.sqrt(m * (m - 1))
    of_negative = (beaten_by[rank] - value) / np.sqrt(n * (n - 1))
    contribution: Floats = np.where(y == 1, of_positive, of_negative)
    return contribution


def _gauc_influence(y: Floats, s: Floats, group: Indices, value: float) -> Floats:
    """Of a ratio of sums over groups, with the group as the unit of sampling."""
    area, impressions = auc_by_group(y, s, np.ones(len(y)), group, int(group.max()) + 1)
    counted = ~np.isnan(area)
    contribution: Floats = np.where(counted, area - value, 0.0)[group] / impressions[counted].sum()
    return contribution


def _pcoc_influence(y: Floats, p: Floats, _: Indices, value: float) -> Floats:
    contribution: Floats = p / y.sum() - value * y / y.sum()
    return contribution


def _log_loss_influence(y: Floats, p: Floats, _: Indices, value: float) -> Floats:
    contribution: Floats = (log_losses(y, p) - value) / len(y)
    return contribution


def _brier_influence(y: Floats, p: Floats, _: Indices, value: float) -> Floats:
    contribution: Floats = (np.square(p - y) - value) / len(y)
    return contribution


def _normalized_entropy_influence(y: Floats, p: Floats, _: Indices, value: float) -> Floats:
    """Of loss / H(rate), whose slopes are 1 / H in the loss and -value · H'(rate) / H in the rate."""
    rate = y.mean()
    base = entropy(float(rate))
    losses = log_losses(y, p)
    slope = np.log((1 - rate) / rate)
    contribution: Floats = (losses - losses.mean() - value * slope * (y - rate)) / base / len(y)
    return contribution


# By metric: what each row contributes to its error, and the scale on which that error is nearest to normal.
_Influence: TypeAlias = Callable[[Floats, Floats, Indices, float], Floats]
_LINEARISED: Mapping[Metric, tuple[_Influence, Literal["logarithm", "log-odds"]]] = {
    auc: (_auc_influence, "log-odds"),
    gauc: (_gauc_influence, "log-odds"),
    pcoc: (_pcoc_influence, "logarithm"),
    log_loss: (_log_loss_influence, "logarithm"),
    brier: (_brier_influence, "logarithm"),
    normalized_entropy: (_normalized_entropy_influence, "logarithm"),
}


def _debiased_ece_interval(
    labels: ArrayLike, probabilities: ArrayLike, groups: ArrayLike | None, confidence: float
) -> Interval:
    """Interval of the debiased square d'Sd - tr(SV), a quadratic form of the gaps d with covariance V, at
    shares S on the diagonal.

    For normal d with mean δ its variance is 4 δ'SVSδ + 2 tr(SVSV); δδ' is estimated without bias by
    dd' - V. The ends are square roots, cut at 0.
    """
    share, gap, covariance = gap_covariance(labels, probabilities, groups=groups)
    weighted = share * gap
    square = weighted @ gap - share @ np.diag(covariance)
    noise = float(np.sum(np.outer(share, share) * covariance**2))  # tr(SVSV)
    variance = 4 * max(0.0, float(weighted @ covariance @ weighted) - noise) + 2 * noise
    half = NormalDist().inv_cdf((1 + confidence) / 2) * np.sqrt(variance)
    low, value, high = (float(np.sqrt(max(0.0, end))) for end in (square - half, square, square + half))
    return Interval(value, low, high, confidence, "quadratic form")
