"""Each row's contribution to the error of a metric: the delta method, for metrics that are smooth enough.

To first order, a metric's error is a sum of contributions of the rows, with mean 0. Its variance is that of
the contributions; contributions of dependent rows (those of a user) are summed first. The contributions to a
difference of two metrics are the differences of their contributions. Weights are sampling weights: a row of
weight c contributes as much as c copies of it, and stays one independent row (Horvitz & Thompson 1952; the
linearised variance of a weighted estimate is that of Binder 1983).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats, Indices
from ctrkit.errors import DataError
from ctrkit.metrics.calibration import pcoc
from ctrkit.metrics.checks import Held, dense_rank, held_rows, independent_units, score_rows
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
# With fewer effective units than this (less than about two) there is no interval.
FEWEST_UNITS = 1.5
# A "share" is between 0 and 1; its interval is computed on the logarithm.
IntervalScale: TypeAlias = Literal["logarithm", "log-odds", "logarithm of the rest", "share"]
# Labels, values and weights of the rows, each [N], and the metric's value -> contributions [N].
Influence: TypeAlias = Callable[[Floats, Floats, Floats, float], Floats]


class Linearised(NamedTuple):
    """The contributions of rows to a metric's error, and the scale on which it is nearest to normal."""

    influence: Influence
    scale: IntervalScale


class GroupMean(NamedTuple):
    """A metric that is a mean over groups of rows; its interval is computed on the log-odds.

    Attributes:
        by_group: (labels, values, weight, group of each row, number of groups, **options) -> each group's
            value (NaN if it has none) and its weight in the mean, both [groups].
        options: the metric's options that `by_group` takes.
    """

    by_group: Callable[..., tuple[Floats, Floats]]
    options: frozenset[str]


def _of_auc(y: Floats, s: Floats, w: Floats, value: float) -> Floats:
    """DeLong, DeLong & Clarke-Pearson 1988; summed by cluster this is Obuchowski 1997.

    A row contributes the share of the other class that it is ranked right against, minus the mean of this
    share, divided by the size of its class.
    """
    rank = dense_rank(s)
    positives, negatives = np.bincount(rank, w * y), np.bincount(rank, w * (1 - y))
    all_positive, all_negative = positives.sum(), negatives.sum()
    beaten = (np.cumsum(negatives) - negatives / 2) / all_negative
    beaten_by = (all_positive - np.cumsum(positives) + positives / 2) / all_positive
    of_positive = (beaten[rank] - value) / all_positive
    of_negative = (beaten_by[rank] - value) / all_negative
    contribution: Floats = w * np.where(y == 1, of_positive, of_negative)
    return contribution


def _of_average_precision(y: Floats, s: Floats, w: Floats, value: float) -> Floats:
    """Contributions to E[precision(s) | y = 1].

    They are a positive row's own precision, and a row's effect on the precision of every positive row at or
    below it: (y - precision) / rows at or above.
    """
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
    """Contributions to loss / H(rate): slopes are 1 / H in the loss, -value · H'(rate) / H in the rate."""
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
    found = ranking_by_group(y, s, group, k, w)
    return getattr(found, metric), found.weight


LINEARISED: Mapping[Metric, Linearised] = {
    auc: Linearised(_of_auc, "log-odds"),
    average_precision: Linearised(_of_average_precision, "log-odds"),
    pcoc: Linearised(_of_pcoc, "logarithm"),
    log_loss: Linearised(_of_log_loss, "logarithm"),
    brier: Linearised(_of_brier, "share"),
    normalized_entropy: Linearised(_of_normalized_entropy, "logarithm"),
    relative_information_gain: Linearised(_of_information_gain, "logarithm of the rest"),
}
GROUP_MEANS: Mapping[Metric, GroupMean] = {
    gauc: GroupMean(_gauc_by_group, frozenset({"by"})),
    ndcg_at: GroupMean(partial(_top_by_group, "ndcg"), frozenset({"k"})),
    mean_average_precision: GroupMean(partial(_top_by_group, "average_precision"), frozenset({"k"})),
    mean_reciprocal_rank: GroupMean(partial(_top_by_group, "reciprocal_rank"), frozenset()),
    hit_rate_at: GroupMean(partial(_top_by_group, "hit"), frozenset({"k"})),
}


def is_linearised(metric: Metric, options: Mapping[str, Any]) -> bool:
    """Whether the metric with these options has a closed form for its variance."""
    if metric in GROUP_MEANS:
        return GROUP_MEANS[metric].options.issuperset(options)
    return metric in LINEARISED and not options


