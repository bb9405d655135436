"""ESMM: one backbone for each task, and the imputation towers of ESCM²."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from ctrkit.errors import ConfigError
from ctrkit.models.base import Backbone, Inputs, InputShape, Representation
from ctrkit.models.heads.base import Heads, NewBackbone, register_heads
from ctrkit.models.heads.config import ESMMConfig
from ctrkit.models.heads.towers import TaskTower


@register_heads(ESMMConfig)
class ESMM(Heads):
    """One backbone and one tower for each task over shared embeddings, as in "Entire Space Multi-Task Model"
    (Ma et al., SIGIR 2018, arXiv 1804.07931).

    The funnel multiplies p(click) p(conversion | click). Its loss over all impressions is the default of
    training.

    With `imputation`, each task after the first also has an imputation tower with a backbone of its own, as
    in ESCM² (Wang et al., SIGIR 2022, arXiv 2204.05125). Its output is the auxiliary "imputation.<task>", a
    number of either sign, which `ctrkit.training.objectives` turns into a predicted loss. No logit depends on
    it.

    Raises:
        ConfigError: imputation with a single task.
    """

    def __init__(self, config: ESMMConfig, backbone: NewBackbone, shape: InputShape) -> None:
        super().__init__(config, backbone, shape)
        tasks = shape.feature_map.tasks
        if config.imputation and len(tasks) == 1:
            raise ConfigError(
                f"heads.imputation is for the tasks after the first, and '{tasks[0]}' is the only one",
                hint="Remove it, or declare a second label under `features.labels`",
            )
        bottoms = [backbone() for _ in tasks]
        self.backbones = nn.ModuleList(bottoms)
        self.build_towers(config, bottoms[0].outputs, bottoms[0], shape, own=True)
        self.imputed = tasks[1:] if config.imputation else ()
        bottoms = [backbone() for _ in self.imputed]
        self.imputation_backbones = nn.ModuleList(bottoms)
        self.imputation_towers = nn.ModuleList(TaskTower(b.outputs, config, b.logit_terms) for b in bottoms)

    def represent(self, inputs: Inputs) -> Sequence[Representation]:
        first, *others = (backbone(inputs) for backbone in self.backbones)
        return [replace(first, auxiliary={**first.auxiliary, **self._imputations(inputs)}), *others]

    def _imputations(self, inputs: Inputs) -> dict[str, Tensor]:
        outputs = {}
        towers = zip(self.imputed, self.imputation_backbones, self.imputation_towers, strict=True)
        for task, (name, backbone, tower) in enumerate(towers, start=1):
            representation = backbone(inputs)
            outputs[f"imputation.{name}"] = tower(representation.for_task(task), representation.logit_terms)
        return outputs

    def backbones_of(self, task: int) -> Sequence[Backbone]:
        return [backbone for backbone in self.backbones[task : task + 1] if isinstance(backbone, Backbone)]
