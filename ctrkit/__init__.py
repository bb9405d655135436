"""ctrkit: from ad logs to ad decisions.

Every command is one function here. A few lines in a notebook go the whole road:

    import ctrkit

    model = ctrkit.train(data="impressions.parquet").trained
    ctrkit.calibrate(model, "impressions.parquet")
    model.predict(frame)                                  # calibrated probabilities, a column a task
    ctrkit.evaluate_policy("bandit.parquet", model)       # what would it have earned
    ctrkit.simulate_bidding("auctions.parquet", model, budget=1000)

Settings are keywords, as in `ctrkit.evaluate_policy(policy="uniform", estimators=["ips"])`, or are given
together as `config`: a mapping, a config such as `ctrkit.OpeConfig`, or a YAML file. A call writes files only
where it is told to: `out` is the folder of a run and its report, and `model` is the file of an artifact.

Names and modules are loaded when they are first used, so that `import ctrkit` is quick.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctrkit.api.bidding.config import BiddingConfig
    from ctrkit.api.calibrate import calibrate, calibrate_scores
    from ctrkit.api.calibration.result import CalibrateConfig
    from ctrkit.api.check_log import CheckConfig, check_log
    from ctrkit.api.evaluate import evaluate
    from ctrkit.api.evaluate_bids import BidsConfig
    from ctrkit.api.evaluate_policy import evaluate_policy
    from ctrkit.api.evaluation.result import EvaluateConfig
    from ctrkit.api.explain import ExplainConfig, explain
    from ctrkit.api.export_model import export_model
    from ctrkit.api.get_features import get_features
    from ctrkit.api.import_model import import_model
    from ctrkit.api.inspect import inspect
    from ctrkit.api.interleave import InterleaveConfig, interleave
    from ctrkit.api.join_feedback import join_feedback
    from ctrkit.api.learn_policy import LearnPolicyConfig, learn_policy
    from ctrkit.api.list_models import list_models
    from ctrkit.api.list_sources import list_sources
    from ctrkit.api.list_versions import list_versions
    from ctrkit.api.models.model import Model, load
    from ctrkit.api.models.training_config import TrainConfig
    from ctrkit.api.monitor import MonitorConfig, monitor
    from ctrkit.api.plan_budget import PlanBudgetConfig, plan_budget
    from ctrkit.api.policies.config import OpeConfig
    from ctrkit.api.predict import PredictConfig, predict
    from ctrkit.api.prepare import prepare
    from ctrkit.api.promote_model import promote_model
    from ctrkit.api.push_features import push_features
    from ctrkit.api.push_model import push_model
    from ctrkit.api.recalibrate import RecalibrateConfig, recalibrate
    from ctrkit.api.rollback_model import rollback_model
    from ctrkit.api.sample_logs import sample_logs
    from ctrkit.api.scores.calibrator import ScoreCalibrator
    from ctrkit.api.serve import serve
    from ctrkit.api.simulate_bidding import simulate_bidding
    from ctrkit.api.summary import summary
    from ctrkit.api.train import train
    from ctrkit.schema import FeatureSpec
    from ctrkit.serving.http.config import ServeConfig

__version__ = _version("ctrkit")

_HOME = {
    "BiddingConfig": "ctrkit.api.bidding.config",
    "BidsConfig": "ctrkit.api.evaluate_bids",
    "CalibrateConfig": "ctrkit.api.calibration.result",
    "CheckConfig": "ctrkit.api.check_log",
    "EvaluateConfig": "ctrkit.api.evaluation.result",
    "ExplainConfig": "ctrkit.api.explain",
    "FeatureSpec": "ctrkit.schema",
    "InterleaveConfig": "ctrkit.api.interleave",
    "LearnPolicyConfig": "ctrkit.api.learn_policy",
    "Model": "ctrkit.api.models.model",
    "MonitorConfig": "ctrkit.api.monitor",
    "OpeConfig": "ctrkit.api.policies.config",
    "PlanBudgetConfig": "ctrkit.api.plan_budget",
    "PredictConfig": "ctrkit.api.predict",
    "RecalibrateConfig": "ctrkit.api.recalibrate",
    "TrainConfig": "ctrkit.api.models.training_config",
    "ScoreCalibrator": "ctrkit.api.scores.calibrator",
    "ServeConfig": "ctrkit.serving.http.config",
    "calibrate": "ctrkit.api.calibrate",
    "calibrate_scores": "ctrkit.api.calibrate",
    "check_log": "ctrkit.api.check_log",
    "evaluate": "ctrkit.api.evaluate",
    "evaluate_policy": "ctrkit.api.evaluate_policy",
    "explain": "ctrkit.api.explain",
    "export_model": "ctrkit.api.export_model",
    "get_features": "ctrkit.api.get_features",
    "import_model": "ctrkit.api.import_model",
    "inspect": "ctrkit.api.inspect",
    "interleave": "ctrkit.api.interleave",
    "join_feedback": "ctrkit.api.join_feedback",
    "learn_policy": "ctrkit.api.learn_policy",
    "list_models": "ctrkit.api.list_models",
    "list_sources": "ctrkit.api.list_sources",
    "list_versions": "ctrkit.api.list_versions",
    "load": "ctrkit.api.models.model",
    "monitor": "ctrkit.api.monitor",
    "plan_budget": "ctrkit.api.plan_budget",
    "predict": "ctrkit.api.predict",
    "prepare": "ctrkit.api.prepare",
    "promote_model": "ctrkit.api.promote_model",
    "push_features": "ctrkit.api.push_features",
    "push_model": "ctrkit.api.push_model",
    "recalibrate": "ctrkit.api.recalibrate",
    "rollback_model": "ctrkit.api.rollback_model",
    "sample_logs": "ctrkit.api.sample_logs",
    "serve": "ctrkit.api.serve",
    "simulate_bidding": "ctrkit.api.simulate_bidding",
    "summary": "ctrkit.api.summary",
    "train": "ctrkit.api.train",
}

__all__ = [
    "BiddingConfig",
    "BidsConfig",
    "CalibrateConfig",
    "CheckConfig",
    "EvaluateConfig",
    "ExplainConfig",
    "FeatureSpec",
    "InterleaveConfig",
    "LearnPolicyConfig",
    "Model",
    "MonitorConfig",
    "OpeConfig",
    "PlanBudgetConfig",
    "PredictConfig",
    "RecalibrateConfig",
    "ScoreCalibrator",
    "ServeConfig",
    "TrainConfig",
    "calibrate",
    "calibrate_scores",
    "check_log",
    "evaluate",
    "evaluate_policy",
    "explain",
    "export_model",
    "get_features",
    "import_model",
    "inspect",
    "interleave",
    "join_feedback",
    "learn_policy",
    "list_models",
    "list_sources",
    "list_versions",
    "load",
    "monitor",
    "plan_budget",
    "predict",
    "prepare",
    "promote_model",
    "push_features",
    "push_model",
    "recalibrate",
    "rollback_model",
    "sample_logs",
    "serve",
    "simulate_bidding",
    "summary",
    "train",
]


def _modules() -> set[str]:
    return {module.name for module in iter_modules(__path__)}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _modules():
        return import_module(f"ctrkit.{name}")
    raise AttributeError(f"module 'ctrkit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, *_modules()})
