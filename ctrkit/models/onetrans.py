"""OneTrans: one causal transformer over events, then fields."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.embedding import EmbeddingConfig
from ctrkit.nn.encoders.attention import attention_bias, check_heads, split_heads
from ctrkit.nn.encoders.onetrans import OneTransEncoderConfig, root_mean_square_norm
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.token_mixing import TokenFeedForward, TokenLinear


class OneTransConfig(ModelConfig):
    """Config of OneTrans.

    Attributes:
        history: the encoder is `onetrans`, whose settings hold for both kinds of tokens. The reading of each
            pooling in `readouts`, if any, is one more field.
        tokens: number of tokens that all fields together become.
    """

    name: Literal["onetrans"] = "onetrans"
    embedding: EmbeddingConfig = EmbeddingConfig(width=32)
    history: HistoryConfig = HistoryConfig(encoder=OneTransEncoderConfig(), readouts=())
    tokens: PositiveInt = Field(default=8)

    @model_validator(mode="after")
    def _encoder_fits(self) -> OneTransConfig:
        if not isinstance(self.history.encoder, OneTransEncoderConfig):
            raise ValueError(
                f"history.encoder: the tokens of fields read the blocks of the encoder 'onetrans', and not "
                f"those of '{self.history.encoder.name}'"
            )
        return self


class TokenBlock(nn.Module):
    """A block of OneTrans for the tokens of fields. Each token has weights of its own.

        z_t = x_t + W_t^O Attention(norm(x))_t + b_t^O, where attention has W_t^Q, W_t^K and W_t^V, and biases
        y_t = z_t + W_t^2 GELU(W_t^1 norm(z_t) + b_t^1) + b_t^2

    The paper writes all layers without biases. Those of fields have them, and start at 0.

    Args:
        tokens: T, the number of tokens.
        width: width of each token.
        config: settings of the blocks.
    """

    def __init__(self, tokens: int, width: int, config: OneTransEncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.inputs = TokenLinear(tokens, width, 3 * width)
        self.outputs = TokenLinear(tokens, width, width)
        self.feed_forward = TokenFeedForward(tokens, width, config.expand)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Each token reads the events, the tokens before it and itself.

        Args:
            x: `[U * K, T, width]`, K rows for each history.
            keys: keys of the events of U histories, `[U, heads, L, width / heads]`.
            values: values of the events.
            bias: added to the scores of the events, `[U, 1, 1, L]`.

        Returns:
            `[U * K, T, width]`.
        """
        inputs = self.inputs(root_mean_square_norm(x).transpose(0, 1)).transpose(0, 1)
        query, own_keys, own_values = split_heads(inputs, 3, self.heads)
        query = query * query.shape[-1] ** -0.5
        by_event = _by_row(_by_history(query, len(keys)) @ keys.transpose(2, 3) + bias, query)
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        by_token = (query @ own_keys.transpose(2, 3)).masked_fill(hidden, -torch.inf)
        weights = torch.cat([by_event, by_token], dim=-1).softmax(dim=-1)
        of_events, of_tokens = weights[..., : keys.shape[2]], weights[..., keys.shape[2] :]
        read = _by_row(_by_history(of_events, len(keys)) @ values, query) + of_tokens @ own_values
        mixed = self.outputs(read.permute(2, 0, 1, 3).flatten(2)).transpose(0, 1)
        z = x + self.dropout(mixed)
        y: Tensor = z + self.dropout(self.feed_forward(root_mean_square_norm(z)))
        return y


def _by_history(x: Tensor, histories: int) -> Tensor:
    """The K rows of each history side by side: `[U * K, H, T, w] -> [U, H, K * T, w]`."""
    rows, heads, tokens, width = x.shape
    candidates = rows // max(histories, 1)
    return x.reshape(histories, candidates, heads, tokens, width).transpose(1, 2).flatten(2, 3)


def _by_row(x: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_by_history`: `[U, H, K * T, w] -> [U * K, H, T, w]`, the rows and tokens of `like`."""
    rows, heads, tokens, _ = like.shape
    candidates = rows // max(len(x), 1)
    return x.reshape(len(x), heads, candidates, tokens, x.shape[3]).transpose(1, 2).flatten(0, 1)


@register(OneTransConfig)
class OneTrans(Backbone):
    """A causal transformer over the tokens of events, which share weights, and then the tokens of fields,
    which have weights of their own: "OneTrans: Unified Feature Interaction and Sequence Modeling with One
    Transformer in Industrial Recommender" (Zhang et al., WWW 2026, arXiv 2510.26104).

        events ─▶ encoder `onetrans` ─▶ keys and values of each block ─┐
        fields ─▶ linear layer, cut into tokens ─▶ blocks ◀────────────┘ ─▶ mean of the tokens

    No event reads a field. So the encoder computes the events once for each history, and the candidates read
    its keys and values. With several backbones, as in `mmoe`, all read the same events.

    All fields go through one linear layer, whose output is cut into tokens: the "auto-split" that the paper
    prefers to tokens of groups of fields. The paper merges several sequences into one; here they are aligned,
    and an event is all of their parts. How the paper reads the last tokens it does not say; here it is their
    mean, as in RankMixer.
    """

    def __init__(self, config: OneTransConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        settings = config.history.encoder
        assert isinstance(settings, OneTransEncoderConfig)
        check_heads(settings.heads, shape.width)
        self.outputs = shape.width
        self.tokens, self.heads = config.tokens, settings.heads
        self.split = nn.Linear(shape.flat, config.tokens * shape.width)
        self.blocks = nn.ModuleList(
            TokenBlock(config.tokens, shape.width, settings) for _ in range(settings.blocks)
        )

    def forward(self, inputs: Inputs) -> Representation:
        x = self.split(inputs.vectors.flatten(1)).unflatten(1, (self.tokens, -1))
        for block, (keys, values, bias) in zip(self.blocks, self._events(inputs), strict=True):
            x = block(x, keys, values, bias)
        return Representation.of(x.mean(dim=1))

    def _events(self, inputs: Inputs) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Keys, values and bias of the events for each block; no events without a history."""
        history = inputs.history
        if history is None:
            width = self.outputs // self.heads
            nothing = inputs.fields.new_zeros(len(inputs.fields), self.heads, 0, width)
            return [(nothing, nothing, nothing[:, :1, :, :1].transpose(2, 3))] * len(self.blocks)
        bias = attention_bias(history.mask, inputs.fields)
        pairs = zip(history.memory[::2], history.memory[1::2], strict=True)
        return [(keys, values, bias[..., -keys.shape[2] :]) for keys, values in pairs]
