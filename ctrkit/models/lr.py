"""LR: logistic regression with crosses and matches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ctrkit.models.base import Backbone, Crosses, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.models.heads.config import ESMMConfig, HeadsConfig
from ctrkit.nn.embedding import EmbeddingConfig
from ctrkit.nn.first_order import WEIGHTS, FirstOrder


class LRConfig(ModelConfig):
    """Config of LR: the linear terms alone (see `ctrkit.nn.linear_terms.LinearTerms`).

    They are fitted to all training rows at once, and no gradient step follows. Rows with a value also get
    first-order terms, which gradient steps train, as the value needs such steps.

    Attributes:
        crosses: as of all networks; chosen by evidence by default. Without crosses, match terms and pair
            terms the model has other weights, which gradient steps train: one for each id, a function of
            each number, and the mean weight of each sequence's events.
        embedding: settings of those other weights, as embeddings of width 1.
        history: whether there are match and pair terms; all else is not used.
        heads: what the tasks share; by default nothing, as each task has weights of its own.
    """

    name: Literal["lr"] = "lr"
    embedding: EmbeddingConfig = WEIGHTS
    heads: HeadsConfig = Field(default=ESMMConfig())
    crosses: Crosses = "auto"

    @property
    def reads_embeddings(self) -> bool:
        return False

    def takes_steps(self, *, sequences: bool, value: bool) -> bool:
        return value or not self.has_linear_terms(sequences=sequences)

    @model_validator(mode="after")
    def _linear(self) -> LRConfig:
        if self.embedding.width != 1:
            raise ValueError("embedding.width must be 1, because LR has one weight for each feature")
        return self


@register(LRConfig)
class LR(Backbone):
    """Logistic regression over linear terms or, without them, over first-order terms: "Predicting Clicks:
    Estimating the Click-Through Rate for New Ads" (Richardson et al., WWW 2007)."""

    def __init__(self, config: LRConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        alone = shape.linear and not shape.feature_map.value
        self.first_order = None if alone else FirstOrder(shape.feature_map, config.embedding)
        self.logit_terms = 0 if self.first_order is None else self.first_order.outputs

    def forward(self, inputs: Inputs) -> Representation:
        if self.first_order is None:
            return Representation.of(inputs.fields.new_zeros(len(inputs.batch), 0))
        logit_terms = self.first_order(inputs.batch, inputs.history)
        return Representation(logit_terms[:, :0], logit_terms)
