"""DCNv3, also called FCN: two cross networks and no tower."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from ctrkit.config import Config
from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.models.heads.config import ESMMConfig, HeadsConfig
from ctrkit.nn.cross import ExponentialCross, LinearCross, two_views


class CrossConfig(Config):
    """The two cross networks of DCNv3.

    Attributes:
        exponential_layers: layers of the exponential network; it has interactions up to order 2 ** layers.
        linear_layers: layers of the linear network; it has interactions up to order layers + 1.
        heads: number of embedding vectors of each field; all heads share their weights.
        layer_norm: whether the gates normalise their input.
        batch_norm: whether there is batch normalisation before the gates, with heads as channels.
        dropout: dropout rate of the state after each layer.
        rank: rank of the layers' matrices, for fewer parameters and multiplications; None for full matrices,
            as published.
    """

    exponential_layers: int = Field(default=3, ge=1)
    linear_layers: int = Field(default=4, ge=1)
    heads: int = Field(default=1, ge=1)
    layer_norm: bool = True
    batch_norm: bool = False
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    rank: int | None = Field(default=None, ge=1)

    def networks(self, width: int) -> tuple[ExponentialCross, LinearCross]:
        """Both networks, for a given width of each head's vector."""
        common = (self.heads, self.layer_norm, self.batch_norm, self.dropout, self.rank)
        return (
            ExponentialCross(width, self.exponential_layers, *common),
            LinearCross(width, self.linear_layers, *common),
        )


class DCNv3Config(ModelConfig):
    """Config of DCNv3.

    Attributes:
        embedding: embeddings; the width is that of one head of the cross networks and must be even.
        heads: what the tasks share; by default each task has networks of its own.
        cross: the cross networks.
    """

    name: Literal["dcnv3"] = "dcnv3"
    heads: HeadsConfig = Field(default=ESMMConfig())
    cross: CrossConfig = CrossConfig()

    @property
    def embedding_width(self) -> int:
        return self.cross.heads * self.embedding.width

    @model_validator(mode="after")
    def _even(self) -> DCNv3Config:
        if self.embedding.width % 2:
            raise ValueError("embedding.width must be even, because DCNv3 cuts embeddings into two halves")
        return self


@register(DCNv3Config)
class DCNv3(Backbone):
    """Two cross networks, with the mean of their logits: "FCN: Fusing Exponential and Linear Cross Network
    for Click-Through Rate Prediction" (Li et al., arXiv 2407.13349).

    The logit terms are what each dimension of the two last states adds to its network's logit. The first task
    starts with half of each, which is the published mean. So the last layer, and a posterior over it, can
    move more than two numbers, and further tasks on a shared bottom have inputs. The networks' own logits are
    the auxiliary outputs "deep" (exponential) and "shallow" (linear), for the Tri-BCE loss.
    """

    term_weight = 0.5

    def __init__(self, config: DCNv3Config, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.cross_heads = config.cross.heads
        # Events are normalised, and so are readings: they are ten times as large as initial embeddings, and
        # the layers multiply that factor.
        self.scale = config.embedding.std
        width = shape.flat // config.cross.heads
        self.exponential, self.linear = config.cross.networks(width)
        self.logit_terms = 2 * width

    def forward(self, inputs: Inputs) -> Representation:
        vectors = torch.cat([inputs.fields, self.scale * inputs.readings], dim=1)
        x0 = two_views(vectors, self.cross_heads)
        deep, shallow = self.exponential.state(x0), self.linear.state(x0)
        logit_terms = torch.cat([self.exponential.shares(deep), self.linear.shares(shallow)], dim=1)
        logits = {"deep": self.exponential.logit(deep), "shallow": self.linear.logit(shallow)}
        return Representation(logit_terms[:, :0], logit_terms, logits)

    def start_at(self, logit: float) -> float:
        """Both networks have a loss of their own. Each starts at the logit, and so does their mean."""
        for network in (self.exponential, self.linear):
            nn.init.constant_(network.head.bias, logit)
        return 0.0
