"""TokenMixer-Large: tokens that exchange pieces and take them back."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.token_mixing import FeatureTokens, TokenMixerLargeBlock


class TokenMixerLargeConfig(ModelConfig):
    """Config of TokenMixer-Large.

    Attributes:
        tokens: the number of tokens that the embeddings are cut into. A global token, which reads all
            embeddings, comes in addition.
        token_width: D, the width of a token.
        mixing_heads: the number of mixed tokens, which must divide D.
        blocks: number of blocks.
        expand: inner width of the feed-forward networks divided by the width of what they read.
        dropout: dropout rate in these networks.
    """

    name: Literal["tokenmixer_large"] = "tokenmixer_large"
    tokens: int = Field(default=8, ge=1)
    token_width: int = Field(default=64, ge=2)
    mixing_heads: int = Field(default=8, ge=1)
    blocks: int = Field(default=2, ge=1)
    expand: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _divisible(self) -> TokenMixerLargeConfig:
        if self.token_width % self.mixing_heads:
            raise ValueError("mixing_heads must divide token_width")
        return self


@register(TokenMixerLargeConfig)
class TokenMixerLarge(Backbone):
    """Blocks that mix the tokens and revert the mixing, with SwiGLU networks and RMSNorm before them:
    "TokenMixer-Large: Scaling Up Large Ranking Models in Industrial Recommenders" (Jiang et al., arXiv
    2602.06563). The mean of all tokens of the last block is the vector of a row.

    What the paper adds for stacks of many blocks (residuals over several blocks, an auxiliary loss, sparse
    mixtures of experts) is left out. The network that makes a token is one linear layer.

    Raises:
        ConfigError: the embeddings are too narrow for the number of tokens.
    """

    def __init__(self, config: TokenMixerLargeConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        width = config.token_width
        self.tokens = FeatureTokens(shape.flat, config.tokens, width)
        self.global_token = FeatureTokens(shape.flat, 1, width)
        self.blocks = nn.Sequential(
            *(
                TokenMixerLargeBlock(
                    1 + config.tokens, width, config.mixing_heads, config.expand, config.dropout
                )
                for _ in range(config.blocks)
            )
        )
        self.outputs = width

    def forward(self, inputs: Inputs) -> Representation:
        embeddings = inputs.vectors.flatten(1)
        tokens = torch.cat([self.global_token(embeddings), self.tokens(embeddings)], dim=1)
        return Representation.of(self.blocks(tokens).mean(dim=1))
