"""AutoInt: self-attention of the fields over one another."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.field_attention import InteractingLayer
from ctrkit.nn.mlp import MLP


class AutoIntConfig(ModelConfig):
    """Config of AutoInt, and of AutoInt+.

    Attributes:
        layers: number of interacting layers.
        attention_heads: number of attention heads in each layer.
        attention_width: width of a field after each layer, all heads together.
        hidden: widths of a tower beside the attention (AutoInt+); empty for AutoInt.
        dropout: dropout rate of the attention weights, and of the tower's layers.
    """

    name: Literal["autoint"] = "autoint"
    layers: int = Field(default=3, ge=1)
    attention_heads: int = Field(default=2, ge=1)
    attention_width: int = Field(default=32, ge=1)
    hidden: tuple[PositiveInt, ...] = ()
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _divisible(self) -> AutoIntConfig:
        if self.attention_width % self.attention_heads:
            raise ValueError("attention_heads must divide attention_width")
        return self


@register(AutoIntConfig)
class AutoInt(Backbone):
    """Self-attention of the fields over one another, layer after layer: "AutoInt: Automatic Feature
    Interaction Learning via Self-Attentive Neural Networks" (Song et al., CIKM 2019, arXiv 1810.11921). With
    a tower beside it, it is AutoInt+ of the same paper."""

    def __init__(self, config: AutoIntConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        widths = (shape.width, *[config.attention_width] * config.layers)
        self.attention = nn.Sequential(
            *(
                InteractingLayer(before, after, config.attention_heads, config.dropout)
                for before, after in pairwise(widths)
            )
        )
        self.outputs = shape.vectors * config.attention_width
        self.tower = MLP(shape.flat, config.hidden, config.dropout) if config.hidden else None
        if self.tower is not None:
            self.outputs += self.tower.outputs

    def forward(self, inputs: Inputs) -> Representation:
        vectors = inputs.vectors
        attended = self.attention(vectors).flatten(1)
        if self.tower is None:
            return Representation.of(attended)
        return Representation.of(torch.cat([attended, self.tower(vectors.flatten(1))], dim=1))
