"""Which metrics an evaluation shows, and how each is measured with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctrkit import metrics
from ctrkit.arrays import Indices
from ctrkit.errors import DataError
from ctrkit.metrics import Metric, MetricInterval
from ctrkit.metrics.calibration import ace
from ctrkit.metrics.comparison import compare
from ctrkit.metrics.probability import relative_information_gain
from ctrkit.metrics.ranking import average_precision
from ctrkit.metrics.smooth import ks_calibration_error, smooth_ece, smooth_ece_at
from ctrkit.metrics.top_k import hit_rate_at, mean_average_precision, mean_reciprocal_rank, ndcg_at


class EvaluationWarning(UserWarning):
    """The rows give reason to doubt the metrics measured on them; the message says why."""


@dataclass(frozen=True)
class Measure:
    """One metric of an evaluation.

    Attributes:
        name: the name in reports and gates.
        metric: a function (labels, probabilities, weight=...) -> float, or one with groups.
        best: whether a higher or a lower value is better, or `one` if 1 is right.
        grouped: whether the metric is defined within groups and needs them.
        main: whether the metric is also shown by slice; the interval of such a metric has a closed form.
        ranks: whether the metric judges an order; it then gets the scores that rows are ranked by.
        compared: whether the difference between two models gets an interval, not only each model's value.
    """

    name: str
    metric: Metric
    best: Literal["higher", "lower", "one"]
    grouped: bool = False
    main: bool = False
    ranks: bool = False
    compared: bool = True


# The cut-off k of the metrics of the top of a ranking.
TOP = 10

MEASURES: tuple[Measure, ...] = (
    Measure("auc", metrics.auc, "higher", main=True, ranks=True),
    Measure("gauc", metrics.gauc, "higher", grouped=True, main=True, ranks=True),
    Measure("average_precision", average_precision, "higher", ranks=True),
    Measure(f"ndcg_at_{TOP}", partial(ndcg_at, k=TOP), "higher", grouped=True, ranks=True),
    Measure(f"map_at_{TOP}", partial(mean_average_precision, k=TOP), "higher", grouped=True, ranks=True),
    Measure("mean_reciprocal_rank", mean_reciprocal_rank, "higher", grouped=True, ranks=True),
    Measure(f"hit_rate_at_{TOP}", partial(hit_rate_at, k=TOP), "higher", grouped=True, ranks=True),
    Measure("log_loss", metrics.log_loss, "lower", main=True),
    Measure("normalized_entropy", metrics.normalized_entropy, "lower", main=True),
    Measure("relative_information_gain", relative_information_gain, "higher"),
    Measure("brier", metrics.brier, "lower", main=True),
    Measure("pcoc", metrics.pcoc, "one", main=True),
    Measure("ece", metrics.ece, "lower"),
    Measure("debiased_ece", metrics.debiased_ece, "lower", main=True),
    Measure("mce", metrics.mce, "lower"),
    Measure("ace", ace, "lower"),
    Measure("ks_calibration_error", ks_calibration_error, "lower"),
    Measure("smooth_ece", smooth_ece, "lower", compared=False),
)
MAIN: tuple[Measure, ...] = tuple(one for one in MEASURES if one.main)


@dataclass(frozen=True)
class Drawing:
    """The confidence level of intervals, and the bootstrap of those without a closed form.

    Attributes:
        draws: the number of bootstrap draws.
        confidence: confidence level of all intervals.
        seed: seed of the bootstrap.
    """

    draws: int = 200
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class MetricDifference:
    """The difference of a metric between two models on the same rows.

    Attributes:
        interval: the difference with its interval.
        p_value: the p-value of the hypothesis that there is no difference.
    """

    interval: MetricInterval
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**self.interval.to_dict(), "p_value": self.p_value}


# The kernel width of smooth ECE where the error is 0.
_NARROWEST = 1e-6


@dataclass(frozen=True)
class Measured:
    """Metrics measured on some rows.

    Attributes:
        intervals: metric -> its value with interval, or None if it is undefined on these rows.
        reasons: undefined metric -> why it is undefined.
    """

    intervals: dict[str, MetricInterval | None]
    reasons: dict[str, str]


def measure(
    measures: Sequence[Measure],
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: NDArray[Any] | None = None,
    drawing: Drawing | None = None,
    weight: ArrayLike | None = None,
    scores: ArrayLike | None = None,
) -> Measured:
    """Every metric with its interval, clustered by group if there are groups.

    Some metrics are undefined on some rows (AUC on one class, GAUC without groups), or their uncertainty
    cannot be estimated (rows of a single user). The result then holds the reason; nothing is raised.

    Args:
        measures: the metrics to measure.
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        groups: the group of each row, [N]. A row without a group has a number below 0 of its own, and is left
            out of metrics within groups.
        drawing: the confidence level and the bootstrap.
        weight: the weight of each row, [N]; a row of weight 2 counts as two copies of it.
        scores: what rows are ranked by, [N]; by default the probabilities.
    """
    how = drawing or Drawing()
    seen = _Seen.of(labels, groups, weight)
    intervals: dict[str, MetricInterval | None] = {}
    reasons: dict[str, str] = {}
    for one in measures:
        try:
            intervals[one.name] = _interval(one, seen, _values(one, probabilities, scores), how)
        except DataError as error:
            intervals[one.name] = None
            reasons[one.name] = error.problem
    return Measured(intervals, reasons)


@dataclass(frozen=True)
class Compared:
    """Two models measured on the same rows.

    Attributes:
        first: the metrics of the first model.
        second: the metrics of the second model.
        differences: metric -> first minus second, or None if it is undefined.
    """

    first: Measured
    second: Measured
    differences: dict[str, MetricDifference | None]


def compare_models(
    measures: Sequence[Measure],
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    groups: NDArray[Any] | None = None,
    drawing: Drawing | None = None,
    weight: ArrayLike | None = None,
    scores: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
) -> Compared:
    """Every metric of two models and its paired difference, with intervals and p-values.

    The arguments are those of `measure`. A metric that is not `compared` is measured for each model alone.

    Args:
        measures: the metrics to measure.
        labels: 0 or 1, [N].
        first: the first model's probabilities, [N].
        second: the second model's probabilities, [N].
        groups: the group of each row, [N].
        drawing: the confidence level and the bootstrap.
        weight: the weight of each row, [N].
        scores: what each model ranks rows by, [N]; by default its probabilities.
    """
    how = drawing or Drawing()
    both = (Measured({}, {}), Measured({}, {}))
    differences: dict[str, MetricDifference | None] = {}
    for one in measures:
        differences[one.name] = None
        if one.compared:
            try:
                rows = _Seen.of(labels, groups, weight).by(one)
                p, q = (
                    np.asarray(_values(one, values, ranked))[rows.kept]
                    for values, ranked in zip((first, second), scores, strict=True)
                )
                found = compare(
                    one.metric, rows.y, p, q, rows.groups, how.confidence,
                    draws=how.draws, seed=how.seed, weight=rows.weight,
                )  # fmt: skip
            except DataError:
                pass
            else:
                differences[one.name] = MetricDifference(found.difference, found.p_value)
                for each, value in zip(both, (found.first, found.second), strict=True):
                    each.intervals[one.name] = value
                continue
        for each, values, ranked in zip(both, (first, second), scores, strict=True):
            alone = measure([one], labels, values, groups, how, weight, ranked)
            each.intervals.update(alone.intervals)
            each.reasons.update(alone.reasons)
    return Compared(*both, differences)


@dataclass(frozen=True)
class _Seen:
    """The rows that a metric is measured on, and their positions (`kept`) among all rows."""

    y: NDArray[Any]
    groups: NDArray[Any] | None
    weight: NDArray[Any] | None
    kept: Indices | slice

    @staticmethod
    def of(labels: ArrayLike, groups: NDArray[Any] | None, weight: ArrayLike | None) -> _Seen:
        mass = None if weight is None else np.asarray(weight)
        return _Seen(np.asarray(labels), groups, mass, slice(None))

    def by(self, one: Measure) -> _Seen:
        """The rows for one metric: a metric within groups takes only rows that have a group."""
        if not one.grouped or self.groups is None or (self.groups >= 0).all():
            return self
        kept = np.flatnonzero(self.groups >= 0)
        groups = self.groups[kept] if kept.size else None
        return _Seen(self.y[kept], groups, None if self.weight is None else self.weight[kept], kept)


def _values(one: Measure, probabilities: ArrayLike, scores: ArrayLike | None) -> ArrayLike:
    return scores if one.ranks and scores is not None else probabilities


def _interval(one: Measure, seen: _Seen, values: ArrayLike, how: Drawing) -> MetricInterval:
    rows, metric = seen.by(one), one.metric
    v = np.asarray(values)[rows.kept]
    if one.grouped and rows.groups is None:
        raise DataError(f"{one.name} needs groups, and no row has one")
    if metric is smooth_ece:
        # Every call searches for the kernel's width, which is too slow for 200 draws. All draws use the width
        # found on the data, at which the value is the same.
        metric = partial(smooth_ece_at, width=max(smooth_ece(rows.y, v, rows.weight), _NARROWEST))
    return metrics.interval(
        metric, rows.y, v, rows.groups, how.confidence, draws=how.draws, seed=how.seed, weight=rows.weight
    )