class Contributions(NamedTuple):
    """A metric's value, and the contribution of each independent group of rows to its error.

    Attributes:
        value: the metric's value.
        by_cluster: the contribution of each group (of each row, if all are independent), [groups].
        scale: the scale on which the error is nearest to normal.
        correction: the small-sample factor of the sum of squares, such as groups / (groups - 1).
        units: the effective number of groups (see `ctrkit.metrics.checks.independent_units`).
        trials: the effective number of groups behind a value of 0 or 1, at which nothing varies: groups of
            the rarer class, or groups that have a value of the metric.
    """

    value: float
    by_cluster: Floats
    scale: IntervalScale
    correction: float
    units: float
    trials: float

    @property
    def deviation(self) -> float:
        """The standard error of the value."""
        return float(np.sqrt(self.by_cluster @ self.by_cluster * self.correction))

    def less(self, other: Contributions) -> Contributions:
        """The difference of two metrics of the same rows."""
        difference = self.by_cluster - other.by_cluster
        return self._replace(value=self.value - other.value, by_cluster=difference)


def contributions(
    metric: Metric,
    labels: ArrayLike,
    values: ArrayLike,
    groups: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    options: Mapping[str, Any] | None = None,
) -> Contributions:
    """The contributions to a metric that `is_linearised` with these options.

    Args:
        metric: the metric, without options.
        labels: 0 or 1, [N].
        values: probabilities or scores, [N].
        groups: the group of each row, [N].
        weight: the weight of each row, [N].
        options: the metric's options by name.

    Raises:
        DataError: bad values, too few independent groups, or the metric is undefined on the rows.
    """
    rows = score_rows(labels, values, weight, name="probabilities")
    options = options or {}
    if metric in GROUP_MEANS and groups is None:
        what = "GAUC" if metric is gauc else "the metric"
        raise DataError(f"{what} needs groups", argument="groups", hint="Name the group of each row")
    held = held_rows(rows, groups)
    need_units(held.independent, held.units)
    if metric in GROUP_MEANS:
        return _of_groups(metric, held, options)
    y, v, w, unit = held.labels, held.values, held.weight, held.unit
    if metric in (auc, average_precision):
        # Both the value and the contributions need the order: sort once.
        order = stable_order(sort_keys(v))
        y, v, w, unit = y[order], v[order], w[order], unit[order]
    value = metric(y, v, weight=w)
    by_row = LINEARISED[metric].influence(y, v, w, value)
    correction = held.units / (held.units - 1)
    if metric is auc:
        # Each class has its own sample variance (DeLong; Obuchowski by the clusters with rows of the class).
        for label in (1, 0):
            clusters = np.unique(unit[y == label]).size
            if clusters < 2:
                raise DataError(
                    "an interval of AUC needs two rows of each class, in two groups if rows have groups",
                    argument="labels",
                    hint="Give more rows",
                )
            by_row[y == label] *= np.sqrt(clusters / (clusters - 1))
        correction = 1.0
    by_cluster = np.bincount(unit, by_row, minlength=held.units).astype(np.float64, copy=False)
    trials = held.independent if metric is brier else min(held.of_class(1), held.of_class(0))
    return Contributions(value, by_cluster, LINEARISED[metric].scale, correction, held.independent, trials)


def _of_groups(metric: Metric, held: Held, options: Mapping[str, Any]) -> Contributions:
    """Contributions to a mean over groups; only groups that have a value count."""
    y, v, w, group, number, _ = held
    of_group, mass = GROUP_MEANS[metric].by_group(y, v, w, group, number, **options)
    counted = np.flatnonzero(~np.isnan(of_group))
    if not counted.size:
        metric(y, v, group, **options)  # raises an error that says what is wrong
    of_group, mass = of_group[counted], mass[counted]
    units = independent_units(mass, np.arange(counted.size))
    need_units(units, counted.size)
    value = float(np.average(of_group, weights=mass))
    by_cluster = mass * (of_group - value) / mass.sum()
    return Contributions(value, by_cluster, "log-odds", counted.size / (counted.size - 1), units, units)


def need_units(independent: float, units: int) -> None:
    """Raise a DataError if there are too few rows, or groups, for an interval."""
    if units < 2:
        raise DataError(
            "an interval needs at least two rows or groups", argument="groups", hint="Give more rows"
        )
    if independent < FEWEST_UNITS:
        raise DataError(
            f"one row or group has nearly all the weight (the {units:,} count as {independent:.2f}), so "
            "there is no interval",
            argument="weight",
            hint="Give more rows",
        )
