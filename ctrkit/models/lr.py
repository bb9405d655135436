"""LR: logistic regression."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.models.heads.config import ESMMConfig, HeadsConfig
from ctrkit.nn.embedding import EmbeddingConfig
from ctrkit.nn.first_order import WEIGHTS, FirstOrder


class LRConfig(ModelConfig):
    """Config of LR.

    Attributes:
        embedding: settings of the weights, as embeddings of width 1.
        history: not used; a sequence adds the mean weight of its events.
        heads: what the tasks share; by default nothing, as each task has weights of its own.
    """

    name: Literal["lr"] = "lr"
    embedding: EmbeddingConfig = WEIGHTS
    heads: HeadsConfig = Field(default=ESMMConfig())

    @property
    def reads_embeddings(self) -> bool:
        return False

    @model_validator(mode="after")
    def _linear(self) -> LRConfig:
        if self.embedding.width != 1:
            raise ValueError("embedding.width must be 1, because LR has one weight for each feature")
        return self


@register(LRConfig)
class LR(Backbone):
    """A weight for each id, a linear function of each number, and the mean weight of each sequence's events:
    "Predicting Clicks: Estimating the Click-Through Rate for New Ads" (Richardson et al., WWW 2007)."""

    def __init__(self, config: LRConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.first_order = FirstOrder(shape.feature_map, config.embedding)
        self.logit_terms = self.first_order.outputs

    def forward(self, inputs: Inputs) -> Representation:
        logit_terms = self.first_order(inputs.batch, inputs.history)
        return Representation(logit_terms[:, :0], logit_terms)
