"""xDeepFM: products of every order (CIN) beside a tower."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.cin import CIN
from ctrkit.nn.factorization import check_pairs, of_like_length
from ctrkit.nn.first_order import FirstOrder
from ctrkit.nn.mlp import MLP


class XDeepFMConfig(ModelConfig):
    """Config of xDeepFM.

    Attributes:
        hidden: widths of the deep network; empty for no deep network.
        dropout: dropout rate after each of its layers.
        maps: number of feature maps of each layer of the CIN.
        activation: activation of the CIN; the paper found the identity best.
        split_half: whether half of a CIN layer's maps are outputs and the other half go to the next layer.
            Otherwise all maps do both.
    """

    name: Literal["xdeepfm"] = "xdeepfm"
    hidden: tuple[PositiveInt, ...] = (256, 128)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    maps: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
    activation: Literal["identity", "relu"] = "identity"
    split_half: bool = False


@register(XDeepFMConfig)
class XDeepFM(Backbone):
    """A linear part, a CIN and a deep network side by side: "xDeepFM: Combining Explicit and Implicit Feature
    Interactions for Recommender Systems" (Lian et al., KDD 2018, arXiv 1803.05170).

    The last linear layer reads the deep network, the pooled maps of the CIN, and the linear part (the logit
    term).

    Raises:
        ConfigError: fields and readings together are fewer than two, or the CIN cannot be built.
    """

    logit_terms = 1

    def __init__(self, config: XDeepFMConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        check_pairs("xDeepFM", shape.vectors)
        self.first_order = FirstOrder(shape.feature_map)
        self.cin = CIN(shape.vectors, config.maps, config.activation, config.split_half)
        self.tower = MLP(shape.flat, config.hidden, config.dropout) if config.hidden else None
        self.outputs = self.cin.outputs + (self.tower.outputs if self.tower is not None else 0)

    def forward(self, inputs: Inputs) -> Representation:
        vector = self.cin(of_like_length(inputs.fields, inputs.readings))
        if self.tower is not None:
            vector = torch.cat([self.tower(inputs.vectors.flatten(1)), vector], dim=1)
        first_order = self.first_order(inputs.batch, inputs.history)
        return Representation(vector, first_order.sum(dim=1, keepdim=True))
