"""How good a model's expected values are, given the last task and of an impression."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrkit.api.evaluation.rows import HeldOut
from ctrkit.api.models.model import Model
from ctrkit.api.models.value_rows import VALUE_METRICS, ValueRows
from ctrkit.metrics import MetricInterval, value_error, value_pcoc
from ctrkit.reports import Table
from ctrkit.schema.features import IMPRESSION_VALUE, VALUE


@dataclass(frozen=True)
class ValueEvaluation:
    """The evaluation of expected values.

    Attributes:
        rows: number of rows whose last label is 1.
        positives: number of them with a value above 0.
        metrics: metric -> its interval on these rows; None where there is none.
        error_of_mean: the error of their mean value as the prediction of each; None if all values are 0.
        impressions: PCOC of the expected value of an impression, on all rows; None where there is none.
    """

    rows: int
    positives: int
    metrics: Mapping[str, MetricInterval | None]
    error_of_mean: float | None
    impressions: MetricInterval | None

    @property
    def by_name(self) -> dict[str, MetricInterval | None]:
        """Every metric by the name that gates and pages use."""
        given = {f"{VALUE}/{name}": found for name, found in self.metrics.items()}
        return {**given, f"{IMPRESSION_VALUE}/pcoc": self.impressions}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        plain = {name: None if one is None else one.to_dict() for name, one in self.by_name.items()}
        counts = {"rows": self.rows, "positives": self.positives}
        return {**counts, **plain, "error_of_mean": self.error_of_mean}

    def table(self) -> Table:
        """Every metric."""
        rows: list[tuple[str, Any]] = [("rows", self.rows), ("values above 0", self.positives)]
        rows += self.by_name.items()
        return Table("Value", ("metric", "value"), (*rows, ("error of the mean value", self.error_of_mean)))

    def notes(self, task: str, fewest: int) -> Iterator[str]:
        """Notes for the report.

        Args:
            task: the last task.
            fewest: number of values below which metrics are mostly noise.
        """
        if self.positives < fewest:
            yield (
                f"{VALUE}: {self.positives} values above 0 are too few, metrics are mostly noise; at least "
                f"{fewest} are needed."
            )
        yield (
            f"{VALUE}: judged on the rows with a {task}. What the other rows would have been worth is not "
            "known, and they may differ."
        )


# The names that gates may have.
GATED = (*(f"{VALUE}/{name}" for name in VALUE_METRICS), f"{IMPRESSION_VALUE}/pcoc")


def evaluate_values(model: Model, held: HeldOut, confidence: float) -> ValueEvaluation | None:
    """The evaluation of the expected values of a model; None if it predicts none."""
    if held.values is None:
        return None
    encoded = model.encoder.encode(held.table, held.file, labels=False)
    outputs = model.outputs_of(encoded)
    expected = model.values(outputs)
    assert expected is not None
    reached = np.prod(list(model.probabilities(outputs.logits, encoded).values()), axis=0)
    known = ~np.isnan(held.labels[:, -1])
    of_known = None if held.groups is None else held.groups[known]
    every = ValueRows(held.values[known], (reached * expected)[known], held.weight[known], of_known)
    at = held.labels[:, -1] == 1
    groups = None if held.groups is None else held.groups[at]
    given = ValueRows(held.values[at], expected[at], held.weight[at], groups)
    return ValueEvaluation(
        len(given.values),
        int(np.count_nonzero(given.values)),
        given.measured(confidence),
        given.of_mean(value_error),
        every.interval(value_pcoc, confidence),
    )
