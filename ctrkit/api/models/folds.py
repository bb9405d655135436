"""The metrics of a training that is repeated with the test rows of every fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrkit.evaluation.methods import mean_of_trainings
from ctrkit.metrics import MetricInterval
from ctrkit.reports import Table
from ctrkit.reports.cells import Value

CONFIDENCE = 0.95
# What a fold has is no metric of the model.
_COUNTS = ("rows", "positives")


@dataclass(frozen=True)
class FoldMetric:
    """A metric on the test rows of every fold.

    Attributes:
        values: its value by fold; None where it is undefined.
        mean: the mean of the folds where it is defined, with a t interval over folds; None for fewer than
            two.
    """

    values: tuple[float | None, ...]
    mean: MetricInterval | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> FoldMetric:
        """The metric of these values."""
        defined = np.array([value for value in values if value is not None])
        mean = mean_of_trainings(defined, CONFIDENCE, "folds") if defined.size > 1 else None
        return cls(tuple(values), mean)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"values": list(self.values), "mean": None if self.mean is None else self.mean.to_dict()}


def fold_metrics(
    folds: Sequence[Mapping[str, Mapping[str, float | None]]],
) -> dict[str, dict[str, FoldMetric]]:
    """Task -> metric -> its values over folds, from task -> metric -> value of each fold."""
    return {
        task: {
            name: FoldMetric.of([fold.get(task, {}).get(name) for fold in folds])
            for name in metrics
            if name not in _COUNTS
        }
        for task, metrics in folds[0].items()
    }


def folds_table(found: Mapping[str, Mapping[str, FoldMetric]], folds: int) -> Table:
    """The mean of each metric, and its lowest and highest value."""
    rows: list[tuple[Value, ...]] = []
    for task, metrics in found.items():
        for name, one in metrics.items():
            defined = [value for value in one.values if value is not None]
            ends = (min(defined), max(defined)) if defined else (None, None)
            rows.append((task, name, one.mean, *ends))
    header = ("task", "metric", "mean", "lowest", "highest")
    return Table(f"Test rows of {folds} folds, before calibration", header, tuple(rows))
