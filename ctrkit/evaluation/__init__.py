"""How good a model's predictions are on labelled rows, where they fail, and whether one can bid on them.

This package works on NumPy arrays and Polars tables; `ctrkit.evaluate` gives it the model's predictions.
"""

from ctrkit.evaluation.drift import Drift, drift, population_stability
from ctrkit.evaluation.fields import FieldReport, by_fields
from ctrkit.evaluation.gain import Gain, gain
from ctrkit.evaluation.gates import GateOutcome, MetricGate, check_gates
from ctrkit.evaluation.leaks import Leak, find_leaks
from ctrkit.evaluation.measures import (
    MEASURES,
    EvaluationWarning,
    Measure,
    MetricDifference,
    compare_models,
    measure,
)
from ctrkit.evaluation.profile import FeatureProfile, profile
from ctrkit.evaluation.scores import ScoreDistribution, score_distribution
from ctrkit.evaluation.slices import Division, Slice, by_count, by_slice, occurrences
from ctrkit.evaluation.task import EvaluationSettings, LabelledRows, Scored, TaskEvaluation, evaluate_task
from ctrkit.evaluation.unknown import UnknownShare
from ctrkit.evaluation.verdict import FitRules, TaskVerdict, judge

__all__ = [
    "MEASURES",
    "Division",
    "Drift",
    "EvaluationSettings",
    "EvaluationWarning",
    "FeatureProfile",
    "FieldReport",
    "FitRules",
    "Gain",
    "GateOutcome",
    "LabelledRows",
    "Leak",
    "Measure",
    "MetricDifference",
    "MetricGate",
    "ScoreDistribution",
    "Scored",
    "Slice",
    "TaskEvaluation",
    "TaskVerdict",
    "UnknownShare",
    "by_count",
    "by_fields",
    "by_slice",
    "check_gates",
    "compare_models",
    "drift",
    "evaluate_task",
    "find_leaks",
    "gain",
    "judge",
    "measure",
    "occurrences",
    "population_stability",
    "profile",
    "score_distribution",
]
