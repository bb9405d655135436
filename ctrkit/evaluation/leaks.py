"""Features that tell the label by themselves: a copy of it, or what is known only after the click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Floats, Integers
from ctrkit.metrics import auc

# No feature that is known before an ad is shown tells so much of what is done with it.
LEAKS = 0.98
# Fewer rows of either class are told apart by some feature by chance.
_FEWEST = 10
# Rows of each class that are looked at, at most: an AUC does not depend on how many there are of each.
_ROWS = 10_000
_FOLDS = 5
# Numbers are divided into so many parts; ids that are more are none of a few kinds.
_PARTS = 50
# Of this probability are labels that are all positive by chance.
_BY_CHANCE = 1e-9


@dataclass(frozen=True)
class Leak:
    """A feature that tells a task's label almost without fault.

    Attributes:
        area: AUC of the feature alone, at least one half.
        only: rows of one value, or of one fiftieth of the numbers, which all have a positive label; 0 where
            the AUC tells enough, or chance would give as much.
    """

    feature: str
    task: str
    area: float
    only: int = 0

    @property
    def sentence(self) -> str:
        """What to make of it."""
        if self.only:
            return (
                f"Of '{self.feature}', all {self.only:,} rows looked at of one value or range have a"
                f" {self.task}: it is known only after it. Leave it out, unless it is known before the ad is"
                " shown."
            )
        return (
            f"'{self.feature}' alone tells {self.task} with an AUC of {self.area:.4f}: it is a copy of the"
            " label, or known only after it. Leave it out, unless it is known before the ad is shown."
        )


def telling_rows(labels: NDArray[np.floating[Any]], seed: int = 0) -> Integers:
    """Rows of both classes, as many as `find_leaks` needs; none where there are too few of one."""
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    if min(rows.size for rows in classes) < _FEWEST:
        return np.empty(0, dtype=np.int64)
    return np.concatenate([rng.permutation(of)[:_ROWS] for of in classes])


def find_leaks(
    task: str, columns: Mapping[str, NDArray[Any]], labels: NDArray[np.floating[Any]], seed: int = 0
) -> tuple[Leak, ...]:
    """The features that give the label away, the surest first.

    Numbers are judged by their order, in either direction, and by which fiftieth of the rows they fall into,
    so that a relation need not be monotone; ids by the rate of the label in the other folds of rows, so that
    an id of one row tells nothing of it. What stands only where the label is 1 gives it away too, as a
    purchase does a click, though most clicks are without one: among ids that is looked for where they are
    few, as there are users who always click.

    Args:
        columns: feature -> [n], integers for ids and floats for numbers.
        labels: [n], 0 or 1; `telling_rows` are enough of them.
    """
    if min((labels == label).sum() for label in (0, 1)) < _FEWEST:
        return ()
    y = np.asarray(labels, dtype=np.float64)
    fold = np.random.default_rng(seed).integers(0, _FOLDS, y.size)
    found = []
    for name, values in columns.items():
        x = np.asarray(values)
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
    """The rows of the most frequent id, or fiftieth of the numbers, that has positive labels only; 0 where
    chance gives such, or ids are many."""
    ids = _parts(values) if np.issubdtype(values.dtype, np.floating) else values
    _, place = np.unique(ids, return_inverse=True)
    counts, positives = np.bincount(place), np.bincount(place, weights=labels)
    if not 1 < counts.size <= _PARTS:
        return 0
    rows = int(counts[counts == positives].max(initial=0))
    by_chance = counts.size * float(np.mean(labels, dtype=np.float64)) ** rows
    return rows if rows >= _FEWEST and by_chance < _BY_CHANCE else 0


def _parts(numbers: NDArray[Any]) -> Integers:
    """Which fiftieth of the rows each number falls into."""
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _PARTS + 1)[1:-1]))
    return np.searchsorted(edges, numbers)


def _rates(ids: NDArray[Any], y: Floats, fold: Integers) -> Floats:
    """The rate of the label among rows of the same id in the other folds, shrunk to their mean, [n]."""
    _, place = np.unique(ids, return_inverse=True)
    n = place.max() + 1
    counts = np.bincount(fold * n + place, minlength=_FOLDS * n).reshape(_FOLDS, n)
    positives = np.bincount(fold * n + place, weights=y, minlength=_FOLDS * n).reshape(_FOLDS, n)
    others, of_others = counts.sum(axis=0) - counts, positives.sum(axis=0) - positives
    mean = of_others.sum(axis=1, keepdims=True) / np.maximum(others.sum(axis=1, keepdims=True), 1)
    rates: Floats = ((of_others + mean) / (others + 1.0))[fold, place]
    return rates
