"""MMoE: experts that all tasks share, mixed by one gate for each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from ctrkit.models.base import Backbone, Inputs, InputShape, Representation
from ctrkit.models.heads.base import Heads, NewBackbone, mixed, register_heads
from ctrkit.models.heads.config import MMoEConfig
from ctrkit.models.heads.towers import check_reads
from ctrkit.nn.experts import ExpertGate
from ctrkit.nn.mlp import MLP


@register_heads(MMoEConfig)
class MMoE(Heads):
    """Multi-gate mixture of experts (Ma et al., KDD 2018): y_t = h_t(Σ_e g_t(x)_e f_e(x)) with a tower
    h_t and a gate g_t for each task, and experts f_e.

    Where each expert is a backbone, x are the embeddings of all fields and readings, as in the paper. Over a
    shared bottom, x is its vector. Logit terms and auxiliary outputs are mixed in the same shares as the
    vectors.

    With a single task this is a plain mixture of experts.
    """

    def __init__(self, config: MMoEConfig, backbone: NewBackbone, shape: InputShape) -> None:
        super().__init__(config, backbone, shape)
        count, tasks = config.experts, len(shape.feature_map.tasks)
        bottoms = [backbone() for _ in range(count if config.bottom == "own" else 1)]
        self.backbones = nn.ModuleList(bottoms)
        self.experts = nn.ModuleList()
        reads, width = shape.flat, bottoms[0].outputs
        if config.bottom == "shared":
            check_reads(width, "experts over a shared bottom")
            self.experts.extend(MLP(width, config.expert_widths, config.dropout) for _ in range(count))
            reads, width = width, config.expert_widths[-1]
        check_reads(reads, "the gates of experts")
        self.gates = nn.ModuleList(ExpertGate(reads, count) for _ in range(tasks))
        self.build_towers(config, width, bottoms[0], shape, own=False)

    def represent(self, inputs: Inputs) -> Sequence[Representation]:
        experts = [backbone(inputs) for backbone in self.backbones]
        reads = [inputs.vectors.flatten(1)] * len(self.gates)
        if self.experts:
            (bottom,) = experts
            experts = [replace(bottom, vector=expert(bottom.vector)) for expert in self.experts]
            reads = [bottom.for_task(task) for task in range(len(self.gates))]
        gates = zip(self.gates, reads, strict=True)
        return [mixed(gate(x), experts, task) for task, (gate, x) in enumerate(gates)]

    def backbones_of(self, task: int) -> Sequence[Backbone]:
        return [] if task else [backbone for backbone in self.backbones if isinstance(backbone, Backbone)]
