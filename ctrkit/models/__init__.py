"""Models that can be trained, one a file; every file of this folder is registered by being there."""

from importlib import import_module
from pkgutil import iter_modules

from ctrkit.models.base import (
    MODELS,
    CtrModel,
    ModelConfig,
    Output,
    build_model,
    funnel_log_complements,
    funnel_log_probabilities,
    model_config,
    register,
)

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "MODELS",
    "CtrModel",
    "ModelConfig",
    "Output",
    "build_model",
    "funnel_log_complements",
    "funnel_log_probabilities",
    "model_config",
    "register",
]
