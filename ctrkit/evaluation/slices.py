"""Metrics on parts of the rows: the long tail of items, cold users, any division of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ctrkit.errors import ConfigError, DataError
from ctrkit.evaluation.measures import Drawing, Measure, measure
from ctrkit.evaluation.profile import as_text
from ctrkit.metrics import Interval
from ctrkit.metrics.calibration import bin_index
from ctrkit.metrics.checks import Indices, probability_rows


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
    values: dict[str, Interval | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        values = {name: None if found is None else found.to_dict() for name, found in self.values.items()}
        return {"name": self.name, "rows": self.rows, "positives": self.positives, "metrics": values}


@dataclass(frozen=True)
class Division:
    """Rows divided into named parts.

    Attributes:
        part: the part of each row, int [N]. names: of the parts.
    """

    part: Indices
    names: tuple[str, ...]

    def __getitem__(self, rows: NDArray[Any]) -> Division:
        """The same parts, of some of the rows."""
        return Division(self.part[rows], self.names)


def occurrences(values: pl.Series, among: pl.Series) -> NDArray[np.int64]:
    """How often each value stands among others, [N]: an item's popularity, a user's activity.

    Values are compared as text, so 7 and "7" are the same; a missing value counts as unseen.
    """
    counted = as_text(among).drop_nulls().rename("value").to_frame().group_by("value").len("count")
    looked_up = as_text(values).rename("value").to_frame().with_row_index("row")
    joined = looked_up.join(counted, on="value", how="left").sort("row")
    return joined["count"].fill_null(0).to_numpy().astype(np.int64)


def by_count(counts: ArrayLike, parts: int = 5) -> Division:
    """Divide rows by a count into parts of about equally many rows, rarest first.

    Rows of equal count stay together, so parts may be uneven or fewer. Rows of count 0 (items and users
    that were not seen in training) are a part of their own.

    Args:
        counts: whole numbers of at least 0, [N].

    Raises:
        ConfigError: fewer than one part. DataError: a negative count, or no rows.
    """
    if parts < 1:
        raise ConfigError(f"parts must be at least 1, and {parts} was given")
    number = np.asarray(counts)
    if number.ndim != 1 or number.size == 0 or number.min() < 0:
        raise DataError("counts are whole numbers of at least 0, one a row", column="counts")
    seen = number > 0
    part = np.zeros(number.size, dtype=np.intp)
    if seen.any():
        of_seen = number[seen].astype(np.float64)
        part[seen] = 1 + bin_index(of_seen, np.ones(of_seen.size), parts, "mass")
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
) -> tuple[Slice, ...]:
    """Every metric on every part, with intervals.

    Args:
        labels: 0 or 1, [N]. probabilities: [N]. groups: [N], whose rows are taken as dependent.

    Raises:
        DataError: bad values.
    """
    y, p, _ = probability_rows(labels, probabilities)
    if division.part.shape != y.shape:
        raise DataError(f"labels has {y.size} rows and the division has {division.part.size}")
    found = []
    for code, name in enumerate(division.names):
        rows = np.flatnonzero(division.part == code)
        if rows.size:
            of_part = groups[rows] if groups is not None else None
            values = measure(measures, y[rows], p[rows], of_part, Drawing(confidence=confidence))
            found.append(Slice(name, rows.size, int(y[rows].sum()), values.intervals))
    return tuple(found)


def _range(counts: NDArray[Any]) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
