"""What each row contributes to the error of a metric: the delta method, for metrics that are smooth enough.

To first order, a metric's error is a sum of contributions of the rows, of mean 0. Its variance is that of the
contributions, summed within groups first where rows of a group (a user's) are not independent; the
difference of two metrics has the difference of their contributions. A weight enters as a sampling weight:
it scales what a row contributes, and does not make it several independent rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.calibration import pcoc
from ctrkit.metrics.checks import Floats, Indices, dense_rank, group_codes, score_rows
from ctrkit.metrics.order import sort_keys, stable_order
from ctrkit.metrics.probability import (
    brier,
    entropy,
    log_loss,
    log_losses,
    normalized_entropy,
    relative_information_gain,
)
from ctrkit.metrics.ranking import auc, auc_by_group, average_precision, gauc
from ctrkit.metrics.top_k import (
    hit_rate_at,
    mean_average_precision,
    mean_reciprocal_rank,
    ndcg_at,
    ranking_by_group,
)

# A function (labels, values) or (labels, values, groups) -> float, usually with a `weight` of rows.
Metric: TypeAlias = Callable[..., float]
Scale: TypeAlias = Literal["logarithm", "log-odds", "logarithm of the rest"]
# Labels, values and weights of the rows, each [N], and the metric's value -> contributions [N].
Influence: TypeAlias = Callable[[Floats, Floats, Floats, float], Floats]


class Linearised(NamedTuple):
    """How a metric's error comes about, and the scale on which it is nearest to normal."""

    influence: Influence
    scale: Scale


class GroupMean(NamedTuple):
    """A metric that is a mean over groups of rows, on the scale of the log-odds.

    Attributes:
        by_group: (labels, values, weight, group of each row, groups, **options) -> each group's value, NaN
            where it has none, and its weight in the mean, both [groups].
        options: those of the metric that it knows. weighted: whether rows may have weights.
    """

    by_group: Callable[..., tuple[Floats, Floats]]
    options: frozenset[str]
    weighted: bool = False


def _of_auc(y: Floats, s: Floats, w: Floats, value: float) -> Floats:
    """DeLong, DeLong & Clarke-Pearson 1988: each row's share of opponents beaten, less the mean, over the
    size of its class; summed by cluster this is Obuchowski 1997."""
    rank = dense_rank(s)
    positives, negatives = np.bincount(rank, w * y), np.bincount(rank, w * (1 - y))
    m, n = (int(np.count_nonzero(w[y == label])) for label in (1, 0))
    if min(m, n) < 2:
        raise DataError(
            "an interval of AUC needs two rows of each class", column="labels", mend="Give more rows"
        )
    all_positive, all_negative = positives.sum(), negatives.sum()
    beaten = (np.cumsum(negatives) - negatives / 2) / all_negative
    beaten_by = (all_positive - np.cumsum(positives) + positives / 2) / all_positive
    # The roots turn sums of squares into the sample variances of DeLong, for small classes.
    of_positive = (beaten[rank] - value) / all_positive * np.sqrt(m / (m - 1))
    of_negative = (beaten_by[rank] - value) / all_negative * np.sqrt(n / (n - 1))
    contribution: Floats = w * np.where(y == 1, of_positive, of_negative)
    return contribution


def _of_average_precision(y: Floats, s: Floats, w: Floats, value: float) -> Floats:
    """Of E[precision(s) | y = 1]: a positive's own precision, and what a row does to the precision of every
    positive at or below it, (y - precision) over the rows at or above."""
    rank = dense_rank(s)
    positives, rows = np.bincount(rank, w * y), np.bincount(rank, w)
    above = np.cumsum(rows[::-1])[::-1]
    hits = np.cumsum(positives[::-1])[::-1]
    divisor = np.where(above > 0, above, 1.0)
    precision = hits / divisor
    as_hit = np.cumsum(positives / divisor)
    as_row = np.cumsum(positives / divisor * precision)
    own = y * (precision[rank] - value)
    contribution: Floats = w * (own + y * as_hit[rank] - as_row[rank]) / positives.sum()
    return contribution


def _of_pcoc(y: Floats, p: Floats, w: Floats, value: float) -> Floats:
    contribution: Floats = w * (p - value * y) / (w @ y)
    return contribution


def _of_log_loss(y: Floats, p: Floats, w: Floats, value: float) -> Floats:
    contribution: Floats = w * (log_losses(y, p) - value) / w.sum()
    return contribution


def _of_brier(y: Floats, p: Floats, w: Floats, value: float) -> Floats:
    contribution: Floats = w * (np.square(p - y) - value) / w.sum()
    return contribution


def _of_normalized_entropy(y: Floats, p: Floats, w: Floats, value: float) -> Floats:
    """Of loss / H(rate), whose slopes are 1 / H in the loss and -value · H'(rate) / H in the rate."""
    mass = w.sum()
    rate = float(w @ y / mass)
    losses = log_losses(y, p)
    slope = np.log((1 - rate) / rate)
    error = losses - w @ losses / mass - value * slope * (y - rate)
    contribution: Floats = w * error / entropy(rate) / mass
    return contribution


