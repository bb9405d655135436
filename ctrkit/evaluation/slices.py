"""Metrics on parts of the rows: rare items, new users, or any other division."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ctrkit.arrays import Floats, Indices
from ctrkit.errors import ConfigError, DataError
from ctrkit.evaluation.measures import Drawing, Measure, measure
from ctrkit.evaluation.profile import values_as_text
from ctrkit.metrics import MetricInterval
from ctrkit.metrics.calibration import bin_index
from ctrkit.metrics.checks import probability_rows


@dataclass(frozen=True)
class Slice:
    """Metrics on one part of the rows.

    Attributes:
        name: what the rows have in common.
        rows: the number of rows.
        positives: the number of positive rows.
        values: metric -> its value with interval, or None if it is undefined (AUC without a positive row).
    """

    name: str
    rows: int
    positives: int
    values: dict[str, MetricInterval | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        values = {name: None if found is None else found.to_dict() for name, found in self.values.items()}
        return {"name": self.name, "rows": self.rows, "positives": self.positives, "metrics": values}


@dataclass(frozen=True)
class Division:
    """Rows divided into named parts.

    Attributes:
        part: the number of each row's part, int [N].
        names: the names of the parts.
    """

    part: Indices
    names: tuple[str, ...]

    def __getitem__(self, rows: NDArray[Any]) -> Division:
        """The same division of some of the rows."""
        return Division(self.part[rows], self.names)


def occurrences(values: pl.Series, reference: pl.Series, weight: ArrayLike | None = None) -> Floats:
    """How often each value occurs in a reference column, [N]: an item's popularity, a user's activity.

    Values are compared as text, so 7 and "7" are the same. A missing value counts as unseen.

    Args:
        values: the values to look up, [N].
        reference: the column in which they are counted, [M].
        weight: the weight of each row of the reference, [M]; a row of weight 2 counts as two.
    """
    mass = np.ones(reference.len()) if weight is None else np.asarray(weight, np.float64)
    others = values_as_text(reference).rename("value").to_frame().with_columns(pl.Series("count", mass))
    counted = others.drop_nulls().group_by("value").sum()
    looked_up = values_as_text(values).rename("value").to_frame().with_row_index("row")
    joined = looked_up.join(counted, on="value", how="left").sort("row")
    return joined["count"].fill_null(0).to_numpy()


def by_count(counts: ArrayLike, parts: int = 5, weight: ArrayLike | None = None) -> Division:
    """Divide rows by a count into parts with about equally many rows, the lowest counts first.

    Rows of equal count stay together, so there may be fewer parts, or uneven ones. Rows of count 0 (items and
    users not seen in training) are a part of their own.

    Args:
        counts: the count of each row, at least 0, [N].
        parts: the largest number of parts, without the part of count 0.
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        ConfigError: fewer than one part.
        DataError: a negative count, or no rows.
    """
    if parts < 1:
        raise ConfigError(f"parts must be at least 1, and {parts} was given")
    number = np.asarray(counts)
    if number.ndim != 1 or number.size == 0 or number.min() < 0:
        raise DataError("every row needs one count of at least 0", argument="counts")
    seen = number > 0
    mass = np.ones(number.size) if weight is None else np.asarray(weight, np.float64)
    part = np.zeros(number.size, dtype=np.intp)
    if seen.any():
        of_seen = number[seen].astype(np.float64)
        part[seen] = 1 + bin_index(of_seen, mass[seen], parts, "mass")
    held, part = np.unique(part, return_inverse=True)
    names = tuple("unseen" if code == 0 else _range(number[part == at]) for at, code in enumerate(held))
    return Division(part, names)


def by_slice(
    labels: ArrayLike,
    probabilities: ArrayLike,
    division: Division,
    measures: Sequence[Measure],
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    weight: ArrayLike | None = None,
    scores: ArrayLike | None = None,
) -> tuple[Slice, ...]:
    """Every metric with its interval on every part of the rows.

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        division: the parts.
        measures: the metrics to measure.
        groups: the group of each row, [N]; rows of one group are treated as dependent.
        confidence: confidence level of the intervals.
        weight: the weight of each row, [N]; a part without weight is left out.
        scores: what rows are ranked by, [N]; by default the probabilities.

    Raises:
        DataError: bad values.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    ranked = p if scores is None else np.asarray(scores)
    if division.part.shape != y.shape:
        raise DataError(f"labels has {y.size} rows and the division has {division.part.size}")
    found = []
    for code, name in enumerate(division.names):
        rows = np.flatnonzero((division.part == code) & (w > 0))
        if rows.size:
            of_part = groups[rows] if groups is not None else None
            how = Drawing(confidence=confidence)
            values = measure(measures, y[rows], p[rows], of_part, how, w[rows], ranked[rows])
            found.append(Slice(name, rows.size, int(y[rows].sum()), values.intervals))
    return tuple(found)


def _range(counts: NDArray[Any]) -> str:
    low, high = (
        f"{end:,.0f}" if end == round(end) else f"{end:,.4g}" for end in (counts.min(), counts.max())
    )
    return low if low == high else f"{low} to {high}"
