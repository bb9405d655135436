"""RankMixer: tokens of features that exchange pieces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.token_mixing import FeatureTokens, RankMixerBlock


class RankMixerConfig(ModelConfig):
    """Config of RankMixer.

    Attributes:
        tokens: T, the number of tokens that the embeddings are cut into.
        token_width: D, the width of a token, a multiple of T.
        blocks: number of blocks.
        expand: inner width of the feed-forward networks divided by D.
        dropout: dropout rate in these networks.
    """

    name: Literal["rankmixer"] = "rankmixer"
    tokens: int = Field(default=8, ge=1)
    token_width: int = Field(default=64, ge=2)
    blocks: int = Field(default=2, ge=1)
    expand: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _divisible(self) -> RankMixerConfig:
        if self.token_width % self.tokens:
            raise ValueError("tokens must divide token_width")
        return self


@register(RankMixerConfig)
class RankMixer(Backbone):
    """Token mixing without weights, and a feed-forward network of its own for each token: "RankMixer: Scaling
    Up Ranking Models in Industrial Recommenders" (Zhu et al., CIKM 2025, arXiv 2507.15551). The mean of the
    tokens of the last block is the vector of a row.

    This is the dense form. The paper's sparse mixtures of experts, which let models of a billion parameters
    answer in time, are left out.

    Raises:
        ConfigError: the embeddings are too narrow for the number of tokens.
    """

    def __init__(self, config: RankMixerConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.tokens = FeatureTokens(shape.flat, config.tokens, config.token_width)
        self.blocks = nn.Sequential(
            *(
                RankMixerBlock(config.tokens, config.token_width, config.expand, config.dropout)
                for _ in range(config.blocks)
            )
        )
        self.outputs = config.token_width

    def forward(self, inputs: Inputs) -> Representation:
        tokens = self.blocks(self.tokens(inputs.vectors.flatten(1)))
        return Representation.of(tokens.mean(dim=1))
