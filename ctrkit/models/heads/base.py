"""Heads: from the representations of backbones to the logits of the tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from ctrkit.models.base import Backbone, Inputs, InputShape, Representation
from ctrkit.models.heads.config import TowersConfig
from ctrkit.models.heads.personal import EmbeddingGates, GateFields
from ctrkit.models.heads.towers import TaskTower, ValueTower
from ctrkit.models.scorer import Output
from ctrkit.nn.experts import mixture

# Makes one more backbone of the model's kind, with weights of its own.
NewBackbone: TypeAlias = Callable[[], Backbone]


class Heads(nn.Module, ABC):
    """Backbones, and one tower for each task that reads their representations. Where rows have a value, its
    tower reads the last task's representation.

    The logit terms of a backbone of one task are parts of that task's logit. The logit terms of a backbone
    that tasks share are parts of the first task's logit; the other tasks learn whether to use them.

    The gates of PEPNet are common to all heads: on the embeddings before the backbones read them, and in the
    towers.

    Args:
        config: settings of the heads.
        backbone: a function that makes a new backbone.
        shape: shape of the inputs; its feature map names the tasks, in funnel order.

    Attributes:
        towers: one `TaskTower` for each task, in funnel order.
        value: the tower of the value; None where rows have no value.
    """

    config_class: ClassVar[type[TowersConfig]]
    towers: nn.ModuleList
    value: ValueTower | None

    @abstractmethod
    def __init__(self, config: Any, backbone: NewBackbone, shape: InputShape) -> None:
        super().__init__()
        gates = config.gates
        self.embedding_gates = EmbeddingGates(gates, shape) if "embeddings" in gates.scale else None
        self.prior = GateFields("prior", gates.prior, shape) if "towers" in gates.scale else None

    def forward(self, inputs: Inputs) -> Output:
        """Logits of every task. The auxiliary outputs are those of the first task's representation."""
        prior = self.prior(inputs) if self.prior is not None else None
        if self.embedding_gates is not None:
            inputs = self.embedding_gates(inputs)
        representations = self.represent(inputs)
        hidden = [
            tower.hidden(
                representation.for_task(task),
                torch.cat([representation.logit_terms, inputs.linear_of(task)], dim=1),
                prior,
            )
            for task, (tower, representation) in enumerate(
                zip(self.task_towers, representations, strict=True)
            )
        ]
        logits = [layer(h) for layer, h in zip(self.task_layers, hidden, strict=True)]
        last, value = representations[-1], None
        if self.value is not None:
            value = self.value(last.for_task(len(representations) - 1), last.logit_terms, prior)
        return Output(torch.cat(logits, dim=1), hidden[0], representations[0].auxiliary, value)

    @abstractmethod
    def represent(self, inputs: Inputs) -> Sequence[Representation]:
        """One representation for each task, which its tower reads."""

    @abstractmethod
    def backbones_of(self, task: int) -> Sequence[Backbone]:
        """The backbones whose logit terms start at the task's base rate. There are none where the task reads
        logit terms that start at the base rate of the first task."""

    @property
    def task_towers(self) -> Sequence[TaskTower]:
        """The tower of each task, in funnel order."""
        return [tower for tower in self.towers if isinstance(tower, TaskTower)]

    @property
    def task_layers(self) -> Sequence[nn.Linear]:
        """The last linear layer of each task, with one output each, in funnel order."""
        return [tower.layer for tower in self.task_towers]

    @torch.no_grad()
    def start_at(self, logits: Sequence[float]) -> None:
        """Start each task at a logit, and the value at the distribution of the training rows. The logit terms
        of a task's backbones take what they can, and the bias of its last layer takes the rest."""
        term = 0.0  # initial value of each logit term
        for task, (tower, logit) in enumerate(zip(self.task_towers, logits, strict=True)):
            for backbone in self.backbones_of(task):
                rest = backbone.start_at(logit)
                count = backbone.logit_terms
                term = (logit - rest) / (count * backbone.term_weight) if count else 0.0
            tower.start_at(logit, term)
        if self.value is not None:
            self.value.start_at(0.0, term)

    def build_towers(
        self, config: TowersConfig, inputs: int, backbone: Backbone, shape: InputShape, *, own: bool
    ) -> None:
        """Make the towers of the tasks and of the value.

        Args:
            config: widths and dropout of the towers.
            inputs: width of the vectors that the towers read.
            backbone: one of the backbones whose logit terms the towers read.
            shape: as for the heads.
            own: whether every task reads logit terms of backbones of its own, or those of the first task.
        """
        features, terms, weight = shape.feature_map, backbone.logit_terms, backbone.term_weight
        prior = self.prior.outputs if self.prior is not None else 0
        self.towers = nn.ModuleList(
            TaskTower(inputs, config, terms, weight if own or not task else None, prior, linear=shape.linear)
            for task in range(len(features.tasks))
        )
        self.value = ValueTower(inputs, config, terms, prior) if features.value else None


def mixed(shares: Tensor, experts: Sequence[Representation], task: int) -> Representation:
    """A task's mixture of representations.

    The vectors for the task, the logit terms and the auxiliary outputs are all mixed in the same shares
    `[B, E]`. Logit terms stay logits, as shares sum to 1.
    """
    return Representation(
        mixture(shares, [expert.for_task(task) for expert in experts]),
        mixture(shares, [expert.logit_terms for expert in experts]),
        {
            name: mixture(shares, [expert.auxiliary[name].unsqueeze(1) for expert in experts]).squeeze(1)
            for name in experts[0].auxiliary
        },
    )


HeadsT = TypeVar("HeadsT", bound=type[Heads])

HEADS: dict[str, type[Heads]] = {}


def register_heads(config: type[TowersConfig]) -> Callable[[HeadsT], HeadsT]:
    """Class decorator: register heads under the `name` of their config."""

    def known(heads: HeadsT) -> HeadsT:
        heads.config_class = config
        HEADS[config.model_fields["name"].default] = heads
        return heads

    return known
