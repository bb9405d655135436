"""AITM: each task hands information on to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from ctrkit.models.base import Backbone, Inputs, InputShape, Representation
from ctrkit.models.heads.base import Heads, NewBackbone, register_heads
from ctrkit.models.heads.config import AITMConfig
from ctrkit.models.heads.towers import check_reads
from ctrkit.nn.experts import InformationTransfer
from ctrkit.nn.mlp import MLP


@register_heads(AITMConfig)
class AITM(Heads):
    """Adaptive information transfer along the funnel (Xi et al., KDD 2021, arXiv 2105.08489). From the second
    task on, `ctrkit.nn.experts.InformationTransfer` mixes the task's vector with information from the task
    before. The task's tower reads the result.

    The paper predicts p(task at an impression) for each task separately. Its "behavioral expectation
    calibrator" is a hinge loss on a task that is more probable than the task before it. Here, as in all
    heads, a logit belongs to the task given the task before. Probabilities at an impression are products,
    which never exceed their factors. The hinge loss would always be zero, so there is none.

    Logit terms and auxiliary outputs are not passed on. With a single task nothing is passed on.
    """

    def __init__(self, config: AITMConfig, backbone: NewBackbone, shape: InputShape) -> None:
        super().__init__(config, backbone, shape)
        tasks, own = len(shape.feature_map.tasks), config.bottom == "own"
        bottoms = [backbone() for _ in range(tasks if own else 1)]
        self.backbones = nn.ModuleList(bottoms)
        width = bottoms[0].outputs
        check_reads(width, "information transfer between tasks")
        self.branches = nn.ModuleList()
        if not own:
            self.branches.extend(MLP(width, config.task_widths, config.dropout) for _ in range(tasks))
            width = config.task_widths[-1]
        self.transfers = nn.ModuleList(InformationTransfer(width, config.dropout) for _ in range(tasks - 1))
        self.build_towers(config, width, bottoms[0], shape, own=own)

    def represent(self, inputs: Inputs) -> Sequence[Representation]:
        bottoms = [backbone(inputs) for backbone in self.backbones]
        tasks = bottoms * (len(self.towers) // len(bottoms))
        vectors = [representation.for_task(task) for task, representation in enumerate(tasks)]
        if self.branches:
            vectors = [branch(vector) for branch, vector in zip(self.branches, vectors, strict=True)]
        for task, transfer in enumerate(self.transfers, start=1):
            vectors[task] = transfer(vectors[task - 1], vectors[task])
        return [replace(task, vector=vector) for task, vector in zip(tasks, vectors, strict=True)]

    def backbones_of(self, task: int) -> Sequence[Backbone]:
        return [backbone for backbone in self.backbones[task : task + 1] if isinstance(backbone, Backbone)]
