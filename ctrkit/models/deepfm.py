"""DeepFM: a factorization machine beside a tower."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.factorization import check_pairs, of_like_length, pair_products
from ctrkit.nn.first_order import FirstOrder
from ctrkit.nn.mlp import MLP


class DeepFMConfig(ModelConfig):
    """Config of DeepFM.

    Attributes:
        hidden: widths of the deep network, at least one (the model 'fm' has no deep network).
        dropout: dropout rate after each of its layers.
    """

    name: Literal["deepfm"] = "deepfm"
    hidden: tuple[PositiveInt, ...] = Field(default=(256, 128), min_length=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


@register(DeepFMConfig)
class DeepFM(Backbone):
    """A factorization machine beside a deep network: "DeepFM: A Factorization-Machine based Neural Network
    for CTR Prediction" (Guo et al., IJCAI 2017, arXiv 1703.04247).

    The two logit terms are the sums of the first and the second order of the factorization machine.

    Raises:
        ConfigError: there are fewer than two fields and readings together.
    """

    logit_terms = 2

    def __init__(self, config: DeepFMConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        check_pairs("DeepFM", shape.vectors)
        self.first_order = FirstOrder(shape.feature_map)
        self.tower = MLP(shape.flat, config.hidden, config.dropout)
        self.outputs = self.tower.outputs

    def forward(self, inputs: Inputs) -> Representation:
        first_order = self.first_order(inputs.batch, inputs.history)
        second_order = pair_products(of_like_length(inputs.fields, inputs.readings))
        logit_terms = torch.stack([first_order.sum(dim=1), second_order.sum(dim=1)], dim=1)
        return Representation(self.tower(inputs.vectors.flatten(1)), logit_terms)
