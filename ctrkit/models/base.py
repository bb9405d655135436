"""What a model is: rows in, logits of a funnel of tasks out. And the registry of all models.

A new model is one new file in this folder: a config with its own `name`, and a class under `@register`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.config import Config, build
from ctrkit.data.batches import Batch, FeatureMap
from ctrkit.errors import ConfigError, nearest


@dataclass(frozen=True)
class Output:
    """What a model says of a batch.

    Attributes:
        logits: `[B, T]`, of each task given the task before it: click, then conversion given click.
        hidden: `[B, D]`, what the last linear layer of the first task reads: `logits[:, 0]` is
            `last_layer(hidden)[:, 0]`, so that a posterior over that layer can be put on any model.
        auxiliary: further logits of the first task, `[B]` each, for losses that train parts of the model
            on their own.
    """

    logits: Tensor
    hidden: Tensor
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)


class ModelConfig(Config):
    """Base of the models' configs; each has a literal `name` with itself as the default."""

    name: str


class CtrModel(nn.Module, ABC):
    """A model of the probabilities of a funnel of tasks.

    It returns logits, and knows nothing of losses, optimizers, devices or files. Its constructor takes its
    config and the feature map, and draws its weights from torch's global generator.
    """

    config_class: ClassVar[type[ModelConfig]]

    def __init__(self, config: ModelConfig, feature_map: FeatureMap) -> None:
        super().__init__()
        self.feature_map = feature_map

    @abstractmethod
    def forward(self, batch: Batch) -> Output:
        """Logits of the rows; labels and weights of the batch are not read."""

    @property
    @abstractmethod
    def task_layers(self) -> Sequence[nn.Linear]:
        """The last linear layer of each task, with one output each, in funnel order."""

    @property
    def last_layer(self) -> nn.Linear:
        """The last linear layer of the first task, which reads `Output.hidden`."""
        return self.task_layers[0]

    @torch.no_grad()
    def set_base_rates(self, rates: Sequence[float]) -> None:
        """Start each task at its base rate (given the task before it) rather than at one half.

        Clicks are rare: without this, the first hundreds of steps go into learning how rare.
        """
        for layer, rate in zip(self.task_layers, rates, strict=True):
            layer.bias.fill_(torch.logit(torch.tensor(rate), eps=1e-6).item())


ModelT = TypeVar("ModelT", bound=type[CtrModel])

MODELS: dict[str, type[CtrModel]] = {}
DEFAULT_MODEL = "mdaf"


def register(config: type[ModelConfig]) -> Callable[[ModelT], ModelT]:
    """Class decorator: make a model known by the `name` of its config."""

    def known(model: ModelT) -> ModelT:
        model.config_class = config
        MODELS[config.model_fields["name"].default] = model
        return model

    return known


def model_config(content: Mapping[str, Any] | ModelConfig) -> ModelConfig:
    """The config that a mapping describes, of the model that its `name` names; a config is left as it is.

    Raises:
        ConfigError: the name is unknown, or a key is.
    """
    if isinstance(content, ModelConfig):
        return content
    name = content.get("name", DEFAULT_MODEL)
    if name not in MODELS:
        raise ConfigError(f"unknown model '{name}'", mend=nearest(str(name), MODELS))
    return build(MODELS[name].config_class, dict(content))


def build_model(config: ModelConfig, feature_map: FeatureMap) -> CtrModel:
    """A model with fresh weights."""
    return MODELS[config.name](config, feature_map)


def funnel_log_probabilities(logits: Tensor) -> Tensor:
    """log p(task, impression): `[B, T] -> [B, T]`, the product of the funnel so far, as in ESMM.

    p(conversion, impression) = p(click) p(conversion | click) (Ma et al., SIGIR 2018), as a sum of
    logarithms: the product of two small float32 sigmoids would lose its gradient.
    """
    return F.logsigmoid(logits).cumsum(dim=1)


def funnel_log_complements(logits: Tensor) -> Tensor:
    """log(1 - p(task, impression)): `[B, T] -> [B, T]`, finite for every finite logit.

    A funnel misses a task by missing the one before it, or by reaching that and stopping there:
    1 - P_k = (1 - P_{k-1}) + P_{k-1} (1 - p_k). Nothing is subtracted from 1, so that nothing is lost where
    P_k is close to it.
    """
    reached = funnel_log_probabilities(logits)
    stopped = F.logsigmoid(-logits)
    missed = [stopped[:, 0]]
    for task in range(1, logits.shape[1]):
        missed.append(torch.logaddexp(missed[-1], reached[:, task - 1] + stopped[:, task]))
    return torch.stack(missed, dim=1)
