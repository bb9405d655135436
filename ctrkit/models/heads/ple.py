"""PLE: experts of each task beside experts of all tasks, in layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from ctrkit.models.base import Backbone, Inputs, InputShape, Representation
from ctrkit.models.heads.base import Heads, NewBackbone, mixed, register_heads
from ctrkit.models.heads.config import PLEConfig
from ctrkit.models.heads.towers import check_reads
from ctrkit.nn.experts import ExtractionGates, ExtractionLayer, mixture


@register_heads(PLEConfig)
class PLE(Heads):
    """Progressive layered extraction (Tang et al., RecSys 2020): layers of experts, mixed by
    `ctrkit.nn.experts.ExtractionGates`, and one tower for each task on top.

    The experts of the first layer are backbones, and its gates read the embeddings of all fields and
    readings. The experts of later layers are perceptrons, and their gates read the states, as in the paper.
    Over a shared bottom all experts are perceptrons, and every state starts as the bottom's vector.

    Logit terms and auxiliary outputs are mixed in the same shares as the vectors of the backbones, and skip
    the later layers. Where a backbone gives one vector for each task, the shared state gets their mean.

    Without shared experts the tasks share only embeddings, as in ESMM. Without experts of the tasks, one
    layer is MMoE. A single task has a mixture of all experts.
    """

    def __init__(self, config: PLEConfig, backbone: NewBackbone, shape: InputShape) -> None:
        super().__init__(config, backbone, shape)
        self.tasks, own = len(shape.feature_map.tasks), config.bottom == "own"
        self.separate = own and not config.shared_experts

        def gates(inputs: int, layer: int) -> ExtractionGates:
            last = layer == config.layers
            return ExtractionGates(inputs, self.tasks, config.task_experts, config.shared_experts, last)

        if own:
            check_reads(shape.flat, "the gates of experts")
        self.first = gates(shape.flat, layer=1) if own else None
        bottoms = [backbone() for _ in (self.first.owners if self.first is not None else [0])]
        self.backbones = nn.ModuleList(bottoms)
        self.layers = nn.ModuleList()
        width = bottoms[0].outputs
        for layer in range(2 if own else 1, config.layers + 1):
            check_reads(width, "experts that are perceptrons")
            self.layers.append(
                ExtractionLayer(gates(width, layer), width, config.expert_widths, config.dropout)
            )
            width = config.expert_widths[-1]
        self.build_towers(config, width, bottoms[0], shape, own=self.separate)

    def represent(self, inputs: Inputs) -> Sequence[Representation]:
        bottoms = [backbone(inputs) for backbone in self.backbones]
        if self.first is not None:
            mixtures = self.first([inputs.vectors.flatten(1)] * (self.tasks + 1), bottoms)
            tasks = [
                mixed(shares, members, task) for task, (shares, members) in enumerate(mixtures[: self.tasks])
            ]
            shared = [
                mixture(shares, [_common(b) for b in members]) for shares, members in mixtures[self.tasks :]
            ]
        else:
            tasks, shared = bottoms * self.tasks, [_common(bottoms[0])]
        states = [representation.for_task(task) for task, representation in enumerate(tasks)] + shared
        for layer in self.layers:
            states = layer(states)
        return [replace(task, vector=state) for task, state in zip(tasks, states, strict=True)]

    def backbones_of(self, task: int) -> Sequence[Backbone]:
        backbones = [backbone for backbone in self.backbones if isinstance(backbone, Backbone)]
        if self.separate and self.first is not None:
            return [b for b, owner in zip(backbones, self.first.owners, strict=True) if owner == task]
        return [] if task else backbones


def _common(representation: Representation) -> Tensor:
    """The vector of a representation that all tasks share, `[B, D]`."""
    vector = representation.vector
    return vector if vector.dim() == 2 else vector.mean(dim=1)
