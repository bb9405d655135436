"""Configs of the heads: what the tasks share, and the tower of each."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveInt, model_validator

from ctrkit.config import Config


class TowersConfig(Config):
    """What all heads have: a tower a task.

    Attributes:
        towers: widths of each task's tower; none by default: a linear layer on what the bottom gives.
        dropout: share dropped in the towers, and in the perceptrons that heads put under them.
    """

    name: str
    towers: tuple[PositiveInt, ...] = ()
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


class SharedBottomConfig(TowersConfig):
    """One backbone, a tower a task."""

    name: Literal["shared_bottom"] = "shared_bottom"


class ESMMConfig(TowersConfig):
    """One backbone and one tower a task, over shared embeddings.

    Attributes:
        imputation: give each task after the first an imputation tower too, as the loss
            `conversion: {name: dr}` of ESCM² needs: a backbone and a tower more for each.
    """

    name: Literal["esmm"] = "esmm"
    imputation: bool = False


class ExpertsConfig(TowersConfig):
    """What heads with experts have.

    Attributes:
        bottom: "own": each expert is a backbone of its own, so that the model `dnn` gives the published form;
            the model's work is done once an expert. "shared": one backbone for all, and the experts are
            perceptrons that read its vector.
        expert_widths: of the experts that are perceptrons.
    """

    bottom: Literal["own", "shared"] = "own"
    expert_widths: tuple[PositiveInt, ...] = Field(default=(64,), min_length=1)


class MMoEConfig(ExpertsConfig):
    """Experts that all tasks share, mixed by a gate a task.

    Attributes:
        experts: how many.
    """

    name: Literal["mmoe"] = "mmoe"
    experts: int = Field(default=4, ge=1)


class PLEConfig(ExpertsConfig):
    """Experts of each task and experts of all tasks, in layers.

    Attributes:
        layers: extraction layers; 1 is CGC. Experts after the first layer are always perceptrons.
        task_experts: how many each task has in each layer.
        shared_experts: how many all tasks share in each layer.
    """

    name: Literal["ple"] = "ple"
    layers: int = Field(default=2, ge=1)
    task_experts: int = Field(default=1, ge=0)
    shared_experts: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _some_expert(self) -> PLEConfig:
        if not self.task_experts + self.shared_experts:
            raise ValueError(
                "task_experts and shared_experts are both 0, which leaves the tasks nothing to read"
            )
        return self


class AITMConfig(TowersConfig):
    """Each task reads its own vector and what the task before it hands on.

    Attributes:
        bottom: "own": each task's vector is that of a backbone of its own. "shared": one backbone for all,
            and each task's vector is made of its vector by a perceptron.
        task_widths: of those perceptrons.
    """

    name: Literal["aitm"] = "aitm"
    bottom: Literal["own", "shared"] = "own"
    task_widths: tuple[PositiveInt, ...] = Field(default=(64,), min_length=1)


HeadsConfig: TypeAlias = Annotated[
    SharedBottomConfig | ESMMConfig | MMoEConfig | PLEConfig | AITMConfig, Field(discriminator="name")
]
