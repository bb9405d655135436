"""How well calibrated probabilities are, in one table: `assess`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ctrkit import metrics
from ctrkit.metrics import Interval


@dataclass(frozen=True)
class CalibrationSummary:
    """Every calibration metric of one set of rows; those that are an `Interval` have low and high.

    Attributes:
        rows, positives: how many.
        pcoc: mean predicted over mean observed; 1 is right, above 1 is over-prediction.
        ece: L1, bins of equal mass; above 0 by noise even for true probabilities.
        debiased_ece: L2, bins of equal mass, the noise taken off; about 0 for true probabilities.
        mce: the largest gap of a bin. Noisy: do not gate on it.
        brier, normalized_entropy, log_loss: they judge ranking as well as calibration.
    """

    rows: int
    positives: int
    pcoc: Interval
    ece: float
    debiased_ece: Interval
    mce: float
    brier: Interval
    normalized_entropy: Interval
    log_loss: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; an interval is a mapping with `value`, `low` and `high`."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: v.to_dict() if isinstance(v, Interval) else v for name, v in values.items()}


def assess(
    labels: ArrayLike, probabilities: ArrayLike, groups: ArrayLike | None = None, confidence: float = 0.95
) -> CalibrationSummary:
    """Measure calibration, with an interval wherever a closed form gives one.

    Args:
        labels: 0 or 1, [N]. probabilities: [N]. groups: rows of one group (a user's) are taken as dependent.

    Raises:
        DataError: bad values, or only one class.
    """

    def measured(metric: metrics.Metric) -> Interval:
        return metrics.interval(metric, labels, probabilities, groups, confidence=confidence)

    return CalibrationSummary(
        rows=int(np.size(labels)),
        positives=int(np.sum(labels)),
        pcoc=measured(metrics.pcoc),
        ece=metrics.ece(labels, probabilities),
        debiased_ece=measured(metrics.debiased_ece),
        mce=metrics.mce(labels, probabilities),
        brier=measured(metrics.brier),
        normalized_entropy=measured(metrics.normalized_entropy),
        log_loss=measured(metrics.log_loss),
    )
