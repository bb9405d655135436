"""DLRM: dot products of all pairs of embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.bilinear import DotProducts
from ctrkit.nn.factorization import check_pairs, of_like_length
from ctrkit.nn.mlp import MLP


class DLRMConfig(ModelConfig):
    """Config of DLRM.

    Attributes:
        bottom: widths of the tower over the numeric features, before its output layer.
        hidden: widths of the tower over the dot products.
        dropout: dropout rate after each layer of both.
    """

    name: Literal["dlrm"] = "dlrm"
    bottom: tuple[PositiveInt, ...] = (128, 64)
    hidden: tuple[PositiveInt, ...] = (256, 128)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


@register(DLRMConfig)
class DLRM(Backbone):
    """Dot products between two towers: "Deep Learning Recommendation Model for Personalization and
    Recommendation Systems" (Naumov et al., arXiv 1906.00091).

    A tower turns all numeric features into one vector. This vector, the embeddings of the categorical
    features and the readings are multiplied in pairs. A second tower reads the products and the numeric
    vector. The embedding of a number is a linear function of it, so the first tower begins with a linear
    layer of the numbers, as published. Without numeric features there is no first tower. Bags and
    vectors are multiplied as categorical features are.

    Raises:
        ConfigError: there are fewer than two vectors to multiply.
    """

    def __init__(self, config: DLRMConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.categorical = len(shape.feature_map.categorical)
        self.numeric = numeric = len(shape.feature_map.numeric)
        self.bottom = (
            MLP(numeric * shape.width, (*config.bottom, shape.width), config.dropout) if numeric else None
        )
        vectors = shape.fields - numeric + shape.readings + (1 if numeric else 0)
        check_pairs("DLRM", vectors)
        self.products = DotProducts(vectors)
        dense = shape.width if numeric else 0
        self.top = MLP(dense + self.products.outputs, config.hidden, config.dropout)
        self.outputs = self.top.outputs

    def forward(self, inputs: Inputs) -> Representation:
        sizes = [self.categorical, self.categorical + self.numeric]
        categorical, numeric, others = inputs.fields.tensor_split(sizes, dim=1)
        vectors = of_like_length(torch.cat([categorical, others], dim=1), inputs.readings)
        if self.bottom is None:
            return Representation.of(self.top(self.products(vectors)))
        dense = self.bottom(numeric.flatten(1))
        products = self.products(torch.cat([dense.unsqueeze(1), vectors], dim=1))
        return Representation.of(self.top(torch.cat([dense, products], dim=1)))
