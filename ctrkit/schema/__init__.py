"""What columns mean: `FeatureSpec` for training tables, `LogSchema` for bandit, bid and auction logs."""

from ctrkit.schema.columns import Column, check_column
from ctrkit.schema.features import TRUTH_PREFIX, CandidateSpec, FeatureSpec
from ctrkit.schema.kinds import (
    BagFeature,
    CategoricalFeature,
    ListFeature,
    NumericFeature,
    SequenceFeature,
    VectorFeature,
)
from ctrkit.schema.log_schema import LogSchema
from ctrkit.schema.logs import AUCTION_LOG, BANDIT_LOG, BID_LOG, CANDIDATE_PREFIX, SERVED_PREFIX
from ctrkit.schema.names import ClosedSchema, near_misses, require_columns
from ctrkit.schema.scores import SCORES
from ctrkit.schema.times import check_zone, unix_seconds

__all__ = [
    "AUCTION_LOG",
    "BANDIT_LOG",
    "BID_LOG",
    "CANDIDATE_PREFIX",
    "SCORES",
    "SERVED_PREFIX",
    "TRUTH_PREFIX",
    "BagFeature",
    "CandidateSpec",
    "CategoricalFeature",
    "ClosedSchema",
    "Column",
    "FeatureSpec",
    "ListFeature",
    "LogSchema",
    "NumericFeature",
    "SequenceFeature",
    "VectorFeature",
    "check_column",
    "check_zone",
    "near_misses",
    "require_columns",
    "unix_seconds",
]
