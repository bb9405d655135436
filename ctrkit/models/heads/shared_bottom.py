"""Shared bottom: one backbone for all tasks."""

from __future__ import annotations

from collections.abc import Sequence

from ctrkit.models.base import Backbone, Inputs, InputShape, Representation
from ctrkit.models.heads.base import Heads, NewBackbone, register_heads
from ctrkit.models.heads.config import SharedBottomConfig


@register_heads(SharedBottomConfig)
class SharedBottom(Heads):
    """One backbone, and one tower for each task (Caruana, "Multitask Learning", Machine Learning 1997)."""

    def __init__(self, config: SharedBottomConfig, backbone: NewBackbone, shape: InputShape) -> None:
        super().__init__(config, backbone, shape)
        self.backbone = backbone()
        self.build_towers(config, self.backbone.outputs, self.backbone, shape, own=False)

    def represent(self, inputs: Inputs) -> Sequence[Representation]:
        return [self.backbone(inputs)] * len(self.towers)

    def backbones_of(self, task: int) -> Sequence[Backbone]:
        return [] if task else [self.backbone]
