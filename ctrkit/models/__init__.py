"""Models that can be trained, one in each file. Every file of this folder is registered automatically."""

from importlib import import_module
from pkgutil import walk_packages

from ctrkit.models.base import (
    MODELS,
    Backbone,
    ModelConfig,
    Output,
    funnel_log_complements,
    funnel_log_probabilities,
    model_config,
    register,
)
from ctrkit.models.model import CtrModel, build_model

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "MODELS",
    "Backbone",
    "CtrModel",
    "ModelConfig",
    "Output",
    "build_model",
    "funnel_log_complements",
    "funnel_log_probabilities",
    "model_config",
    "register",
]
