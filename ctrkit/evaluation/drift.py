"""Whether the rows a model is judged on look like those it was trained on: the population stability index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.special import gammaincinv

from ctrkit.errors import DataError
from ctrkit.evaluation.profile import FeatureProfile
from ctrkit.metrics.checks import independent_units

# The usual thresholds (Lewis 1994; Siddiqi 2006, "Credit Risk Scorecards"): below the first there is no
# notable change, from the second on the population has changed.
WATCH, DRIFTED = 0.1, 0.25

Level: TypeAlias = Literal["stable", "watch", "drifted"]


@dataclass(frozen=True)
class Drift:
    """The drift of one column.

    Attributes:
        column: the column's name.
        psi: the population stability index between training and evaluated rows.
        noise: the index stays below this in 95 of 100 samples of these sizes if there is no drift.
        level: `stable` below 0.1 or within noise, `drifted` from 0.25, else `watch`.
        largest: the name of the bin that adds most to the index.
        training: the share of the training rows in this bin.
        evaluated: the share of the evaluated rows in this bin.
    """

    column: str
    psi: float
    noise: float
    level: Level
    largest: str
    training: float
    evaluated: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return dict(vars(self))


def population_stability(
    expected: ArrayLike, actual: ArrayLike
) -> tuple[float, np.ndarray[Any, np.dtype[np.float64]]]:
    """The population stability index of two sets of rows, and the term of each bin, [B].

    PSI = Σ_b (a_b - e_b) ln(a_b / e_b), where a and e are shares of the bins. It comes from credit scoring
    (Lewis 1994, "An Introduction to Credit Scoring"; Siddiqi 2006) and equals the symmetric divergence of
    Jeffreys and of Kullback & Leibler 1951. Half a row is added to every bin that holds a row on either side,
    so that a bin that is empty on one side adds a finite amount.

    Args:
        expected: the number of expected (training) rows in each bin, at least 0, [B].
        actual: the number of actual (evaluated) rows in each bin, at least 0, [B].

    Raises:
        DataError: lengths differ, a count is negative, or one side has no rows.
    """
    e, a = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    if e.shape != a.shape or e.ndim != 1:
        raise DataError(f"bins of shape {e.shape} and {a.shape} cannot be compared")
    if min(e.min(initial=0), a.min(initial=0)) < 0 or e.sum() <= 0 or a.sum() <= 0:
        raise DataError("the counts of bins must be at least 0, and both sides must have rows")
    held = (e > 0) | (a > 0)
    e, a = np.where(held, e + 0.5, 0.0), np.where(held, a + 0.5, 0.0)
    e, a = e / e.sum(), a / a.sum()
    terms = np.zeros(e.size)
    terms[held] = (a[held] - e[held]) * np.log(a[held] / e[held])
    return float(terms.sum()), terms


def stability_noise(bins: int, expected_rows: float, actual_rows: float, confidence: float = 0.95) -> float:
    """The quantile of PSI if there is no drift: (1/n + 1/m) times the quantile of χ² with B - 1 degrees.

    Source: Yurdakul 2018, "Statistical Properties of Population Stability Index". Rows of one user are not
    independent, so the true noise is larger where a user has many rows.

    Args:
        bins: B, the number of bins that hold rows.
        expected_rows: n, the number of training rows.
        actual_rows: m, the number of evaluated rows.
        confidence: the level of the quantile.
    """
    if bins < 2:
        return 0.0
    # The quantile of χ² with bins - 1 degrees of freedom; scipy.stats, which has it too, is slow to import.
    quantile = 2 * gammaincinv((bins - 1) / 2, confidence)
    return float(quantile * (1 / expected_rows + 1 / actual_rows))


def drift(
    profiles: Mapping[str, FeatureProfile], table: pl.DataFrame, weight: ArrayLike | None = None
) -> tuple[Drift, ...]:
    """The drift of every profiled column that the table has, largest first.

    Args:
        profiles: column -> its profile on the training rows.
        table: the evaluated rows.
        weight: the weight of each row, [N]; a row of weight 2 counts as two.
    """
    mass = np.ones(table.height) if weight is None else np.asarray(weight, np.float64)
    rows = independent_units(mass, np.arange(table.height))
    found = []
    for column, training in profiles.items():
        if column not in table.columns:
            continue
        counts = training.counts(table[column], mass)
        counts *= rows / counts.sum()
        expected = np.array(training.shares) * training.rows
        psi, terms = population_stability(expected, counts)
        bins = int(((expected > 0) | (counts > 0)).sum())
        noise = stability_noise(bins, training.rows, rows)
        largest = int(np.argmax(terms))
        level: Level = "stable" if psi < max(WATCH, noise) else "drifted" if psi >= DRIFTED else "watch"
        share = float(counts[largest] / counts.sum())
        name = training.names()[largest]
        found.append(Drift(column, psi, noise, level, name, training.shares[largest], share))
    return tuple(sorted(found, key=lambda one: -one.psi))