def _of_information_gain(y: Floats, p: Floats, w: Floats, value: float) -> Floats:
    return -_of_normalized_entropy(y, p, w, 1 - value)


def _gauc_by_group(
    y: Floats, s: Floats, w: Floats, group: Indices, number: int, by: str = "impressions"
) -> tuple[Floats, Floats]:
    area, impressions = auc_by_group(y, s, w, group, number)
    if by == "impressions":
        return area, impressions
    return area, np.bincount(group, w * y, minlength=number).astype(np.float64, copy=False)


def _top_by_group(
    metric: str, y: Floats, s: Floats, w: Floats, group: Indices, number: int, k: int | None = None
) -> tuple[Floats, Floats]:
    found: Floats = getattr(ranking_by_group(y, s, group, k), metric)
    return found, np.ones(number)


LINEARISED: Mapping[Metric, Linearised] = {
    auc: Linearised(_of_auc, "log-odds"),
    average_precision: Linearised(_of_average_precision, "log-odds"),
    pcoc: Linearised(_of_pcoc, "logarithm"),
    log_loss: Linearised(_of_log_loss, "logarithm"),
    brier: Linearised(_of_brier, "logarithm"),
    normalized_entropy: Linearised(_of_normalized_entropy, "logarithm"),
    relative_information_gain: Linearised(_of_information_gain, "logarithm of the rest"),
}
GROUP_MEANS: Mapping[Metric, GroupMean] = {
    gauc: GroupMean(_gauc_by_group, frozenset({"by"}), weighted=True),
    ndcg_at: GroupMean(partial(_top_by_group, "ndcg"), frozenset({"k"})),
    mean_average_precision: GroupMean(partial(_top_by_group, "average_precision"), frozenset({"k"})),
    mean_reciprocal_rank: GroupMean(partial(_top_by_group, "reciprocal_rank"), frozenset()),
    hit_rate_at: GroupMean(partial(_top_by_group, "hit"), frozenset({"k"})),
}


def is_linearised(metric: Metric, options: Mapping[str, Any]) -> bool:
    """Whether there is a formula for the metric with these options."""
    if metric in GROUP_MEANS:
        return GROUP_MEANS[metric].options.issuperset(options)
    return metric in LINEARISED and not options


class Contributions(NamedTuple):
    """A metric's value with what each independent group of rows contributes to its error.

    Attributes:
        value: of the metric. scale: on which its error is nearest to normal.
        by_cluster: what each group (or row, where all are independent) contributes, [groups].
        trials: what a value of 0 or 1, at which nothing varies, was found on: pairs of distinct rows, or
            groups with a value of their own.
    """

    value: float
    by_cluster: Floats
    scale: Scale
    trials: float

    @property
    def deviation(self) -> float:
        """The standard error of the value."""
        return deviation(self.by_cluster)


def contributions(
    metric: Metric,
    labels: ArrayLike,
    values: ArrayLike,
    groups: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    options: Mapping[str, Any] | None = None,
) -> Contributions:
    """Of a metric that `is_linearised` with these options, by name.

    Raises:
        DataError: bad values, fewer than two groups, or the metric is undefined on the rows.
        ConfigError: the metric takes no weight.
    """
    y, v, w = score_rows(labels, values, weight, column="probabilities")
    options = options or {}
    if metric in GROUP_MEANS and groups is None:
        what = "GAUC" if metric is gauc else "the metric"
        raise DataError(f"{what} needs groups", column="groups", mend="Name the group of each row")
    codes, number = (np.arange(len(y)), len(y)) if groups is None else group_codes(groups, len(y))
    if number < 2:
        raise DataError(
            "an interval needs at least two rows or groups", column="groups", mend="Give more rows"
        )
    if metric in GROUP_MEANS:
        if weight is not None and not GROUP_MEANS[metric].weighted:
            raise ConfigError("the metric takes no weight of rows")
        of_group, mass = GROUP_MEANS[metric].by_group(y, v, w, codes, number, **options)
        counted = ~np.isnan(of_group)
        if not counted.any():
            metric(y, v, codes, **options)  # says what is wrong
        value = float(np.average(of_group[counted], weights=mass[counted]))
        by_cluster = np.where(counted, mass * (of_group - value), 0.0) / mass[counted].sum()
        return Contributions(value, by_cluster, "log-odds", float(counted.sum()))
    if metric in (
        auc,
        average_precision,
    ):  # both the value and what rows contribute need the order: sort once
        order = stable_order(sort_keys(v))
        y, v, w, codes = y[order], v[order], w[order], codes[order]
    value = metric(y, v, weight=w)
    by_row = LINEARISED[metric].influence(y, v, w, value)
    by_cluster = np.bincount(codes, by_row, minlength=number).astype(np.float64, copy=False)
    positives = float(y.sum())
    return Contributions(
        value, by_cluster, LINEARISED[metric].scale, trials=min(positives, len(y) - positives)
    )


def deviation(by_cluster: Floats) -> float:
    """Standard error of a sum of independent contributions of mean 0, with the correction of G / (G - 1)."""
    number = len(by_cluster)
    return float(np.sqrt(by_cluster @ by_cluster * number / (number - 1)))
