"""Heads: from the representations of backbones to the logits of the tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from ctrkit.models.base import Backbone, Inputs, Output, Representation
from ctrkit.models.heads.config import TowersConfig
from ctrkit.nn.mlp import MLP

# Makes one more backbone of the model's kind, with weights of its own.
NewBackbone: TypeAlias = Callable[[], Backbone]


class TaskTower(nn.Module):
    """The tower of a task and its last linear layer, which reads the tower and the backbone's terms.

    Args:
        inputs: width of what the tower reads.
        config: widths and dropout of the tower.
        terms: K, number of terms.
        term_weight: weight of each term at the start; None draws them as any other weight.
    """

    def __init__(
        self, inputs: int, config: TowersConfig, terms: int = 0, term_weight: float | None = None
    ) -> None:
        super().__init__()
        self.tower = MLP(inputs, config.towers, config.dropout)
        self.layer = nn.Linear(self.tower.outputs + terms, 1)
        if terms and term_weight is not None:
            nn.init.constant_(self.layer.weight[:, -terms:], term_weight)

    def hidden(self, vector: Tensor, terms: Tensor | None = None) -> Tensor:
        """What the last layer reads: `[B, inputs], [B, K] -> [B, D]`."""
        tower: Tensor = self.tower(vector)
        return tower if terms is None else torch.cat([tower, terms], dim=1)


class Heads(nn.Module, ABC):
    """Backbones, and a tower a task on what they give.

    Attributes:
        towers: a `TaskTower` a task, in funnel order.
    """

    config_class: ClassVar[type[TowersConfig]]
    towers: nn.ModuleList

    @abstractmethod
    def __init__(self, config: Any, backbone: NewBackbone, tasks: Sequence[str]) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, inputs: Inputs) -> Output:
        """Logits of every task."""

    @abstractmethod
    def own_backbones(self) -> Sequence[Backbone | None]:
        """For each task the backbone whose terms start at that task's base rate, where there is one."""

    @property
    def task_layers(self) -> Sequence[nn.Linear]:
        """The last linear layer of each task, with one output each, in funnel order."""
        return [tower.layer for tower in self.towers if isinstance(tower, TaskTower)]

    def outputs_of(self, representations: Sequence[Representation]) -> Output:
        """The towers over a representation a task; the auxiliary outputs are those of the first."""
        hidden = [
            tower.hidden(representation.for_task(task), representation.terms)
            for task, (tower, representation) in enumerate(zip(self.towers, representations, strict=True))
        ]
        logits = [layer(h) for layer, h in zip(self.task_layers, hidden, strict=True)]
        return Output(torch.cat(logits, dim=1), hidden[0], representations[0].auxiliary)


HeadsT = TypeVar("HeadsT", bound=type[Heads])

HEADS: dict[str, type[Heads]] = {}


def register_heads(config: type[TowersConfig]) -> Callable[[HeadsT], HeadsT]:
    """Class decorator: make heads known by the `name` of their config."""

    def known(heads: HeadsT) -> HeadsT:
        heads.config_class = config
        HEADS[config.model_fields["name"].default] = heads
        return heads

    return known
