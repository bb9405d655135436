"""Calibration by the values of a field: the sites, ads or hours whose predictions are too high or too low.

A model can be right on average and wrong on every site. `field_ece` and `field_rce` measure this in one
number. `by_field` gives each value an interval and a test, because among a hundred small sites some are
always far off by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields as fields_of
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammainc, gammaincc, gammaincinv

from ctrkit.arrays import Floats, Indices
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.checks import held_rows, need_confidence, probability_rows
from ctrkit.metrics.order import dense_codes, quick_codes, without_objects
from ctrkit.metrics.significance import MetricInterval

OTHER = "other"


def field_ece(
    labels: ArrayLike, probabilities: ArrayLike, fields: ArrayLike, weight: ArrayLike | None = None
) -> float:
    """Field-level expected calibration error: Σ_v |Σ_{i in v} (y_i - p_i)| / N over a field's values v.

    This is Field-ECE of Pan et al. 2020 ("Field-aware Calibration"). It equals ECE with the field's values as
    bins; values with few rows add noise.

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        fields: each row's value of the field, numbers or text, [N].
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        DataError: bad values, or a missing field value.
    """
    sums = _sums(labels, probabilities, fields, weight)
    return float(np.abs(sums.observed - sums.predicted).sum() / sums.weight.sum())


def field_rce(
    labels: ArrayLike,
    probabilities: ArrayLike,
    fields: ArrayLike,
    weight: ArrayLike | None = None,
    smoothing: float = 0.01,
) -> float:
    """Field-level relative calibration error: Σ_v (N_v / N) · |Σ_v (y_i - p_i)| / Σ_v (y_i + ε).

    This is Field-RCE of Pan et al. 2020: the gap of each value relative to its positives, averaged over
    values by their rows. ε (`smoothing`, 0.01 in the paper) adds a hundredth of a positive for each row, so
    that values without positives do not divide by 0. If clicks are rarer than ε, it outweighs them and the
    result is smaller than the true relative gap: then give an ε well below the base rate.

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        fields: each row's value of the field, numbers or text, [N].
        weight: the weight of each row, [N]; a row of weight 2 counts as two.
        smoothing: ε, at least 0.

    Raises:
        DataError: bad values, a missing field value, or ε is 0 and a value has no positives.
        ConfigError: ε is below 0.
    """
    if not smoothing >= 0:
        raise ConfigError(f"smoothing must be at least 0, and {smoothing} was given")
    sums = _sums(labels, probabilities, fields, weight)
    relative_to = sums.observed + smoothing * sums.weight
    held = sums.weight > 0
    if not relative_to[held].all():
        raise DataError(
            "a value of the field has no positives to be relative to",
            argument="fields",
            hint="Give a smoothing above 0",
        )
    share = sums.weight[held] / sums.weight.sum()
    return float(share @ (np.abs(sums.observed - sums.predicted)[held] / relative_to[held]))


@dataclass(frozen=True)
class FieldCalibration:
    """The calibration of one value of a field.

    Attributes:
        value: the field's value; "other" for all rare values together.
        values: the number of the field's values in this entry; above 1 only for "other".
        rows: the number of rows.
        positives: the number of positive rows.
        share: the entry's share of the weight of all rows.
        predicted: the mean probability (weighted).
        observed: the share of positives (weighted).
        pcoc: predicted over observed with its interval; infinite if no positive row was observed.
        p_value: the p-value of the hypothesis that the probabilities are right on average.
        adjusted_p_value: the p-value adjusted over all entries of the field (Benjamini & Hochberg 1995).
        beyond_noise: whether the adjusted p-value is at most the false discovery rate.
    """

    value: Any
    values: int
    rows: int
    positives: int
    share: float
    predicted: float
    observed: float
    pcoc: MetricInterval
    p_value: float
    adjusted_p_value: float
    beyond_noise: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; an infinite or undefined PCOC (or end of it) is None."""
        plain = {part.name: getattr(self, part.name) for part in fields_of(self)}
        ends = self.pcoc.to_dict()
        plain["pcoc"] = {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in ends.items()}
        return plain


