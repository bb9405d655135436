"""What every metric and calibrator asks of its arrays, and the one error for each way of failing it."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.order import dense_codes, quick_codes, sort_keys, without_objects

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]


class Rows(NamedTuple):
    """Checked columns of one length: labels (0.0 or 1.0), values (scores or probabilities), weight."""

    labels: Floats
    values: Floats
    weight: Floats


def score_rows(
    labels: ArrayLike, scores: ArrayLike, weight: ArrayLike | None = None, *, column: str = "scores"
) -> Rows:
    """Check labels with scores, which may be any finite number.

    Raises:
        DataError: lengths differ; a value is missing, infinite or no number; a label is not 0 or 1;
            a weight is negative or all are 0.
    """
    target, value = label_column(labels), as_column(scores, column)
    mass = np.ones(len(target)) if weight is None else _within(as_column(weight, "weight"), "weight", np.inf)
    for name, other in ((column, value), ("weight", mass)):
        if len(other) != len(target):
            raise DataError(f"labels has {len(target)} rows and {name} has {len(other)}", column=name)
    if not mass.any():
        raise DataError("every weight is 0", column="weight", mend="Give at least one row a weight above 0")
    return Rows(target, value, mass)


def probability_rows(labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> Rows:
    """Check labels with probabilities, which lie in [0, 1]; raises as `score_rows` does."""
    rows = score_rows(labels, probabilities, weight, column="probabilities")
    _within(rows.values, "probabilities", 1.0, mend="Give probabilities, not logits")
    return rows


def as_column(values: ArrayLike, column: str) -> Floats:
    """One finite float64 a row, from any array, list, Series or CPU tensor of numbers."""
    floats = finite_floats(values, column)
    if floats.ndim != 1:
        raise DataError(f"one value a row is needed, and the shape is {floats.shape}", column=column)
    if floats.size == 0:
        raise DataError("there are no rows", column=column)
    return floats


def finite_floats(values: ArrayLike, column: str) -> Floats:
    """Finite float64 of any shape."""
    array = np.asarray(values)
    try:
        # Object arrays may hold numbers beside None; text is refused even where it could be parsed.
        floats = array.astype(np.float64, copy=False) if array.dtype.kind in "biufO" else None
    except (TypeError, ValueError):
        floats = None
    if floats is None:
        raise DataError(
            f"numbers are needed, and the type is {array.dtype}",
            column=column,
            mend="Cast the column, and leave out missing values",
        )
    finite = np.isfinite(floats)
    if not finite.all():
        row = int(np.unravel_index(np.argmin(finite), finite.shape)[0]) if finite.ndim else None
        what = "missing (NaN)" if np.isnan(floats[~finite][0]) else "infinite"
        raise DataError(f"the value is {what}", column=column, row=row, mend="Fill or leave out such rows")
    return floats


def label_column(labels: ArrayLike) -> Floats:
    """Labels as 0.0 and 1.0."""
    target = as_column(labels, "labels")
    wrong = (target != 0) & (target != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"a label is 0 or 1, and this is {target[row]:g}", column="labels", row=row)
    return target


def group_codes(groups: ArrayLike, rows: int) -> tuple[Indices, int]:
    """Number the groups from 0.

    Returns:
        the group's number by row, int [N], and how many groups there are.
    """
    array = np.asarray(groups)
    if array.shape != (rows,):
        raise DataError(f"labels has {rows} rows and groups has the shape {array.shape}", column="groups")
    array = without_objects(array)
    if array.dtype.kind in "fcmMO":
        # NaN is the value that differs from itself; None only fits into arrays of objects.
        missing = (array != array) | (array == np.array(None) if array.dtype.kind == "O" else False)
        if missing.any():
            raise DataError("the group is missing", column="groups", row=int(np.argmax(missing)))
    if (coded := quick_codes(array)) is not None:
        return coded
    try:
        names, codes = np.unique(array, return_inverse=True)
    except TypeError as error:
        raise DataError("the groups are of several types", column="groups", mend="Cast the column") from error
    return codes, len(names)


def dense_rank(values: Floats) -> Indices:
    """The rank of each value among the distinct ones, from 0; equal values share it. int [N]."""
    # The bootstrap sorts once and then comes here with sorted values many times.
    if (values[1:] >= values[:-1]).all():
        return np.concatenate([[0], np.cumsum(values[1:] > values[:-1])])
    return dense_codes(sort_keys(values))[0]


def need_both_classes(positives: float, negatives: float, what: str) -> None:
    """Raise a DataError where a measure is undefined because one class has no (weight of) rows."""
    if positives <= 0 or negatives <= 0:
        lacking = "positive" if positives <= 0 else "negative"
        raise DataError(
            f"{what} needs rows of both classes, and there is no {lacking} one",
            column="labels",
            mend="Give more rows",
        )


def need_confidence(confidence: float) -> None:
    """Raise a ConfigError for a confidence level outside (0, 1)."""
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence lies between 0 and 1, and {confidence} was given")


def _within(values: Floats, column: str, high: float, mend: str | None = None) -> Floats:
    outside = (values < 0) | (values > high)
    if outside.any():
        row = int(np.argmax(outside))
        limits = f"in [0, {high:g}]" if np.isfinite(high) else "at least 0"
        raise DataError(
            f"the value is {values[row]:g} and must be {limits}", column=column, row=row, mend=mend
        )
    return values
