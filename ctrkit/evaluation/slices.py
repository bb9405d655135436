"""Metrics on parts of the rows: the long tail of items, cold users, any division of one's own."""

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
from ctrkit.evaluation.profile import as_text
from ctrkit.metrics import MetricInterval
from ctrkit.metrics.calibration import bin_index
from ctrkit.metrics.checks import probability_rows


@dataclass(frozen=True)
class Slice:
    """Metrics on one part of the rows; None where a metric is undefined there, as AUC is without a positive.

    Attributes:
        name: what the rows have in common.
        values: metric -> interval.
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
        part: the part of each row, int [N].
        names: of the parts.
    """

    part: Indices
    names: tuple[str, ...]

    def __getitem__(self, rows: NDArray[Any]) -> Division:
        """The same parts, of some of the rows."""
        return Division(self.part[rows], self.names)


def occurrences(values: pl.Series, among: pl.Series, weight: ArrayLike | None = None) -> Floats:
    """How often each value stands among others, [N]: an item's popularity, a user's activity.

    Values are compared as text, so 7 and "7" are the same; a missing value counts as unseen.

    Args:
        weight: of the others; one of weight 2 counts as two.
    """
    mass = np.ones(among.len()) if weight is None else np.asarray(weight, np.float64)
    others = as_text(among).rename("value").to_frame().with_columns(pl.Series("count", mass)).drop_nulls()
    counted = others.group_by("value").sum()
    looked_up = as_text(values).rename("value").to_frame().with_row_index("row")
    joined = looked_up.join(counted, on="value", how="left").sort("row")
    return joined["count"].fill_null(0).to_numpy()


def by_count(counts: ArrayLike, parts: int = 5, weight: ArrayLike | None = None) -> Division:
    """Divide rows by a count into parts of about equally many rows, rarest first.

    Rows of equal count stay together, so parts may be uneven or fewer. Rows of count 0 (items and users
    that were not seen in training) are a part of their own.

    Args:
        counts: of at least 0, [N].
        weight: a row of weight 2 counts as two, [N].

    Raises:
        ConfigError: fewer than one part. DataError: a negative count, or no rows.
    """
    if parts < 1:
        raise ConfigError(f"parts must be at least 1, and {parts} was given")
    number = np.asarray(counts)
    if number.ndim != 1 or number.size == 0 or number.min() < 0:
        raise DataError("counts are numbers of at least 0, one a row", argument="counts")
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
    """Every metric on every part, with intervals.

    Args:
        labels: 0 or 1, [N].
        probabilities: [N].
        groups: [N], whose rows are taken as dependent.
        weight, scores: as `measure` takes them; a part without weight is left out.

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
