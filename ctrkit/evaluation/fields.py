"""Calibration by the values of several fields, with what is beyond the noise of looking at so many."""

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

# The expected share of wrong ones among the values called miscalibrated.
FALSE_DISCOVERY_RATE = 0.05
# Of Field-RCE, in base rates.
_SMOOTHING = 0.1


@dataclass(frozen=True)
class FieldReport:
    """Calibration over one field.

    Attributes:
        ece, rce: Field-ECE and Field-RCE over these values.
        values: by falling number of rows, rare ones together as the last.
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
    """`ctrkit.metrics.fields.by_field` over several fields, whose p-values are adjusted all together.

    A field without two values that are common enough is left out.

    Field-ECE and Field-RCE take rare values together too, as each would add its noise. The smoothing of
    Field-RCE is a tenth of the base rate, as the paper's 0.01 is more than most ads' click rate.

    Args:
        labels: 0 or 1, [N].
        probabilities: [N].
        fields: name -> value of each row, [N].
        weight: a row of weight 2 counts as two copies of it, [N].

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
            continue  # nothing but rare values together, which are all rows: no news
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
    """The number of each row's value, that of all rare values being -1, [N]."""
    _, code, rows = np.unique(values, return_inverse=True, return_counts=True)
    return np.where(rows[code] < minimum_rows, -1, code)


def segments_of(fields: Mapping[str, FieldReport]) -> list[FieldSegment]:
    """The values of all fields as segments that a verdict can be given on; rare values together are none."""
    return [
        FieldSegment(field, str(one.value), one.share, one.pcoc, one.beyond_noise)
        for field, report in fields.items()
        for one in report.values
        if one.values == 1 and isfinite(one.pcoc.value)
    ]


def _adjusted(one: FieldCalibration, p_value: float) -> FieldCalibration:
    return replace(one, adjusted_p_value=p_value, beyond_noise=p_value <= FALSE_DISCOVERY_RATE)
