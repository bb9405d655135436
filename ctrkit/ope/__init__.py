"""Off-policy evaluation: what a new policy would have earned on an old policy's log. Needs no torch."""

from ctrkit.ope.diagnostics.verdict import PolicyVerdict
from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows
from ctrkit.ope.estimators.registry import ESTIMATORS
from ctrkit.ope.estimators.weights import Diagnostics
from ctrkit.ope.evaluation.evaluate import DEFAULT_ESTIMATORS, evaluate
from ctrkit.ope.evaluation.parts import log_parts
from ctrkit.ope.evaluation.results import Evaluation, PolicyEvaluation
from ctrkit.ope.intervals.interval import ConfidenceInterval
from ctrkit.ope.logs.bandit_log import BanditLog, read_bandit_log
from ctrkit.ope.models.reward_model import RewardModel

__all__ = [
    "DEFAULT_ESTIMATORS",
    "ESTIMATORS",
    "BanditLog",
    "ConfidenceInterval",
    "Diagnostics",
    "Estimate",
    "Estimator",
    "Evaluation",
    "LoggedRows",
    "PolicyEvaluation",
    "PolicyVerdict",
    "RewardModel",
    "evaluate",
    "log_parts",
    "read_bandit_log",
]
