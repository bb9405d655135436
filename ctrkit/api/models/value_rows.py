"""The rows by which expected values are calibrated and judged, and their metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.errors import DataError
from ctrkit.metrics import MetricInterval, value_error, value_gini, value_interval, value_pcoc
from ctrkit.metrics.amounts import ValueMetric

# The metrics of expected values, by their names in reports and gates.
VALUE_METRICS: Mapping[str, ValueMetric] = {"pcoc": value_pcoc, "error": value_error, "gini": value_gini}


@dataclass(frozen=True)
class ValueRows:
    """Observed values beside predictions, arrays [n].

    Attributes:
        values: observed values.
        predictions: expected values.
        weight: weights, above 0.
        groups: the group of each row; None without groups.
    """

    values: Floats
    predictions: Floats
    weight: Floats
    groups: Integers | None

    @classmethod
    def of(cls, data: EncodedTable, predictions: Floats, rows: Integers, *, given: bool = True) -> ValueRows:
        """The rows of weight above 0 among `rows`.

        Args:
            data: encoded rows with values.
            predictions: expected values of `rows`, given the last task or, else, of an impression.
            rows: positions of the rows.
            given: whether only rows whose last label is 1 count.
        """
        assert data.value is not None
        kept = (data.weight[rows] > 0) & ~np.isnan(data.labels[rows, -1])
        if given:
            kept &= data.labels[rows, -1] == 1
        at = rows[kept]
        values, weight = (one[at].astype(np.float64) for one in (data.value, data.weight))
        return cls(values, predictions[kept], weight, None if data.groups is None else data.groups[at])

    def predicting(self, predictions: Floats) -> ValueRows:
        """The same rows with other predictions."""
        return replace(self, predictions=predictions)

    def measured(self, confidence: float) -> dict[str, MetricInterval | None]:
        """Every metric with its interval; None where it is undefined on these rows, or has no interval."""
        return {name: self.interval(metric, confidence) for name, metric in VALUE_METRICS.items()}

    def of_mean(self, metric: ValueMetric) -> float | None:
        """A metric of the mean value as the prediction of every row; None where it is undefined."""
        try:
            mean = np.average(self.values, weights=self.weight)
            return metric(self.values, np.full(len(self.values), mean), self.weight)
        except (DataError, ZeroDivisionError):  # all values are 0, or there is no row
            return None

    def interval(self, metric: ValueMetric, confidence: float) -> MetricInterval | None:
        """One metric with its interval; None where there is none."""
        try:
            return value_interval(metric, self.values, self.predictions, self.groups, confidence, self.weight)
        except DataError:
            return None
