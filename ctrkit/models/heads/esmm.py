"""ESMM: a backbone a task."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ctrkit.models.base import Backbone, Inputs, Output
from ctrkit.models.heads.base import Heads, NewBackbone, TaskTower, register_heads
from ctrkit.models.heads.config import ESMMConfig


@register_heads(ESMMConfig)
class ESMM(Heads):
    """One backbone and one tower a task over shared embeddings, as in "Entire Space Multi-Task Model"
    (Ma et al., SIGIR 2018, arXiv 1804.07931).

    The product p(click) p(conversion | click) is the funnel's, and its loss over all impressions is the
    default of training.
    """

    def __init__(self, config: ESMMConfig, backbone: NewBackbone, tasks: Sequence[str]) -> None:
        super().__init__(config, backbone, tasks)
        bottoms = [backbone() for _ in tasks]
        self.backbones = nn.ModuleList(bottoms)
        self.towers = nn.ModuleList(
            TaskTower(bottom.outputs, config, bottom.terms, bottom.term_weight) for bottom in bottoms
        )

    def forward(self, inputs: Inputs) -> Output:
        return self.outputs_of([backbone(inputs) for backbone in self.backbones])

    def own_backbones(self) -> Sequence[Backbone | None]:
        return [backbone for backbone in self.backbones if isinstance(backbone, Backbone)]
