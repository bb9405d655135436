"""The parts of a model, and the registry of all models.

    embedding ─▶ Inputs ─▶ backbone ─▶ Representation ─▶ heads ─▶ Output
    history ────────┘

A published model is a `Backbone`: one file in this folder with a config and a class under `@register`.
Embeddings, the encoding and pooling of histories and the heads of the tasks are common to all models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.config import build, merged
from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError, nearest
from ctrkit.models.heads.config import HeadsConfig, SharedBottomConfig
from ctrkit.models.scorer import Scorer, ScorerConfig
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import EmbeddingConfig
from ctrkit.nn.history import HistoryConfig, HistoryReader, HistoryState


@dataclass(frozen=True)
class Inputs:
    """The inputs of a backbone for a batch of B rows.

    Attributes:
        batch: the encoded rows themselves, for models that do not read the common embeddings.
        fields: embeddings of the static fields, `[B, F, d]`.
        readings: pooled histories, `[B, R, d]`; R = 0 without sequences.
        history: the encoded histories, one for each row or for each run of rows that share it.
        linear: the linear logit of each task, `[B, T]`; None where there is none. Only heads read it.
    """

    batch: Batch
    fields: Tensor
    readings: Tensor
    history: HistoryState | None
    linear: Tensor | None = None

    @property
    def vectors(self) -> Tensor:
        """Fields and readings together, `[B, F + R, d]`: most models treat a reading as one more field."""
        return torch.cat([self.fields, self.readings], dim=1)

    def linear_of(self, task: int) -> Tensor:
        """The linear logit of a task, `[B, 1]`, or `[B, 0]` where there is none."""
        nothing = self.fields.new_zeros(len(self.fields), 0)
        return nothing if self.linear is None else self.linear[:, task : task + 1]


@dataclass(frozen=True)
class InputShape:
    """The shape of a backbone's inputs, known when it is built.

    Attributes:
        feature_map: tables, fields and tasks.
        width: d, the width of each embedding.
        fields: F, the number of static fields.
        readings: R, the number of readings of a history.
        history: the module that reads histories, or None without sequences.
        linear: whether there is a linear logit of each task.
    """

    feature_map: FeatureMap
    width: int
    fields: int
    readings: int
    history: HistoryReader | None
    linear: bool = False

    @property
    def vectors(self) -> int:
        """F + R, the number of vectors in `Inputs.vectors`."""
        return self.fields + self.readings

    @property
    def flat(self) -> int:
        """The width of all vectors concatenated."""
        return self.vectors * self.width


@dataclass(frozen=True)
class Representation:
    """The output of a backbone for a batch.

    Attributes:
        vector: `[B, D]`, read by the tower of each task, or `[B, T, D]` with one vector for each task.
        logit_terms: `[B, K]`, ready parts of the first task's logit, which its last linear layer reads.
        auxiliary: inputs of further losses, as in `Output.auxiliary`.
    """

    vector: Tensor
    logit_terms: Tensor
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, vector: Tensor) -> Representation:
        """A representation with a vector only."""
        return cls(vector, vector.new_empty(len(vector), 0))

    def for_task(self, task: int) -> Tensor:
        """The vector that the tower of a task reads, `[B, D]`."""
        return self.vector if self.vector.dim() == 2 else self.vector[:, task]


Cross: TypeAlias = tuple[str, ...]
Crosses: TypeAlias = Literal["auto"] | tuple[Cross, ...] | None


class ModelConfig(ScorerConfig):
    """Base of the configs of networks.

    Keys that a config file omits in a nested part keep the model's defaults, unless the file gives that part
    another `name`.

    Attributes:
        embedding: embeddings of fields and events; a number alone is the width.
        history: how behaviour sequences are encoded and pooled; not used without sequences.
        heads: what the tasks share, and the tower of each task.
        crosses: crosses of two or three fields, whose combinations get weights in the logits, beside weights
            of all fields (see `ctrkit.nn.linear_terms.LinearTerms`). "auto" chooses those that the training
            rows give evidence of. None for no such weights, unless the history has match or pair terms.
    """

    embedding: EmbeddingConfig = EmbeddingConfig(width=16)
    history: HistoryConfig = HistoryConfig()
    heads: HeadsConfig = Field(default=SharedBottomConfig())
    crosses: Crosses = None

    @field_validator("crosses", mode="before")
    @classmethod
    def _crosses_join_fields(cls, content: Any) -> Any:
        def joins(cross: Any) -> bool:
            listed = isinstance(cross, list | tuple) and all(isinstance(name, str) for name in cross)
            return listed and len(cross) in (2, 3) and len(set(cross)) == len(cross)

        lists = isinstance(content, list | tuple) and all(joins(cross) for cross in content)
        if not (lists or content in (None, "auto")):
            raise ValueError("give auto, or lists of two or three different fields such as [[hour, device]]")
        return content

    def takes_steps(self, *, sequences: bool, value: bool) -> bool:
        return True

    def has_linear_terms(self, *, sequences: bool) -> bool:
        """Whether the logits have linear terms, for rows with or without behaviour sequences."""
        return self.crosses is not None or (sequences and self.reads_history and self.history.has_terms)

    @property
    def embedding_width(self) -> int:
        """d, the width of the embeddings that the backbone reads."""
        return self.embedding.width

    @property
    def reads_embeddings(self) -> bool:
        """Whether the model reads embeddings of the common width."""
        return True

    @property
    def trains_vectors(self) -> bool:
        return self.reads_embeddings

    @property
    def reads_history(self) -> bool:
        """Whether the model reads sequences if there are any."""
        return True

    @property
    def keeps_sequences_apart(self) -> bool:
        """Whether the model encodes each sequence itself. Then `history` is not used, and the events that the
        model gets are embeddings of all sequences side by side, `[U, L, S * d]`."""
        return False


class Backbone(nn.Module, ABC):
    """The part of a model that makes one representation of a row from its fields and readings.

    It is built from its config and the shape of its inputs, and draws its weights from torch's global
    generator.

    Attributes:
        outputs: D, width of the representation's vector; may be 0.
        logit_terms: K, the number of the representation's logit terms.
        term_weight: initial weight of each logit term in the last linear layer of the first task.
        needs_history: whether the model needs a behaviour sequence.
    """

    config_class: ClassVar[type[ModelConfig]]
    needs_history: ClassVar[bool] = False
    outputs: int = 0
    logit_terms: int = 0
    term_weight: float = 1.0

    @abstractmethod
    def __init__(self, config: Any, shape: InputShape) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, inputs: Inputs) -> Representation:
        """The representation of each row."""

    def start_at(self, logit: float) -> float:
        """Set the biases of the logit terms, where they have some, so that the model starts at a logit.

        Returns:
            The rest of the logit, which the bias of the last linear layer should add.
        """
        return logit

    def derive(self) -> ModelConfig:
        """The config that a search has found."""
        raise NotImplementedError(f"{type(self).__name__} has no search")


Registered = TypeVar("Registered", bound=type[Backbone] | type[Scorer])

# Networks by the names of their backbones, and all other models.
MODELS: dict[str, type[Backbone]] = {}
SCORERS: dict[str, type[Scorer]] = {}
DEFAULT_MODEL = "mdaf"


def register(config: type[ScorerConfig]) -> Callable[[Registered], Registered]:
    """Class decorator: register a backbone or another model under the `name` of its config."""

    def known(model: Registered) -> Registered:
        name = config.model_fields["name"].default
        if issubclass(model, Scorer):
            model.config_class, SCORERS[name] = config, model
        elif issubclass(config, ModelConfig):
            model.config_class, MODELS[name] = config, model
        return model

    return known


def model_config(content: Mapping[str, Any] | ScorerConfig | str) -> ScorerConfig:
    """The config of a model.

    Args:
        content: a mapping of settings with the `name` of the model, a name alone, or a config, which is
            returned unchanged.

    Raises:
        ConfigError: the name or a key is unknown.
    """
    if isinstance(content, ScorerConfig):
        return content
    if isinstance(content, str):
        content = {"name": content}
    name = content.get("name", DEFAULT_MODEL)
    known: dict[str, type[Backbone] | type[Scorer]] = {**MODELS, **SCORERS}
    if name not in known:
        raise ConfigError(f"unknown model '{name}'", hint=nearest(str(name), known))
    config = known[name].config_class
    return build(config, merged(config(name=name).model_dump(), content))


def network_config(content: Mapping[str, Any] | ScorerConfig | str) -> ModelConfig:
    """The config of a model that is a network (see `model_config`).

    Raises:
        ConfigError: the name or a key is unknown, or the model is no network.
    """
    config = model_config(content)
    if not isinstance(config, ModelConfig):
        raise ConfigError(
            f"'{config.name}' is no network, and has no weights that gradients could change",
            hint="Choose a network",
        )
    return config


def funnel_log_probabilities(logits: Tensor) -> Tensor:
    """log p(task, impression): `[B, T] -> [B, T]`, the product of the funnel so far, as in ESMM.

    p(conversion, impression) = p(click) p(conversion | click) (Ma et al., SIGIR 2018), as a sum of
    logarithms: the product of two small float32 sigmoids would lose its gradient.
    """
    return F.logsigmoid(logits).cumsum(dim=1)


def funnel_log_complements(logits: Tensor) -> Tensor:
    """log(1 - p(task, impression)): `[B, T] -> [B, T]`, finite for every finite logit.

    An impression does not reach a task if it does not reach the task before, or if it stops there:
    1 - P_k = (1 - P_{k-1}) + P_{k-1} (1 - p_k). Nothing is subtracted from 1, so no precision is lost where
    P_k is close to 1.
    """
    reached = funnel_log_probabilities(logits)
    stopped = F.logsigmoid(-logits)
    missed = [stopped[:, 0]]
    for task in range(1, logits.shape[1]):
        missed.append(torch.logaddexp(missed[-1], reached[:, task - 1] + stopped[:, task]))
    return torch.stack(missed, dim=1)
