"""Shared bottom: one backbone for all tasks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ctrkit.models.base import Backbone, Inputs, Output
from ctrkit.models.heads.base import Heads, NewBackbone, TaskTower, register_heads
from ctrkit.models.heads.config import SharedBottomConfig


@register_heads(SharedBottomConfig)
class SharedBottom(Heads):
    """One backbone, a tower a task (Caruana, "Multitask Learning", Machine Learning 1997).

    The backbone's terms are parts of the first task's logit; the other tasks learn whether to use them.
    """

    def __init__(self, config: SharedBottomConfig, backbone: NewBackbone, tasks: Sequence[str]) -> None:
        super().__init__(config, backbone, tasks)
        self.backbone = backbone()
        bottom = self.backbone
        self.towers = nn.ModuleList(
            TaskTower(bottom.outputs, config, bottom.terms, None if position else bottom.term_weight)
            for position in range(len(tasks))
        )

    def forward(self, inputs: Inputs) -> Output:
        return self.outputs_of([self.backbone(inputs)] * len(self.towers))

    def own_backbones(self) -> Sequence[Backbone | None]:
        return [self.backbone, *([None] * (len(self.towers) - 1))]
