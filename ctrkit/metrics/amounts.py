"""Metrics of predicted amounts, such as the revenue of a conversion, with their intervals.

Values are amounts of at least 0, predictions are their expected values, each [N]. Intervals are linearised as
in `ctrkit.metrics.influence`: a metric's error is, to first order, a sum of contributions of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.errors import DataError
from ctrkit.metrics.checks import (
    CheckedRows,
    as_column,
    dense_rank,
    digits,
    held_rows,
    need_confidence,
    weight_column,
)
from ctrkit.metrics.influence import Contributions, IntervalScale, need_units
from ctrkit.metrics.significance import MetricInterval, interval_of

ValueMetric: TypeAlias = Callable[[ArrayLike, ArrayLike, "ArrayLike | None"], float]


def value_pcoc(values: ArrayLike, predictions: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Predicted sum over observed sum; 1 is best.

    Args:
        values: observed amounts, [N].
        predictions: expected amounts, [N].
        weight: the weight of each row, [N].

    Raises:
        DataError: bad values, or all are 0.
    """
    v, p, w = _rows(values, predictions, weight)
    return float(w @ p / _total(v, w))


def value_error(values: ArrayLike, predictions: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean absolute error over the mean of the values, so that it has no unit; 0 is best.

    The arguments and errors are those of `value_pcoc`.
    """
    v, p, w = _rows(values, predictions, weight)
    return float(w @ np.abs(p - v) / _total(v, w))


def value_gini(values: ArrayLike, predictions: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Normalised Gini coefficient: how well predictions rank the values, from -1 to 1.

    It is the Gini coefficient of the values in the order of the predictions, divided by that in their own
    order (Wang, Liu and Miao 2019, arXiv 1912.07753). So 1 is a perfect order, and a constant
    prediction has 0: equal predictions count as half in either order.

    The arguments are those of `value_pcoc`.

    Raises:
        DataError: bad values, or all are equal.
    """
    v, p, w = _rows(values, predictions, weight)
    own = _concordance(v, v, w)[0]
    if own <= 0:
        raise DataError("all values are equal, so there is no order to find", argument="values")
    return _concordance(v, p, w)[0] / own


def value_interval(
    metric: ValueMetric,
    values: ArrayLike,
    predictions: ArrayLike,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    weight: ArrayLike | None = None,
) -> MetricInterval:
    """The interval of one of the metrics of this file.

    Args:
        metric: `value_pcoc`, `value_error` or `value_gini`.
        values: observed amounts, [N].
        predictions: expected amounts, [N].
        groups: the group of each row, [N]; rows of one group (a user's) are not independent.
        confidence: confidence level of the interval.
        weight: the weight of each row, [N].

    Raises:
        DataError: bad values, too few independent rows, or the metric is undefined on them.
        ConfigError: the confidence is out of range.
    """
    need_confidence(confidence)
    held = held_rows(_rows(values, predictions, weight), groups)
    need_units(held.independent, held.units)
    found = metric(held.labels, held.values, held.weight)
    by_row = _INFLUENCES[metric].of(held.labels, held.values, held.weight, found)
    by_unit = np.bincount(held.unit, by_row, minlength=held.units).astype(np.float64, copy=False)
    correction, units = held.units / (held.units - 1), held.independent
    scale = _INFLUENCES[metric].scale
    return interval_of(Contributions(found, by_unit, scale, correction, units, units), confidence)


def _rows(values: ArrayLike, predictions: ArrayLike, weight: ArrayLike | None) -> CheckedRows:
    v, p = as_column(values, "values"), as_column(predictions, "predictions")
    w = np.ones(len(v)) if weight is None else weight_column(weight)
    for name, column in (("predictions", p), ("weight", w)):
        if len(column) != len(v):
            raise DataError(f"values has {len(v)} rows and {name} has {len(column)}", argument=name)
    for name, column in (("values", v), ("predictions", p)):
        if (column < 0).any():
            row = int(np.argmax(column < 0))
            problem = f"the amount is {digits(column[row])} and must be at least 0"
            raise DataError(problem, argument=name, row=row)
    if not w.any():
        raise DataError("every weight is 0", argument="weight", hint="Give at least one row a weight above 0")
    return CheckedRows(v, p, w)


def _total(v: Floats, w: Floats) -> float:
    total = float(w @ v)
    if total <= 0:
        raise DataError("all values are 0", argument="values", hint="Give rows with a value above 0")
    return total


def _concordance(v: Floats, p: Floats, w: Floats) -> tuple[float, Floats]:
    """θ = E[(v₁ - v₂) sign(p₁ - p₂)] / 2 over pairs of rows, and each row's mean over its partners, [N].

    θ over the mean of v is the Gini coefficient of v in the order of p.
    """
    rank, total = dense_rank(p), w.sum()

    def signed(mass: Floats) -> Floats:
        """Σ mass sign(p - p of the others), for each row."""
        up_to = np.cumsum(np.bincount(rank, mass))
        signs: Floats = np.append(0.0, up_to)[rank] - (up_to[-1] - up_to[rank])
        return signs

    of_row = (v * signed(w) - signed(w * v)) / (2.0 * total)
    return float(w @ of_row / total), of_row


def _of_pcoc(v: Floats, p: Floats, w: Floats, value: float) -> Floats:
    contribution: Floats = w * (p - value * v) / (w @ v)
    return contribution


def _of_error(v: Floats, p: Floats, w: Floats, value: float) -> Floats:
    contribution: Floats = w * (np.abs(p - v) - value * v) / (w @ v)
    return contribution


def _of_gini(v: Floats, p: Floats, w: Floats, value: float) -> Floats:
    """A row's contribution to a mean over pairs is twice that of its own pairs (Hoeffding 1948)."""
    (found, of_found), (own, of_own) = _concordance(v, p, w), _concordance(v, v, w)
    contribution: Floats = 2.0 * w * ((of_found - found) - value * (of_own - own)) / (own * w.sum())
    return contribution


class _Influence(NamedTuple):
    """The contributions of rows to a metric's error, and the scale on which it is nearest to normal."""

    of: Callable[[Floats, Floats, Floats, float], Floats]
    scale: IntervalScale


_INFLUENCES: Mapping[ValueMetric, _Influence] = {
    value_pcoc: _Influence(_of_pcoc, "logarithm"),
    value_error: _Influence(_of_error, "logarithm"),
    value_gini: _Influence(_of_gini, "logarithm of the rest"),
}
