"""ctrkit: from ad logs to ad decisions.

Everything a command does is one function here, ten lines in a notebook go the whole road:

    import ctrkit

    ctrkit.train(data="impressions.parquet", model="model.pt")
    ctrkit.calibrate("model.pt", "impressions.parquet")
    model = ctrkit.load("model.pt")
    model.predict(frame)                                   # calibrated probabilities, a column a task
    ctrkit.evaluate_policy("bandit.parquet", "model.pt")   # what would it have earned
    ctrkit.simulate_bidding("auctions.parquet", "model.pt", budget=1000)

Names are loaded when first used, so that `import ctrkit` is quick.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctrkit.api.calibrate import calibrate
    from ctrkit.api.check_log import check_log
    from ctrkit.api.evaluate import evaluate
    from ctrkit.api.evaluate_policy import evaluate_policy
    from ctrkit.api.explain import explain
    from ctrkit.api.learn_policy import learn_policy
    from ctrkit.api.list_models import list_models
    from ctrkit.api.models.model import Model, load
    from ctrkit.api.models.training_config import TrainConfig
    from ctrkit.api.plan_budget import plan_budget
    from ctrkit.api.recalibrate import recalibrate
    from ctrkit.api.sample_logs import sample_logs
    from ctrkit.api.simulate_bidding import simulate_bidding
    from ctrkit.api.summary import summary
    from ctrkit.api.train import train
    from ctrkit.schema import FeatureSpec

__version__ = _version("ctrkit")

_HOME = {
    "FeatureSpec": "ctrkit.schema",
    "Model": "ctrkit.api.models.model",
    "TrainConfig": "ctrkit.api.models.training_config",
    "calibrate": "ctrkit.api.calibrate",
    "check_log": "ctrkit.api.check_log",
    "evaluate": "ctrkit.api.evaluate",
    "evaluate_policy": "ctrkit.api.evaluate_policy",
    "explain": "ctrkit.api.explain",
    "learn_policy": "ctrkit.api.learn_policy",
    "list_models": "ctrkit.api.list_models",
    "load": "ctrkit.api.models.model",
    "plan_budget": "ctrkit.api.plan_budget",
    "recalibrate": "ctrkit.api.recalibrate",
    "sample_logs": "ctrkit.api.sample_logs",
    "simulate_bidding": "ctrkit.api.simulate_bidding",
    "summary": "ctrkit.api.summary",
    "train": "ctrkit.api.train",
}

__all__ = [
    "FeatureSpec",
    "Model",
    "TrainConfig",
    "calibrate",
    "check_log",
    "evaluate",
    "evaluate_policy",
    "explain",
    "learn_policy",
    "list_models",
    "load",
    "plan_budget",
    "recalibrate",
    "sample_logs",
    "simulate_bidding",
    "summary",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'ctrkit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
