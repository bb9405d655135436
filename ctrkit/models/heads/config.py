"""Configs of the heads: what the tasks share, and the tower of each task."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveInt, model_validator

from ctrkit.config import Config


class PersonalGatesConfig(Config):
    """PEPNet's gates (see `ctrkit.models.heads.personal`). Fields are named as in the feature spec.

    Attributes:
        scale: what the gates scale: the "embeddings" that the model reads (EPNet), the hidden layers of the
            "towers" (PPNet), both, or nothing.
        domain: fields that set the gates on the embeddings. By default these are the fields of the user's
            profile, or all fields where none is declared as such.
        prior: fields that set the gates on the towers, with the same default.
        hidden: widths of the network that computes the gates.
    """

    scale: tuple[Literal["embeddings", "towers"], ...] = ()
    domain: tuple[str, ...] = ()
    prior: tuple[str, ...] = ()
    hidden: tuple[PositiveInt, ...] = (64,)

    @model_validator(mode="after")
    def _fields_are_read(self) -> PersonalGatesConfig:
        for key, scaled in (("domain", "embeddings"), ("prior", "towers")):
            if getattr(self, key) and scaled not in self.scale:
                raise ValueError(f"{key}: nothing reads these fields without '{scaled}' in `scale`")
        return self


class TowersConfig(Config):
    """Settings of all heads, which have one tower for each task.

    Attributes:
        towers: widths of each task's tower. By default there is none, only a linear layer.
        dropout: dropout rate in the towers, and in the perceptrons of the heads below them.
        gates: gates that some fields set on the embeddings and on the hidden layers of the towers.
    """

    name: str
    towers: tuple[PositiveInt, ...] = ()
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    gates: PersonalGatesConfig = PersonalGatesConfig()

    @model_validator(mode="after")
    def _gates_have_layers(self) -> TowersConfig:
        if "towers" in self.gates.scale and not self.towers:
            raise ValueError("gates.scale: 'towers' needs hidden layers, and `towers` names no widths")
        return self


class SharedBottomConfig(TowersConfig):
    """One backbone, and one tower for each task."""

    name: Literal["shared_bottom"] = "shared_bottom"


class ESMMConfig(TowersConfig):
    """One backbone and one tower for each task, over shared embeddings.

    Attributes:
        imputation: whether each task after the first also has an imputation tower with a backbone of its own.
            The loss `conversion: {name: dr}` of ESCM² needs it.
    """

    name: Literal["esmm"] = "esmm"
    imputation: bool = False


class ExpertsConfig(TowersConfig):
    """Settings of heads with experts.

    Attributes:
        bottom: "own": each expert is a backbone of its own. The model `dnn` then has the published form. The
            model is computed once for each expert. "shared": there is one backbone, and the experts are
            perceptrons that read its vector.
        expert_widths: layer widths of the experts that are perceptrons.
    """

    bottom: Literal["own", "shared"] = "own"
    expert_widths: tuple[PositiveInt, ...] = Field(default=(64,), min_length=1)


class MMoEConfig(ExpertsConfig):
    """Experts that all tasks share, mixed by one gate for each task.

    Attributes:
        experts: number of experts.
    """

    name: Literal["mmoe"] = "mmoe"
    experts: int = Field(default=4, ge=1)


class PLEConfig(ExpertsConfig):
    """Experts of each task and experts of all tasks, in layers.

    Attributes:
        layers: number of extraction layers; 1 is CGC. Experts after the first layer are always perceptrons.
        task_experts: number of experts of each task in each layer.
        shared_experts: number of experts that all tasks share in each layer.
    """

    name: Literal["ple"] = "ple"
    layers: int = Field(default=2, ge=1)
    task_experts: int = Field(default=1, ge=0)
    shared_experts: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _some_expert(self) -> PLEConfig:
        if not self.task_experts + self.shared_experts:
            raise ValueError("task_experts and shared_experts are both 0, so the tasks have nothing to read")
        return self


class AITMConfig(TowersConfig):
    """Each task reads its own vector and information from the task before it.

    Attributes:
        bottom: "own": each task's vector comes from a backbone of its own. "shared": there is one backbone,
            and a perceptron makes each task's vector from its vector.
        task_widths: layer widths of those perceptrons.
    """

    name: Literal["aitm"] = "aitm"
    bottom: Literal["own", "shared"] = "own"
    task_widths: tuple[PositiveInt, ...] = Field(default=(64,), min_length=1)


HeadsConfig: TypeAlias = Annotated[
    SharedBottomConfig | ESMMConfig | MMoEConfig | PLEConfig | AITMConfig, Field(discriminator="name")
]
