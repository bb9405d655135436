"""DNN: a plain tower over all embeddings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.mlp import MLP


class DNNConfig(ModelConfig):
    """Config of DNN.

    Attributes:
        hidden: widths of the tower.
        dropout: dropout rate after each of its layers.
    """

    name: Literal["dnn"] = "dnn"
    hidden: tuple[PositiveInt, ...] = (256, 128)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


@register(DNNConfig)
class DNN(Backbone):
    """A multi-layer perceptron over the concatenated embeddings of all fields and readings
    ("Deep Neural Networks for YouTube Recommendations", Covington et al., RecSys 2016)."""

    def __init__(self, config: DNNConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.tower = MLP(shape.flat, config.hidden, config.dropout)
        self.outputs = self.tower.outputs

    def forward(self, inputs: Inputs) -> Representation:
        return Representation.of(self.tower(inputs.vectors.flatten(1)))
