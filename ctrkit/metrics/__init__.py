"""Metrics and their uncertainty: pure functions on arrays.

Labels are 0 or 1, probabilities are in [0, 1], each [N]; a metric is a Python float. If a metric takes
`weight`, a row of weight 2 counts as two rows. Bad values raise `ctrkit.errors.DataError`, which names the
column and the row.
"""

from ctrkit.metrics.amounts import value_error, value_gini, value_interval, value_pcoc
from ctrkit.metrics.business import Business, business
from ctrkit.metrics.calibration import Reliability, ace, debiased_ece, ece, mce, pcoc, reliability
from ctrkit.metrics.comparison import Comparison, compare
from ctrkit.metrics.fields import FieldCalibration, by_field, field_ece, field_rce
from ctrkit.metrics.funnel import Funnel, TaskQuality, funnel
from ctrkit.metrics.influence import Metric
from ctrkit.metrics.probability import (
    BrierDecomposition,
    brier,
    brier_decomposition,
    log_loss,
    normalized_entropy,
    relative_information_gain,
)
from ctrkit.metrics.ranking import GroupedAuc, auc, average_precision, gauc, grouped_auc
from ctrkit.metrics.significance import MetricInterval, bootstrap, interval
from ctrkit.metrics.smooth import ks_calibration_error, smooth_ece
from ctrkit.metrics.top_k import (
    GroupedRanking,
    RankingByGroup,
    grouped_ranking,
    hit_rate_at,
    mean_average_precision,
    mean_reciprocal_rank,
    ndcg_at,
    ranking_by_group,
)

__all__ = [
    "BrierDecomposition",
    "Business",
    "Comparison",
    "FieldCalibration",
    "Funnel",
    "GroupedAuc",
    "GroupedRanking",
    "Metric",
    "MetricInterval",
    "RankingByGroup",
    "Reliability",
    "TaskQuality",
    "ace",
    "auc",
    "average_precision",
    "bootstrap",
    "brier",
    "brier_decomposition",
    "business",
    "by_field",
    "compare",
    "debiased_ece",
    "ece",
    "field_ece",
    "field_rce",
    "funnel",
    "gauc",
    "grouped_auc",
    "grouped_ranking",
    "hit_rate_at",
    "interval",
    "ks_calibration_error",
    "log_loss",
    "mce",
    "mean_average_precision",
    "mean_reciprocal_rank",
    "ndcg_at",
    "normalized_entropy",
    "pcoc",
    "ranking_by_group",
    "relative_information_gain",
    "reliability",
    "smooth_ece",
    "value_error",
    "value_gini",
    "value_interval",
    "value_pcoc",
]