def by_field(
    labels: ArrayLike,
    probabilities: ArrayLike,
    fields: ArrayLike,
    minimum_rows: int = 100,
    groups: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    confidence: float = 0.95,
    false_discovery_rate: float = 0.05,
) -> tuple[FieldCalibration, ...]:
    """Calibration of each value of a field, the most frequent first; rare values are the last entry, "other".

    The number of positives is modelled as a Poisson variable. Its unit is scaled so that its variance equals
    that of the labels if the probabilities are right, Σ w² p (1 - p). This gives a test and an exact interval
    (Garwood 1936) that hold for three expected clicks and for a million, and for any weights. Where p is
    above one half, negatives are counted instead. With `groups` the variance is multiplied by the value's
    design effect (Kish 1965): the clustered variance of its residuals over the independent one, at least 1. A
    value whose rows all belong to one group has an unbounded interval, and is never beyond noise.

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        fields: each row's value of the field, numbers or text, [N].
        minimum_rows: values with fewer rows are measured together.
        groups: the group of each row, [N]; rows of one group (a user's) are not independent.
        weight: the weight of each row, [N]. A row of weight 2 counts as two rows in the means, and as one
            independent row in the variance.
        confidence: confidence level of the intervals.
        false_discovery_rate: expected share of false alarms among the values called beyond noise.

    Raises:
        DataError: bad values, or a missing field value.
        ConfigError: minimum_rows, confidence or rate out of range.
    """
    need_confidence(confidence)
    if minimum_rows < 1:
        raise ConfigError(f"minimum_rows must be at least 1, and {minimum_rows} was given")
    if not 0 < false_discovery_rate < 1:
        raise ConfigError(
            f"a false discovery rate must be between 0 and 1, and {false_discovery_rate} was given"
        )
    rows_given = probability_rows(labels, probabilities, weight)
    code, names = _field_codes(fields, len(rows_given.labels))
    y, p, w, cluster, clusters, kept = held_rows(rows_given, groups)
    code = code[kept]

    rows = np.bincount(code, minlength=len(names))
    common, rare = rows >= minimum_rows, (rows > 0) & (rows < minimum_rows)
    order = np.flatnonzero(common)[np.argsort(-rows[common], kind="stable")]
    place = np.full(len(names), len(order))
    place[order] = np.arange(len(order))
    code = place[code]
    shown = [(names[i], 1) for i in order] + ([(OTHER, int(rare.sum()))] if rare.any() else [])

    number = len(shown)
    rows, positives = np.bincount(code, minlength=number), np.bincount(code, y, minlength=number)
    mass, predicted, observed = (_totals(code, x, number) for x in (w, w * p, w * y))
    variance = _totals(code, w**2 * p * (1 - p), number)
    lone = np.zeros(number, bool)
    if groups is not None:
        effect, held = _design_effect(y, p, w, code, predicted, observed, cluster, clusters)
        variance *= effect
        lone = held < 2
    unit = _totals(code, w**2, number) / mass  # where p is 0 or 1 and nothing can vary
    p_value, low, high = _scaled_poisson(mass, predicted, observed, variance, unit, confidence)
    # A single group says nothing about how rates vary between groups: any rate is possible.
    p_value, low, high = np.where(lone, 1.0, p_value), np.where(lone, 0.0, low), np.where(lone, mass, high)
    adjusted = benjamini_hochberg(p_value)
    return tuple(
        FieldCalibration(
            value=value,
            values=values,
            rows=int(rows[i]),
            positives=int(positives[i]),
            share=float(mass[i] / mass.sum()),
            predicted=float(predicted[i] / mass[i]),
            observed=float(observed[i] / mass[i]),
            pcoc=MetricInterval(
                _ratio(predicted[i], observed[i]),
                _ratio(predicted[i], high[i]),
                _ratio(predicted[i], low[i]),
                confidence,
                "scaled Poisson",
            ),
            p_value=float(p_value[i]),
            adjusted_p_value=float(adjusted[i]),
            beyond_noise=bool(adjusted[i] <= false_discovery_rate),
        )
        for i, (value, values) in enumerate(shown)
    )


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """P-values adjusted for how many there are (Benjamini & Hochberg 1995): calling those at or below q
    true makes at most a share q of the calls wrong, on average, for independent or positively dependent
    tests. [K] -> [K]"""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)[::-1]  # from the largest
    scaled = p[order] * len(p) / np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum.accumulate(np.minimum(scaled, 1.0))
    return adjusted


class _Sums(NamedTuple):
    """Sums by value of a field, each [values]."""

    weight: Floats
    predicted: Floats
    observed: Floats


