"""Heads: from the representations of backbones to the logits of the tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from ctrkit.errors import ConfigError
from ctrkit.models.base import Backbone, Inputs, InputShape, Output, Representation
from ctrkit.models.heads.config import TowersConfig
from ctrkit.models.heads.personal import EmbeddingGates, GateFields
from ctrkit.nn.experts import mixture
from ctrkit.nn.gates import FeatureGate
from ctrkit.nn.mlp import MLP

# Makes one more backbone of the model's kind, with weights of its own.
NewBackbone: TypeAlias = Callable[[], Backbone]


class TaskTower(nn.Module):
    """The tower of a task and its last linear layer, which reads the tower and the backbone's logit terms.

    With a prior, the tower has the gates of PPNet (Chang et al., KDD 2023, arXiv 2302.01115): each hidden
    layer is multiplied by 2 sigmoid(MLP([prior, stop_gradient(x)])), with an MLP of its own. x is what the
    tower reads: PEPNet's embeddings, where the tower reads them itself.

    Args:
        inputs: width of the tower's input.
        config: widths and dropout of the tower, and of the networks of its gates.
        logit_terms: K, the number of logit terms.
        term_weight: initial weight of each logit term; None draws the weights as all others.
        prior: width of the prior; 0 for a tower without gates.
    """

    def __init__(
        self,
        inputs: int,
        config: TowersConfig,
        logit_terms: int = 0,
        term_weight: float | None = None,
        prior: int = 0,
    ) -> None:
        super().__init__()
        if config.towers:
            check_reads(inputs, "heads.towers")
        self.tower = MLP(inputs, config.towers, config.dropout)
        self.gates = nn.ModuleList(
            FeatureGate(prior + inputs, width, config.gates.hidden)
            for width in (config.towers if prior else ())
        )
        self.layer = nn.Linear(self.tower.outputs + logit_terms, 1)
        if logit_terms and term_weight is not None:
            nn.init.constant_(self.term_weights, term_weight)

    @property
    def term_weights(self) -> Tensor:
        """Weights of the logit terms in the last layer, `[K]`."""
        return self.layer.weight[0, self.tower.outputs :]

    def hidden(self, vector: Tensor, logit_terms: Tensor, prior: Tensor | None = None) -> Tensor:
        """The input of the last layer: `[B, inputs], [B, K], [B, prior] -> [B, D]`."""
        if prior is None:
            return torch.cat([self.tower(vector), logit_terms], dim=1)
        context = torch.cat([prior, vector.detach()], dim=1)
        scaled = self.tower.scaled(vector, [gate(context) for gate in self.gates])
        return torch.cat([scaled, logit_terms], dim=1)

    def forward(self, vector: Tensor, logit_terms: Tensor) -> Tensor:
        """The logit: `[B, inputs], [B, K] -> [B]`."""
        logit: Tensor = self.layer(self.hidden(vector, logit_terms))
        return logit[:, 0]


class Heads(nn.Module, ABC):
    """Backbones, and one tower for each task that reads their representations.

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
    """

    config_class: ClassVar[type[TowersConfig]]
    towers: nn.ModuleList

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
            tower.hidden(representation.for_task(task), representation.logit_terms, prior)
            for task, (tower, representation) in enumerate(
                zip(self.task_towers, representations, strict=True)
            )
        ]
        logits = [layer(h) for layer, h in zip(self.task_layers, hidden, strict=True)]
        return Output(torch.cat(logits, dim=1), hidden[0], representations[0].auxiliary)

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
        """Start each task at a logit. The logit terms of its backbones take what they can, and the bias of
        its last layer takes the rest."""
        term = 0.0  # initial value of each logit term
        for task, (tower, logit) in enumerate(zip(self.task_towers, logits, strict=True)):
            for backbone in self.backbones_of(task):
                rest = backbone.start_at(logit)
                count = backbone.logit_terms
                term = (logit - rest) / (count * backbone.term_weight) if count else 0.0
            tower.layer.bias.fill_(logit - term * tower.term_weights.sum().item())

    def build_towers(
        self, config: TowersConfig, inputs: int, backbone: Backbone, tasks: int, *, own: bool
    ) -> nn.ModuleList:
        """One tower for each task.

        Args:
            config: widths and dropout of the towers.
            inputs: width of the vectors that the towers read.
            backbone: one of the backbones whose logit terms the towers read.
            tasks: T, the number of tasks.
            own: whether every task reads logit terms of backbones of its own, or those of the first task.
        """
        weight, prior = backbone.term_weight, self.prior.outputs if self.prior is not None else 0
        return nn.ModuleList(
            TaskTower(inputs, config, backbone.logit_terms, weight if own or not task else None, prior)
            for task in range(tasks)
        )


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


def check_reads(width: int, what: str) -> None:
    """Check that the model gives a vector for a part of the heads to read.

    Args:
        width: width of the vector; 0 where there is none.
        what: the part of the heads, for the message.

    Raises:
        ConfigError: there is no vector.
    """
    if not width:
        raise ConfigError(
            f"{what} must read a vector of the model, but this model gives only logit terms",
            hint="Use heads: {name: esmm} without towers, or another model",
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
