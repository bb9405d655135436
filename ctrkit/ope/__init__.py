"""Off-policy evaluation: what a new policy would have earned on an old policy's log. Needs no torch."""

from ctrkit.ope.base import Estimate, Estimator, LoggedRows
from ctrkit.ope.evaluate import DEFAULT_ESTIMATORS, evaluate
from ctrkit.ope.evaluation import Evaluation, PolicyEvaluation
from ctrkit.ope.intervals import Interval
from ctrkit.ope.log import BanditLog, read_bandit_log
from ctrkit.ope.parts import log_parts
from ctrkit.ope.registry import ESTIMATORS
from ctrkit.ope.reward_model import RewardModel
from ctrkit.ope.verdict import Verdict
from ctrkit.ope.weights import Diagnostics

__all__ = [
    "DEFAULT_ESTIMATORS",
    "ESTIMATORS",
    "BanditLog",
    "Diagnostics",
    "Estimate",
    "Estimator",
    "Evaluation",
    "Interval",
    "LoggedRows",
    "PolicyEvaluation",
    "RewardModel",
    "Verdict",
    "evaluate",
    "log_parts",
    "read_bandit_log",
]
