"""Wukong: stacked factorization machines."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt
from torch import nn

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.factorization import check_pairs, of_like_length
from ctrkit.nn.mlp import MLP
from ctrkit.nn.wukong import WukongLayer


class WukongConfig(ModelConfig):
    """Config of Wukong.

    Attributes:
        layers: number of layers. Layer i sees products of up to 2 ** i embeddings.
        fm_vectors: number of vectors that each layer's factorization machine block makes.
        linear_vectors: number of vectors that each layer's linear compression block makes.
        rank: the inner products of a vector with all others are projected to this number.
        fm_hidden: widths of the network of each factorization machine block.
        hidden: widths of the tower over the vectors of the last layer, at least one.
        dropout: dropout rate after each layer of these networks.
    """

    name: Literal["wukong"] = "wukong"
    layers: int = Field(default=3, ge=1)
    fm_vectors: int = Field(default=8, ge=1)
    linear_vectors: int = Field(default=8, ge=1)
    rank: int = Field(default=8, ge=1)
    fm_hidden: tuple[PositiveInt, ...] = (128,)
    hidden: tuple[PositiveInt, ...] = Field(default=(256, 128), min_length=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


@register(WukongConfig)
class Wukong(Backbone):
    """Layers of factorization machine blocks and linear compression blocks, and a tower: "Wukong: Towards a
    Scaling Law for Large-Scale Recommendation" (Zhang et al., ICML 2024, arXiv 2403.02545).

    The paper turns all numeric features into one vector by a network. Here each of them has an embedding of
    its own.

    Raises:
        ConfigError: there are fewer than two fields and readings together, or embeddings have width 1.
    """

    def __init__(self, config: WukongConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        check_pairs("Wukong", shape.vectors)
        vectors, layers = shape.vectors, []
        for _ in range(config.layers):
            layer = WukongLayer(
                vectors,
                shape.width,
                config.fm_vectors,
                config.linear_vectors,
                config.rank,
                config.fm_hidden,
                config.dropout,
            )
            layers.append(layer)
            vectors = layer.outputs
        self.layers = nn.Sequential(*layers)
        self.tower = MLP(vectors * shape.width, config.hidden, config.dropout)
        self.outputs = self.tower.outputs

    def forward(self, inputs: Inputs) -> Representation:
        vectors = self.layers(of_like_length(inputs.fields, inputs.readings))
        return Representation.of(self.tower(vectors.flatten(1)))
