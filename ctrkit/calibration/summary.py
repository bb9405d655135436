"""All calibration metrics of some probabilities: `assess`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ctrkit import metrics
from ctrkit.errors import DataError
from ctrkit.metrics import MetricInterval
from ctrkit.metrics.calibration import need_positives
from ctrkit.metrics.checks import need_both_classes, probability_rows


@dataclass(frozen=True)
class CalibrationSummary:
    """Every calibration metric of one set of rows.

    A metric with an interval is None if its uncertainty cannot be estimated (rows of a single user).

    Attributes:
        rows: the number of rows of weight above 0.
        positives: the number of positive rows of weight above 0.
        pcoc: mean predicted over mean observed; 1 is right, above 1 is over-prediction.
        ece: calibration error, L1, bins of equal mass; above 0 by noise even for true probabilities.
        debiased_ece: calibration error, L2, bins of equal mass, without the noise; about 0 for true
            probabilities.
        mce: the largest gap of a bin. It is noisy: do not use it in a gate.
        brier: Brier score, which depends on ranking as well as on calibration.
        normalized_entropy: normalised entropy, which depends on both too.
        log_loss: log loss in nats, which depends on both too.
    """

    rows: int
    positives: int
    pcoc: MetricInterval | None
    ece: float
    debiased_ece: MetricInterval | None
    mce: float
    brier: MetricInterval | None
    normalized_entropy: MetricInterval | None
    log_loss: MetricInterval | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; an interval is a mapping with `value`, `low` and `high`."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: v.to_dict() if isinstance(v, MetricInterval) else v for name, v in values.items()}


def assess(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    weight: ArrayLike | None = None,
) -> CalibrationSummary:
    """Measure calibration, with an interval for every metric that has a closed form.

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        groups: the group of each row, [N]; rows of one group (a user's) are treated as dependent.
        confidence: confidence level of the intervals.
        weight: the weight of each row, [N]; a row of weight 2 counts as two copies of it.

    Raises:
        DataError: bad values, or only one class.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    need_positives(float(w @ y))
    need_both_classes(float(w @ y), float(w @ (1 - y)), "an assessment of calibration")

    def measured(metric: metrics.Metric) -> MetricInterval | None:
        try:
            return metrics.interval(metric, y, p, groups, confidence=confidence, weight=w)
        except DataError:
            return None

    return CalibrationSummary(
        rows=int(np.count_nonzero(w)),
        positives=int(np.count_nonzero(w * y)),
        pcoc=measured(metrics.pcoc),
        ece=metrics.ece(y, p, weight=w),
        debiased_ece=measured(metrics.debiased_ece),
        mce=metrics.mce(y, p, weight=w),
        brier=measured(metrics.brier),
        normalized_entropy=measured(metrics.normalized_entropy),
        log_loss=measured(metrics.log_loss),
    )
