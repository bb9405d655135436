"""What every metric and calibrator asks of its arrays, and the one error for each way of failing it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats, Indices
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.order import dense_codes, quick_codes, sort_keys, without_objects

# In single precision a probability of 1 may come out as 1.0000001: so far beyond an end, the end is meant.
ROUNDING = 1e-6


class CheckedRows(NamedTuple):
    """Checked columns of one length: labels (0.0 or 1.0), values (scores or probabilities), weight."""

    labels: Floats
    values: Floats
    weight: Floats


class Held(NamedTuple):
    """Rows of weight above 0, and the independent unit that each belongs to: its group, or itself.

    Attributes:
        labels, values, weight: [n].
        unit: from 0, int [n].
        units: how many there are.
        kept: which of all rows these are; a slice where it is all of them.
    """

    labels: Floats
    values: Floats
    weight: Floats
    unit: Indices
    units: int
    kept: Indices | slice

    @property
    def independent(self) -> float:
        """See `independent_units`."""
        return independent_units(self.weight, self.unit)

    def of_class(self, label: int) -> float:
        """As how many independent units the rows of a class count; 0 where it has none."""
        rows = self.labels == label
        return independent_units(self.weight[rows], self.unit[rows])


def score_rows(
    labels: ArrayLike, scores: ArrayLike, weight: ArrayLike | None = None, *, name: str = "scores"
) -> CheckedRows:
    """Check labels with scores, which may be any finite number.

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
    """Check labels with probabilities, which lie in [0, 1]; raises as `score_rows` does."""
    rows = score_rows(labels, probabilities, weight, name="probabilities")
    return CheckedRows(rows.labels, unit_interval(rows.values, "probabilities"), rows.weight)


def held_rows(rows: CheckedRows, groups: ArrayLike | None = None) -> Held:
    """The rows that count, by independent unit. Rows of weight 0 are not there.

    A row of weight c stands for c copies of itself, all of one unit: a weight says how much a row counts in a
    mean, never how many independent rows it is.
    """
    y, v, w = rows
    unit, units = (np.arange(len(y)), len(y)) if groups is None else group_codes(groups, len(y))
    if w.all():
        return Held(y, v, w, unit, units, slice(None))
    kept = np.flatnonzero(w)
    names, unit = np.unique(unit[kept], return_inverse=True)
    return Held(y[kept], v[kept], w[kept], unit, len(names), kept)


def independent_units(weight: Floats, unit: Indices) -> float:
    """As how many units of equal weight these count: (Σ_u W_u)² / Σ_u W_u², W_u the weight of unit u.

    The effective sample size of Kish 1965 ("Survey Sampling", section 11.7): the number of units where all
    weigh the same, and 1 where one has all the weight.
    """
    if not weight.size:
        return 0.0
    mass = np.bincount(unit, weight)
    mass = mass / mass.max()  # squares of extreme weights overflow or vanish
    return float(mass.sum() ** 2 / (mass @ mass))


def as_column(values: ArrayLike, name: str) -> Floats:
    """One finite float64 a row, from any array, list, Series or CPU tensor of numbers."""
    floats = finite_floats(values, name)
    if floats.ndim != 1:
        raise DataError(f"one value a row is needed, and the shape is {floats.shape}", argument=name)
    if floats.size == 0:
        raise DataError("there are no rows", argument=name)
    return floats


def finite_floats(values: ArrayLike, name: str) -> Floats:
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
    """Values of [0, 1], of any shape; what rounding in single precision put beyond an end is put on it.

    Raises:
        DataError: a value is further out.
    """
    outside = (values < -ROUNDING) | (values > 1 + ROUNDING)
    if outside.any():
        row = int(np.argmax(outside.reshape(-1)))
        problem = f"the value is {digits(values.reshape(-1)[row])} and must be in [0, 1]"
        raise DataError(problem, argument=name, row=row if values.ndim == 1 else None, hint=hint)
    return np.clip(values, 0.0, 1.0) if ((values < 0) | (values > 1)).any() else values


def digits(value: float) -> str:
    """A number with all the digits that tell it from its neighbours, and no more: 1.0000001 is not 1."""
    return repr(float(value)).removesuffix(".0")


def group_codes(groups: ArrayLike, rows: int) -> tuple[Indices, int]:
    """Number the groups from 0.

    Returns:
        the group's number by row, int [N], and how many groups there are.
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
            argument="labels",
            hint="Give more rows",
        )


def need_confidence(confidence: float) -> None:
    """Raise a ConfigError for a confidence level outside (0, 1)."""
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence lies between 0 and 1, and {confidence} was given")
