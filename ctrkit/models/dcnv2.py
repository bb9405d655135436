"""DCNv2: a cross network of matrices and a tower."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt

from ctrkit.config import Config
from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.cross_layers import ActivationName, CrossLayer, CrossStack, MatrixCross, MixtureCross
from ctrkit.nn.mlp import MLP


class MixtureConfig(Config):
    """A mixture of low-rank matrices in place of each full one (see `ctrkit.nn.cross_layers.MixtureCross`).

    Attributes:
        rank: rank of each expert. With a quarter of the total embedding width, one expert costs half as much
            as a full matrix.
        experts: number of experts.
        activation: activation in the low-rank space. With the identity and one expert, a layer is a plain
            low-rank layer.
    """

    rank: int = Field(default=32, ge=1)
    experts: int = Field(default=4, ge=1)
    activation: ActivationName = "tanh"


class DCNv2Config(ModelConfig):
    """Config of DCNv2.

    Attributes:
        layers: number of cross layers.
        mixture: mixture of low-rank matrices; None for full matrices.
        structure: whether the deep network is beside the cross network ("parallel") or on top ("stacked").
        hidden: widths of the deep network; empty for the cross network alone.
        dropout: dropout rate after each of its layers.
    """

    name: Literal["dcnv2"] = "dcnv2"
    layers: int = Field(default=3, ge=1)
    mixture: MixtureConfig | None = None
    structure: Literal["parallel", "stacked"] = "parallel"
    hidden: tuple[PositiveInt, ...] = (256, 128)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


@register(DCNv2Config)
class DCNv2(Backbone):
    """A cross network and a deep network: "DCN V2: Improved Deep & Cross Network and Practical Lessons for
    Web-scale Learning to Rank Systems" (Wang et al., WWW 2021, arXiv 2008.13535)."""

    def __init__(self, config: DCNv2Config, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.cross = CrossStack(_layer(config, shape.flat) for _ in range(config.layers))
        self.tower = MLP(shape.flat, config.hidden, config.dropout)
        self.stacked = config.structure == "stacked" or not config.hidden
        self.outputs = self.tower.outputs + (0 if self.stacked else shape.flat)

    def forward(self, inputs: Inputs) -> Representation:
        x0 = inputs.vectors.flatten(1)
        crossed = self.cross(x0)
        if self.stacked:
            return Representation.of(self.tower(crossed))
        return Representation.of(torch.cat([crossed, self.tower(x0)], dim=1))


def _layer(config: DCNv2Config, width: int) -> CrossLayer:
    if config.mixture is None:
        return MatrixCross(width)
    mixture = config.mixture
    return MixtureCross(width, mixture.rank, mixture.experts, mixture.activation)
