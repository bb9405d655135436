"""Models that can be trained, one in each file. Every file of this folder is registered automatically."""

from importlib import import_module
from pkgutil import walk_packages

from ctrkit.models.base import (
    DEFAULT_MODEL,
    MODELS,
    SCORERS,
    Backbone,
    ModelConfig,
    funnel_log_complements,
    funnel_log_probabilities,
    model_config,
    network_config,
    register,
)
from ctrkit.models.model import CtrModel, build_model, build_scorer
from ctrkit.models.scorer import Output, Scorer, ScorerConfig

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "SCORERS",
    "Backbone",
    "CtrModel",
    "ModelConfig",
    "Output",
    "Scorer",
    "ScorerConfig",
    "build_model",
    "build_scorer",
    "funnel_log_complements",
    "funnel_log_probabilities",
    "model_config",
    "network_config",
    "register",
]
