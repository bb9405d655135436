"""The calibration of expected values: fitted on some converted rows, judged on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctrkit.api.models.value_rows import VALUE_METRICS, ValueRows
from ctrkit.calibration import ValueScaling
from ctrkit.metrics import MetricInterval, value_interval, value_pcoc
from ctrkit.reports import Table
from ctrkit.reports.cells import text


@dataclass(frozen=True)
class ValueCalibration:
    """The calibration of expected values.

    Attributes:
        scaling: the factor of all expected values.
        factor: the factor with its interval.
        rows: number of rows that it was fitted on.
        before: metric -> its interval before, on rows that the factor was not fitted on; None where there is
            none.
        after: the same after.
    """

    scaling: ValueScaling
    factor: MetricInterval
    rows: int
    before: Mapping[str, MetricInterval | None]
    after: Mapping[str, MetricInterval | None]

    @classmethod
    def of(cls, fitted: ValueRows, judged: ValueRows, confidence: float) -> ValueCalibration:
        """Fit on some rows and judge on others.

        Raises:
            DataError: there are too few rows to fit on, or all of their values are 0.
        """
        given = (fitted.groups, confidence, fitted.weight)
        pcoc = value_interval(value_pcoc, fitted.values, fitted.predictions, *given)
        ends = (1 / pcoc.value, 1 / pcoc.high, 1 / pcoc.low)
        scaling = ValueScaling.fit(fitted.values, fitted.predictions, fitted.weight)
        return cls(
            scaling,
            MetricInterval(*ends, confidence, pcoc.method),
            len(fitted.values),
            judged.measured(confidence),
            judged.predicting(scaling(judged.predictions)).measured(confidence),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""

        def plain(found: Mapping[str, MetricInterval | None]) -> dict[str, Any]:
            return {name: None if one is None else one.to_dict() for name, one in found.items()}

        sides = {"before": plain(self.before), "after": plain(self.after)}
        return {"factor": self.factor.to_dict(), "rows": self.rows, **sides}

    @property
    def reason(self) -> str:
        """What was done, as a sentence."""
        low, high = self.factor.low, self.factor.high
        doubt = " It may be 1: the model's own values may be right." if low <= 1 <= high else ""
        return f"Expected values are multiplied by {text(self.factor)}, from {self.rows:,} rows.{doubt}"

    def table(self) -> Table:
        """Every metric before and after."""
        rows = tuple((name, self.before[name], self.after[name]) for name in VALUE_METRICS)
        return Table("value: times a factor, on held-out rows", ("metric", "before", "after"), rows)
