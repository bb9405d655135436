"""FM: the factorization machine."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.models.heads.config import ESMMConfig, HeadsConfig
from ctrkit.nn.factorization import check_pairs, of_like_length, pair_products
from ctrkit.nn.first_order import FirstOrder


class FMConfig(ModelConfig):
    """Config of FM.

    Attributes:
        heads: what the tasks share; by default only embeddings. Each task has first-order weights, and a
            weight for each dimension of the products of embeddings.
    """

    name: Literal["fm"] = "fm"
    heads: HeadsConfig = Field(default=ESMMConfig())


@register(FMConfig)
class FM(Backbone):
    """A weight for each feature, and the inner products of all pairs of embeddings: "Factorization Machines"
    (Rendle, ICDM 2010).

    The logit terms are the first-order terms, and the sum of all products for each dimension. Each has the
    weight 1 at first, which is FM itself. Training may then change the weight of each dimension.

    Raises:
        ConfigError: there are fewer than two fields and readings together.
    """

    def __init__(self, config: FMConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        check_pairs("FM", shape.vectors)
        self.first_order = FirstOrder(shape.feature_map)
        self.logit_terms = self.first_order.outputs + shape.width

    def forward(self, inputs: Inputs) -> Representation:
        first_order = self.first_order(inputs.batch, inputs.history)
        second_order = pair_products(of_like_length(inputs.fields, inputs.readings))
        logit_terms = torch.cat([first_order, second_order], dim=1)
        return Representation(logit_terms[:, :0], logit_terms)
