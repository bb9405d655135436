"""DCN: a cross network of vectors and a tower."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.cross_layers import CrossStack, VectorCross
from ctrkit.nn.mlp import MLP


class DCNConfig(ModelConfig):
    """Config of DCN.

    Attributes:
        layers: number of cross layers.
        hidden: widths of the deep network; empty for the cross network alone.
        dropout: dropout rate after each of its layers.
    """

    name: Literal["dcn"] = "dcn"
    layers: int = Field(default=3, ge=1)
    hidden: tuple[PositiveInt, ...] = (256, 128)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


@register(DCNConfig)
class DCN(Backbone):
    """A cross network beside a deep network: "Deep & Cross Network for Ad Click Predictions" (Wang et al.,
    ADKDD 2017, arXiv 1708.05123).

    Each of its cross layers has a vector of weights. The model 'dcnv2' has matrices, and predicts better.
    """

    def __init__(self, config: DCNConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.cross = CrossStack(VectorCross(shape.flat) for _ in range(config.layers))
        self.tower = MLP(shape.flat, config.hidden, config.dropout) if config.hidden else None
        self.outputs = shape.flat + (self.tower.outputs if self.tower is not None else 0)

    def forward(self, inputs: Inputs) -> Representation:
        x0 = inputs.vectors.flatten(1)
        vector = self.cross(x0)
        if self.tower is not None:
            vector = torch.cat([vector, self.tower(x0)], dim=1)
        return Representation.of(vector)
