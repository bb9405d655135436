"""FiBiNET: feature importance and bilinear interactions."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.bilinear import BilinearForm, BilinearInteraction
from ctrkit.nn.factorization import check_pairs, of_like_length
from ctrkit.nn.first_order import FirstOrder
from ctrkit.nn.gates import SqueezeExcitation
from ctrkit.nn.mlp import MLP


class FiBiNETConfig(ModelConfig):
    """Config of FiBiNET.

    Attributes:
        form: matrices of the bilinear interactions: one for "all" pairs, one for "each" field, or one for
            each "interaction".
        reduction: number of fields divided by the width inside SENET.
        excitation: the last activation of SENET: "relu" as published, or "sigmoid", which never switches a
            field off for good.
        hidden: widths of the tower over the interactions.
        dropout: dropout rate after each of its layers.
    """

    name: Literal["fibinet"] = "fibinet"
    form: BilinearForm = "interaction"
    reduction: float = Field(default=3.0, ge=1.0)
    excitation: Literal["relu", "sigmoid"] = "relu"
    hidden: tuple[PositiveInt, ...] = (256, 128)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


@register(FiBiNETConfig)
class FiBiNET(Backbone):
    """SENET and bilinear interactions below a tower: "FiBiNET: Combining Feature Importance and Bilinear
    feature Interaction for Click-Through Rate Prediction" (Huang et al., RecSys 2019, arXiv 1905.09433).

    There are bilinear interactions of the embeddings themselves, and of the embeddings weighted by SENET with
    matrices of their own. A tower reads both. The first-order weights of the features are the logit terms.

    Raises:
        ConfigError: there are fewer than two vectors to multiply.
    """

    def __init__(self, config: FiBiNETConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        check_pairs("FiBiNET", shape.vectors)
        self.first_order = FirstOrder(shape.feature_map)
        self.senet = SqueezeExcitation(shape.vectors, config.reduction, config.excitation)
        self.raw = BilinearInteraction(shape.vectors, shape.width, config.form)
        self.weighed = BilinearInteraction(shape.vectors, shape.width, config.form)
        self.tower = MLP(self.raw.outputs + self.weighed.outputs, config.hidden, config.dropout)
        self.outputs, self.logit_terms = self.tower.outputs, self.first_order.outputs

    def forward(self, inputs: Inputs) -> Representation:
        vectors = of_like_length(inputs.fields, inputs.readings)
        interactions = torch.cat([self.raw(vectors), self.weighed(self.senet(vectors))], dim=1)
        return Representation(self.tower(interactions), self.first_order(inputs.batch, inputs.history))
