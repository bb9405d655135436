"""Which metrics an evaluation shows, and how each is measured with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from ctrkit import metrics
from ctrkit.errors import DataError
from ctrkit.metrics import Interval, Metric
from ctrkit.metrics.calibration import ace
from ctrkit.metrics.comparison import compare
from ctrkit.metrics.probability import relative_information_gain
from ctrkit.metrics.ranking import average_precision
from ctrkit.metrics.smooth import ks_calibration_error, smooth_ece, smooth_ece_at
from ctrkit.metrics.top_k import hit_rate_at, mean_average_precision, mean_reciprocal_rank, ndcg_at


class EvaluationWarning(UserWarning):
    """The rows gave reason to doubt what was measured on them; the message says which."""


@dataclass(frozen=True)
class Measure:
    """One metric of an evaluation.

    Attributes:
        metric: a function (labels, probabilities, weight=...) -> float, or one with groups.
        best: the end that is better, or `one` where 1 is right.
        grouped: whether it is defined within groups, and so needs them.
        main: whether it is shown by slice too; such a metric's interval has a closed form.
        compared: whether a difference between two models is measured, and not each value alone.
    """

    name: str
    metric: Metric
    best: Literal["higher", "lower", "one"]
    grouped: bool = False
    main: bool = False
    compared: bool = True


# How far from the top of a group's ranking one looks.
TOP = 10

MEASURES: tuple[Measure, ...] = (
    Measure("auc", metrics.auc, "higher", main=True),
    Measure("gauc", metrics.gauc, "higher", grouped=True, main=True),
    Measure("average_precision", average_precision, "higher"),
    Measure(f"ndcg_at_{TOP}", partial(ndcg_at, k=TOP), "higher", grouped=True),
    Measure(f"map_at_{TOP}", partial(mean_average_precision, k=TOP), "higher", grouped=True),
    Measure("mean_reciprocal_rank", mean_reciprocal_rank, "higher", grouped=True),
    Measure(f"hit_rate_at_{TOP}", partial(hit_rate_at, k=TOP), "higher", grouped=True),
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
    """How sure to be, and how intervals without a closed form are drawn."""

    draws: int = 200
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Difference:
    """A model's metric less another's on the same rows.

    Attributes:
        interval: of the difference. p_value: of there being none.
    """

    interval: Interval
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**self.interval.to_dict(), "p_value": self.p_value}


# The kernel width of smooth ECE where the error is 0.
_NARROWEST = 1e-6


@dataclass(frozen=True)
class Measured:
    """What came of measuring.

    Attributes:
        intervals: metric -> interval, or None where it is undefined on these rows.
        reasons: metric -> why it is undefined.
    """

    intervals: dict[str, Interval | None]
    reasons: dict[str, str]


def measure(
    measures: Sequence[Measure],
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: NDArray[Any] | None = None,
    drawing: Drawing | None = None,
) -> Measured:
    """Every metric with its interval, clustered by group where there are groups.

    A metric that is undefined on the rows (AUC on one class, GAUC without groups) is told of, not raised.

    Args:
        labels: 0 or 1, [N]. probabilities: [N]. groups: [N].
    """
    how = drawing or Drawing()
    intervals: dict[str, Interval | None] = {}
    reasons: dict[str, str] = {}
    for one in measures:
        try:
            intervals[one.name] = _interval(one, labels, probabilities, groups, how)
        except DataError as error:
            intervals[one.name] = None
            reasons[one.name] = error.problem
    return Measured(intervals, reasons)


@dataclass(frozen=True)
class Compared:
    """Two models measured on the same rows; `differences` are the first less the second, None where
    undefined."""

    first: Measured
    second: Measured
    differences: dict[str, Difference | None]


def compare_models(
    measures: Sequence[Measure],
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    groups: NDArray[Any] | None = None,
    drawing: Drawing | None = None,
) -> Compared:
    """Every metric of both models and its paired difference, with intervals and p-values.

    Raises as `measure` does. A metric that is not compared is measured of each.
    """
    how = drawing or Drawing()
    both = (Measured({}, {}), Measured({}, {}))
    differences: dict[str, Difference | None] = {}
    for one in measures:
        differences[one.name] = None
        if one.compared:
            try:
                found = compare(
                    one.metric, labels, first, second, groups, how.confidence, draws=how.draws, seed=how.seed
                )
            except DataError:
                pass
            else:
                differences[one.name] = Difference(found.difference, found.p_value)
                for each, value in zip(both, (found.first, found.second), strict=True):
                    each.intervals[one.name] = value
                continue
        for each, values in zip(both, (first, second), strict=True):
            alone = measure([one], labels, values, groups, how)
            each.intervals.update(alone.intervals)
            each.reasons.update(alone.reasons)
    return Compared(*both, differences)


def _interval(
    one: Measure, y: ArrayLike, p: ArrayLike, groups: NDArray[Any] | None, how: Drawing
) -> Interval:
    metric = one.metric
    if metric is smooth_ece:
        # Its width is found anew at every call, which 200 draws cannot afford: they keep the data's own, at
        # which the value is the same.
        metric = partial(smooth_ece_at, width=max(smooth_ece(y, p), _NARROWEST))
    return metrics.interval(metric, y, p, groups, how.confidence, draws=how.draws, seed=how.seed)
