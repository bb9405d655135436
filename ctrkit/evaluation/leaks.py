"""Features that give the label away: copies of the label, or values known only after the click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Floats, Integers
from ctrkit.metrics import auc

# No feature that is known before an ad is shown reaches such an AUC by itself.
LEAKS = 0.98
# With fewer rows of a class, some feature separates the classes by chance.
_FEWEST = 10
# The largest number of rows checked of each class; an AUC does not depend on the class sizes.
_ROWS = 10_000
_FOLDS = 5
# Numbers are divided into this many parts. Only ids with at most this many values are checked by value.
_PARTS = 50
# A value counts as a leak if all its labels would be positive by chance with a probability below this.
_BY_CHANCE = 1e-9


@dataclass(frozen=True)
class Leak:
    """A feature that predicts a task's label almost perfectly.

    Attributes:
        feature: the feature's name.
        task: the task's name.
        area: AUC of the feature alone, at least one half.
        only: the number of rows with one value (or in one fiftieth of the numbers) that all have a positive
            label; 0 if the AUC gives the leak away, or if chance would explain these rows.
    """

    feature: str
    task: str
    area: float
    only: int = 0

    @property
    def sentence(self) -> str:
        """What the leak is, and what to do about it."""
        advice = "Leave it out, unless it is known before the ad is shown."
        if self.only:
            return (
                f"All {self.only:,} checked rows with one value or range of '{self.feature}' have a"
                f" {self.task}: the feature is known only after the {self.task}. {advice}"
            )
        return (
            f"'{self.feature}' alone predicts {self.task} with an AUC of {self.area:.4f}: it is a copy of the"
            f" label, or known only after the {self.task}. {advice}"
        )


def telling_rows(labels: NDArray[np.floating[Any]], seed: int = 0) -> Integers:
    """Row numbers of both classes, as many as `find_leaks` needs; none if one class has too few rows."""
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    if min(rows.size for rows in classes) < _FEWEST:
        return np.empty(0, dtype=np.int64)
    return np.concatenate([rng.permutation(of)[:_ROWS] for of in classes])


def find_leaks(
    task: str, columns: Mapping[str, NDArray[Any]], labels: NDArray[np.floating[Any]], seed: int = 0
) -> tuple[Leak, ...]:
    """The features that give the label away, the largest AUC first.

    A number is scored by its order, in either direction, and by the label's rate in its fiftieth of the rows,
    so that the relation need not be monotone. An id is scored by the label's rate on rows of the other folds,
    so that an id with a single row says nothing about that row.

    A feature also gives the label away if one of its values occurs only where the label is 1: a purchase does
    so for a click, though most clicks have no purchase. Ids are checked for this only if they have few
    values, because some users do click every time.

    Args:
        task: the task's name.
        columns: feature -> its values, [n]; integers for ids and floats for numbers, NaN if missing.
        labels: 0 or 1, [n]; the rows of `telling_rows` are enough.
        seed: seed of the folds.
    """
    if min((labels == label).sum() for label in (0, 1)) < _FEWEST:
        return ()
    y = np.asarray(labels, dtype=np.float64)
    fold = np.random.default_rng(seed).integers(0, _FOLDS, y.size)
    found = []
    for name, values in columns.items():
        x = _without_gaps(np.asarray(values))
        if np.issubdtype(x.dtype, np.floating):
            by_order = auc(y, x)
            area = max(by_order, 1.0 - by_order, auc(y, _rates(_parts(x), y, fold)))
        else:
            area = auc(y, _rates(x, y, fold))
        if area >= LEAKS:
            found.append(Leak(name, task, area))
        elif (only := only_with(x, y)) > 0:
            found.append(Leak(name, task, area, only))
    return tuple(sorted(found, key=lambda leak: -leak.area))


def only_with(values: NDArray[Any], labels: NDArray[np.floating[Any]]) -> int:
    """The number of rows of the most frequent id (or fiftieth of the numbers) with positive labels only.

    It is 0 if chance explains these rows, or if there are many ids.
    """
    values = _without_gaps(values)
    ids = _parts(values) if np.issubdtype(values.dtype, np.floating) else values
    _, index = np.unique(ids, return_inverse=True)
    counts, positives = np.bincount(index), np.bincount(index, weights=labels)
    if not 1 < counts.size <= _PARTS:
        return 0
    rows = int(counts[counts == positives].max(initial=0))
    by_chance = counts.size * float(np.mean(labels, dtype=np.float64)) ** rows
    return rows if rows >= _FEWEST and by_chance < _BY_CHANCE else 0


def _without_gaps(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers where missing ones are below all others: that a number is missing may tell the label too."""
    if not np.issubdtype(values.dtype, np.floating):
        return values
    gaps = np.isnan(values)
    return np.where(gaps, values[~gaps].min(initial=0.0) - 1.0, values) if gaps.any() else values


def _parts(numbers: NDArray[Any]) -> Integers:
    """Which fiftieth of the rows each number falls into."""
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _PARTS + 1)[1:-1]))
    return np.searchsorted(edges, numbers)


def _rates(ids: NDArray[Any], y: Floats, fold: Integers) -> Floats:
    """The label's rate on rows of the same id in the other folds, shrunk to the mean of these folds, [n]."""
    _, index = np.unique(ids, return_inverse=True)
    n = index.max() + 1
    counts = np.bincount(fold * n + index, minlength=_FOLDS * n).reshape(_FOLDS, n)
    positives = np.bincount(fold * n + index, weights=y, minlength=_FOLDS * n).reshape(_FOLDS, n)
    others, of_others = counts.sum(axis=0) - counts, positives.sum(axis=0) - positives
    mean = of_others.sum(axis=1, keepdims=True) / np.maximum(others.sum(axis=1, keepdims=True), 1)
    rates: Floats = ((of_others + mean) / (others + 1.0))[fold, index]
    return rates
