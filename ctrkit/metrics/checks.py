"""Checks of the arrays that metrics and calibrators take, with one error for each kind of fault."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats, Indices
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.order import dense_codes, quick_codes, sort_keys, without_objects

# In single precision a probability of 1 may become 1.0000001. A value this close to 0 or 1 is set to it.
ROUNDING = 1e-6


class CheckedRows(NamedTuple):
    """Checked columns of one length: labels (0.0 or 1.0), values (scores or probabilities), weight."""

    labels: Floats
    values: Floats
    weight: Floats


class Held(NamedTuple):
    """Rows of weight above 0, and the independent unit of each: its group, or the row itself.

    Attributes:
        labels: 0.0 or 1.0, [n].
        values: scores or probabilities, [n].
        weight: the weight of each row, [n].
        unit: the number of each row's unit, from 0, int [n].
        units: the number of units.
        kept: the positions of these rows among all rows; a slice if all rows are kept.
    """

    labels: Floats
    values: Floats
    weight: Floats
    unit: Indices
    units: int
    kept: Indices | slice

    @property
    def independent(self) -> float:
        """The effective number of independent units (see `independent_units`)."""
        return independent_units(self.weight, self.unit)

    def of_class(self, label: int) -> float:
        """The effective number of independent units among the rows of a class; 0 if there are none."""
        rows = self.labels == label
        return independent_units(self.weight[rows], self.unit[rows])


def score_rows(
    labels: ArrayLike, scores: ArrayLike, weight: ArrayLike | None = None, *, name: str = "scores"
) -> CheckedRows:
    """Check labels with scores, which may be any finite numbers.

    Args:
        labels: 0 or 1, [N].
        scores: finite numbers, [N].
        weight: the weight of each row, at least 0, [N].
        name: the name of the scores in errors.

    Raises:
        DataError: lengths differ; a value is missing, infinite or no number; a label is not 0 or 1;
            a weight is negative or all are 0.
    """
    target, value = label_column(labels), as_column(scores, name)
    mass = np.ones(len(target)) if weight is None else weight_column(weight)
    for what, other in ((name, value), ("weight", mass)):
        if len(other) != len(target):
            raise DataError(f"labels has {len(target)} rows and {what} has {len(other)}", argument=what)
    if not mass.any():
        raise DataError("every weight is 0", argument="weight", hint="Give at least one row a weight above 0")
    return CheckedRows(target, value, mass)


def probability_rows(
    labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None
) -> CheckedRows:
    """Check labels with probabilities in [0, 1]; arguments and errors are those of `score_rows`."""
    rows = score_rows(labels, probabilities, weight, name="probabilities")
    return CheckedRows(rows.labels, unit_interval(rows.values, "probabilities"), rows.weight)


def held_rows(rows: CheckedRows, groups: ArrayLike | None = None) -> Held:
    """The rows of weight above 0, with their independent units.

    A row of weight c stands for c copies of itself, all in one unit: a weight says how much a row counts in a
    mean, not how many independent rows it is.
    """
    y, v, w = rows
    unit, units = (np.arange(len(y)), len(y)) if groups is None else group_codes(groups, len(y))
    if w.all():
        return Held(y, v, w, unit, units, slice(None))
    kept = np.flatnonzero(w)
    names, unit = np.unique(unit[kept], return_inverse=True)
    return Held(y[kept], v[kept], w[kept], unit, len(names), kept)


def independent_units(weight: Floats, unit: Indices) -> float:
    """The effective number of units: (Σ_u W_u)² / Σ_u W_u², where W_u is the weight of unit u.

    This is the effective sample size of Kish 1965 ("Survey Sampling", section 11.7). It is the number of
    units if all have the same weight, and 1 if one unit has all the weight.
    """
    if not weight.size:
        return 0.0
    mass = np.bincount(unit, weight)
    mass = mass / mass.max()  # squares of extreme weights overflow or vanish
    return float(mass.sum() ** 2 / (mass @ mass))


def as_column(values: ArrayLike, name: str) -> Floats:
    """One finite float64 per row, from any array, list, Series or CPU tensor of numbers."""
    floats = finite_floats(values, name)
    if floats.ndim != 1:
        raise DataError(f"every row needs one value, and the shape is {floats.shape}", argument=name)
    if floats.size == 0:
        raise DataError("there are no rows", argument=name)
    return floats


def finite_floats(values: ArrayLike, name: str) -> Floats:
    """Finite float64 of any shape."""
    array = np.asarray(values)
    try:
        # Object arrays may hold numbers and None; text is refused even if it could be parsed.
        floats = array.astype(np.float64, copy=False) if array.dtype.kind in "biufO" else None
    except (TypeError, ValueError):
        floats = None
    if floats is None:
        raise DataError(
            f"numbers are needed, and the type is {array.dtype}",
            argument=name,
            hint="Cast the column, and leave out missing values",
        )
    finite = np.isfinite(floats)
    if not finite.all():
        row = int(np.unravel_index(np.argmin(finite), finite.shape)[0]) if finite.ndim else None
        what = "missing (NaN)" if np.isnan(floats[~finite][0]) else "infinite"
        raise DataError(f"the value is {what}", argument=name, row=row, hint="Fill or leave out such rows")
    return floats


def label_column(labels: ArrayLike) -> Floats:
    """Labels as 0.0 and 1.0."""
    target = as_column(labels, "labels")
    wrong = (target != 0) & (target != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"a label is 0 or 1, and this is {digits(target[row])}", argument="labels", row=row)
    return target


def weight_column(weight: ArrayLike) -> Floats:
    """Weights of at least 0."""
    mass = as_column(weight, "weight")
    if (mass < 0).any():
        row = int(np.argmax(mass < 0))
        problem = f"the value is {digits(mass[row])} and must be at least 0"
        raise DataError(problem, argument="weight", row=row)
    return mass


def unit_interval(values: Floats, name: str, hint: str = "Give probabilities, not logits") -> Floats:
    """Values in [0, 1], of any shape; a value just outside (by rounding in float32) is set to the end.

    Raises:
        DataError: a value is further outside.
    """
    outside = (values < -ROUNDING) | (values > 1 + ROUNDING)
    if outside.any():
        row = int(np.argmax(outside.reshape(-1)))
        problem = f"the value is {digits(values.reshape(-1)[row])} and must be in [0, 1]"
        raise DataError(problem, argument=name, row=row if values.ndim == 1 else None, hint=hint)
    return np.clip(values, 0.0, 1.0) if ((values < 0) | (values > 1)).any() else values


def digits(value: float) -> str:
    """A number with as many digits as identify it, and no more: 1.0000001 is not shown as 1."""
    return repr(float(value)).removesuffix(".0")


def group_codes(groups: ArrayLike, rows: int) -> tuple[Indices, int]:
    """Number the groups from 0.

    Returns:
        The number of each row's group, int [N], and the number of groups.
    """
    array = np.asarray(groups)
    if array.shape != (rows,):
        raise DataError(f"labels has {rows} rows and groups has the shape {array.shape}", argument="groups")
    array = without_objects(array)
    if array.dtype.kind in "fcmMO":
        # NaN is the value that differs from itself; None only fits into arrays of objects.
        missing = (array != array) | (array == np.array(None) if array.dtype.kind == "O" else False)
        if missing.any():
            raise DataError(
                "the group is missing",
                argument="groups",
                row=int(np.argmax(missing)),
                hint="Leave such rows out, or give each a group of its own",
            )
    if (coded := quick_codes(array)) is not None:
        return coded
    try:
        names, codes = np.unique(array, return_inverse=True)
    except TypeError as error:
        raise DataError(
            "the groups are of several types", argument="groups", hint="Cast the column"
        ) from error
    return codes, len(names)


def dense_rank(values: Floats) -> Indices:
    """The rank of each value among the distinct values, from 0; equal values share a rank. int [N]."""
    # The bootstrap sorts once and then calls this with sorted values many times.
    if (values[1:] >= values[:-1]).all():
        return np.concatenate([[0], np.cumsum(values[1:] > values[:-1])])
    return dense_codes(sort_keys(values))[0]


def need_both_classes(positives: float, negatives: float, what: str) -> None:
    """Raise a DataError if a metric is undefined because one class has no rows (or no weight)."""
    if positives <= 0 or negatives <= 0:
        lacking = "positive" if positives <= 0 else "negative"
        raise DataError(
            f"{what} needs rows of both classes, and there is no {lacking} one",
            argument="labels",
            hint="Give more rows",
        )


def need_confidence(confidence: float) -> None:
    """Raise a ConfigError for a confidence level outside (0, 1)."""
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must be between 0 and 1, and {confidence} was given")
