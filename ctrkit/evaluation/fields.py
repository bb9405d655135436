"""Calibration by the values of several fields, with tests that allow for the number of values tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctrkit.arrays import Indices
from ctrkit.evaluation.verdict import FieldSegment
from ctrkit.metrics.checks import probability_rows
from ctrkit.metrics.fields import FieldCalibration, benjamini_hochberg, by_field, field_ece, field_rce

# The expected share of false alarms among the values called miscalibrated.
FALSE_DISCOVERY_RATE = 0.05
# The smoothing of Field-RCE, as a share of the base rate.
_SMOOTHING = 0.1


@dataclass(frozen=True)
class FieldReport:
    """Calibration over one field.

    Attributes:
        ece: Field-ECE over these values.
        rce: Field-RCE over these values.
        values: the calibration of each value, the most frequent first; rare values form one entry, the last.
    """

    ece: float
    rce: float
    values: tuple[FieldCalibration, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"ece": self.ece, "rce": self.rce, "values": [one.to_dict() for one in self.values]}


def by_fields(
    labels: ArrayLike,
    probabilities: ArrayLike,
    fields: Mapping[str, NDArray[Any]],
    groups: NDArray[Any] | None = None,
    minimum_rows: int = 200,
    confidence: float = 0.95,
    weight: ArrayLike | None = None,
) -> dict[str, FieldReport]:
    """Calibration of each value of several fields; the p-values of all fields are adjusted together.

    A field needs at least two entries (common values, or all rare ones as one); other fields are left out.

    Field-ECE and Field-RCE also treat all rare values as one, because each of them would add its noise. The
    smoothing of Field-RCE is a tenth of the base rate: the paper's 0.01 is more than most ads' click rate.

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        fields: name of a field -> its value on each row, [N].
        groups: the group of each row (usually its user), [N]; rows of one group are dependent.
        minimum_rows: values with fewer rows are rare: they are measured together.
        confidence: confidence level of the intervals.
        weight: the weight of each row, [N]; a row of weight 2 counts as two copies of it.

    Raises:
        DataError: bad values.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    smoothing = _SMOOTHING * float(w @ y / w.sum())
    found: dict[str, FieldReport] = {}
    for name, values in fields.items():
        common = _common(values, minimum_rows)
        by_value = by_field(
            y,
            p,
            values,
            minimum_rows=minimum_rows,
            groups=groups,
            weight=w,
            confidence=confidence,
            false_discovery_rate=FALSE_DISCOVERY_RATE,
        )
        if len(by_value) < 2:
            continue  # one entry holds all rows: it says no more than the metrics of all rows
        error = field_rce(y, p, common, w, smoothing)
        found[name] = FieldReport(field_ece(y, p, common, w), error, by_value)
    all_values = [one for report in found.values() for one in report.values]
    if not all_values:
        return found
    adjusted = iter(benjamini_hochberg([one.p_value for one in all_values]))
    return {
        name: replace(report, values=tuple(_adjusted(one, float(next(adjusted))) for one in report.values))
        for name, report in found.items()
    }


def _common(values: NDArray[Any], minimum_rows: int) -> Indices:
    """The number of each row's value, -1 for every rare value, [N]."""
    _, code, rows = np.unique(values, return_inverse=True, return_counts=True)
    return np.where(rows[code] < minimum_rows, -1, code)


def segments_of(fields: Mapping[str, FieldReport]) -> list[FieldSegment]:
    """The values of all fields as segments for the verdict; the entry of all rare values is left out."""
    return [
        FieldSegment(field, str(one.value), one.share, one.pcoc, one.beyond_noise)
        for field, report in fields.items()
        for one in report.values
        if one.values == 1 and isfinite(one.pcoc.value)
    ]


def _adjusted(one: FieldCalibration, p_value: float) -> FieldCalibration:
    return replace(one, adjusted_p_value=p_value, beyond_noise=p_value <= FALSE_DISCOVERY_RATE)