def _sums(labels: ArrayLike, probabilities: ArrayLike, fields: ArrayLike, weight: ArrayLike | None) -> _Sums:
    y, p, w = probability_rows(labels, probabilities, weight)
    code, names = _field_codes(fields, len(y))
    return _Sums(*(_totals(code, x, len(names)) for x in (w, w * p, w * y)))


def _totals(code: Indices, values: Floats, number: int) -> Floats:
    return np.bincount(code, values, minlength=number).astype(np.float64, copy=False)


def _field_codes(fields: ArrayLike, rows: int) -> tuple[Indices, list[Any]]:
    """Each row's value as a number from 0, [N], and the values by that number."""
    array = np.asarray(fields)
    if array.shape != (rows,):
        raise DataError(f"labels has {rows} rows and fields has the shape {array.shape}", argument="fields")
    array = without_objects(array)
    missing = np.zeros(0, bool)
    if array.dtype.kind in "fcmMO":
        missing = (array != array) | (array == np.array(None) if array.dtype.kind == "O" else False)
    if missing.any():
        row = int(np.argmax(missing))
        hint = "Fill missing values with a value of their own, such as 'missing'"
        raise DataError("the field's value is missing", argument="fields", row=row, hint=hint)
    if (quick := quick_codes(array)) is not None:
        names = np.empty(quick[1], array.dtype)
        names[quick[0]] = array
        return quick[0], names.tolist()
    # Values of several types cannot be sorted.
    known: dict[Any, int] = {}
    coded = np.fromiter((known.setdefault(v, len(known)) for v in array.tolist()), np.intp, rows)
    return coded, list(known)


def _design_effect(
    y: Floats,
    p: Floats,
    w: Floats,
    code: Indices,
    predicted: Floats,
    observed: Floats,
    cluster: Indices,
    clusters: int,
) -> tuple[Floats, Indices]:
    """The design effect of each value, and the number of groups that it occurs in, both [values].

    The design effect is the factor by which dependence within groups increases the variance of the positives.
    Residuals are taken around the value's own level, so that miscalibration does not count as dependence.
    """
    level = np.divide(observed, predicted, out=np.zeros_like(predicted), where=predicted > 0)
    residual = w * (y - p * level[code])
    of_row, pairs = dense_codes((code * clusters + cluster).view(np.uint64))
    by_pair = _totals(of_row, residual, pairs)
    value = np.empty(pairs, np.intp)
    value[of_row] = code
    number = len(predicted)
    held = np.bincount(value, minlength=number)
    clustered = _totals(value, by_pair**2, number)
    independent = _totals(code, residual**2, number)
    effect = np.ones(number)
    known = (held > 1) & (independent > 0)
    effect[known] = clustered[known] / independent[known] * held[known] / (held[known] - 1)
    return np.maximum(effect, 1.0), held


def _scaled_poisson(
    mass: Floats, predicted: Floats, observed: Floats, variance: Floats, unit: Floats, confidence: float
) -> tuple[Floats, Floats, Floats]:
    """The two-sided p-value of observed against predicted positives, and the interval of the expected number.

    Returns:
        P-value, lower end and upper end, each [values].
    """
    rarer_negative = predicted > mass / 2
    expected = np.where(rarer_negative, mass - predicted, predicted)
    counted = np.where(rarer_negative, mass - observed, observed)
    np.divide(variance, expected, out=unit, where=(variance > 0) & (expected > 0))
    rate, count = expected / unit, np.maximum(counted, 0.0) / unit
    # P(Poisson(rate) >= k) is the lower regularised gamma function at k; its count need not be whole.
    at_least = np.where(count > 0, gammainc(np.maximum(count, 1e-300), rate), 1.0)
    at_most = gammaincc(count + 1, rate)
    p_value = np.minimum(1.0, 2 * np.minimum(at_least, at_most))
    tail = (1 - confidence) / 2
    low = np.where(count > 0, unit * gammaincinv(np.maximum(count, 1e-300), tail), 0.0)
    high = np.minimum(unit * gammaincinv(count + 1, 1 - tail), mass)
    low = np.minimum(low, high)
    return (
        p_value,
        np.where(rarer_negative, mass - high, low),
        np.where(rarer_negative, mass - low, high),
    )


def _ratio(predicted: float, observed: float) -> float:
    """Predicted over observed; infinite if observed is 0, and NaN if both are 0."""
    if observed > 0:
        return float(predicted / observed)
    return float("inf") if predicted > 0 else float("nan")
