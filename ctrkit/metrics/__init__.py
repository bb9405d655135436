"""What was measured, and how surely: pure functions on arrays.

Labels are 0 or 1, probabilities lie in [0, 1], each [N]; a metric is a Python float. Where a metric takes
`weight`, a row of weight 2 counts as two rows. Bad values raise `ctrkit.errors.DataError`, which names
column and row.
"""

from ctrkit.metrics.calibration import (
    Reliability,
    debiased_ece,
    ece,
    mce,
    pcoc,
    reliability,
)
from ctrkit.metrics.probability import brier, log_loss, normalized_entropy
from ctrkit.metrics.ranking import GroupedAuc, auc, gauc, grouped_auc
from ctrkit.metrics.significance import Interval, Metric, bootstrap, interval

__all__ = [
    "GroupedAuc",
    "Interval",
    "Metric",
    "Reliability",
    "auc",
    "bootstrap",
    "brier",
    "debiased_ece",
    "ece",
    "gauc",
    "grouped_auc",
    "interval",
    "log_loss",
    "mce",
    "normalized_entropy",
    "pcoc",
    "reliability",
]
