"""Transformer: attention over fields, events and task queries."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.embedding import EmbeddingConfig, PositionEmbedding
from ctrkit.nn.encoders.attention import AttentionBlock
from ctrkit.nn.history import HistoryConfig


class TransformerConfig(ModelConfig):
    """Config of the multi-task Transformer.

    Attributes:
        history: each event is a token. The reading of each pooling in `readouts`, if any, is a token too.
        blocks: number of blocks.
        attention_heads: number of attention heads of each block, which must divide the embeddings' width.
        expand: inner width of the feed-forward networks divided by the outer width.
        dropout: dropout rate of the outputs of attention and of the feed-forward networks.
    """

    name: Literal["transformer"] = "transformer"
    embedding: EmbeddingConfig = EmbeddingConfig(width=32)
    history: HistoryConfig = HistoryConfig(readouts=())
    blocks: int = Field(default=2, ge=1)
    attention_heads: int = Field(default=4, ge=1)
    expand: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _divisible(self) -> TransformerConfig:
        if self.embedding.width % self.attention_heads:
            raise ValueError("attention_heads must divide embedding.width")
        return self


@register(TransformerConfig)
class Transformer(Backbone):
    """One token for each field, one for each event, and one query for each task, which reads all tokens: the
    encoder of "Attention Is All You Need" (Vaswani et al., NeurIPS 2017) with pre-norm blocks, and learned
    queries like the class token of BERT (Devlin et al., NAACL 2019).

        task queries ─┐
        fields ───────┼─▶ blocks ─▶ state of each query ─▶ vector of each task
        events ───────┘

    Fields and events read one another. A query reads them and itself; nothing else reads a query. So the
    tasks do not affect each other, and the last block computes only the queries.

    The token of an event includes its age, counted back from the newest event. Tokens of fields and queries
    include their position in the list of fields or tasks.
    """

    def __init__(self, config: TransformerConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        width, tasks = shape.width, len(shape.feature_map.tasks)
        self.outputs = width
        self.queries = nn.Parameter(torch.randn(tasks, width))
        self.kinds = nn.Parameter(torch.randn(shape.vectors, width) * 0.1)
        self.ages = (
            PositionEmbedding(shape.feature_map.max_length, width) if shape.history is not None else None
        )
        self.blocks = nn.ModuleList(
            AttentionBlock(width, config.attention_heads, config.expand, config.dropout, pre=True)
            for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(width)
        # The initial state of a query is nearly the same in all rows, and would shift the tasks' base rates.
        nn.init.constant_(self.norm.weight, 0.1)

    def forward(self, inputs: Inputs) -> Representation:
        tokens, bias = self._tokens(inputs)
        queries = self.queries.expand(len(tokens), -1, -1)
        for number, block in enumerate(self.blocks, start=1):
            assert isinstance(block, AttentionBlock)
            queries = block.of_targets(queries, *block.keys_and_values(tokens), bias)
            if number < len(self.blocks):
                tokens = block(tokens, bias)
        return Representation.of(self.norm(queries))

    def _tokens(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Tokens `[B, F + R + L, d]`, and the bias of their attention scores, `[B, 1, 1, F + R + L]`."""
        vectors = inputs.vectors + self.kinds
        bias = vectors.new_zeros(vectors.shape[:2])
        if inputs.history is not None and self.ages is not None:
            candidates = len(vectors) // max(len(inputs.history), 1)
            events = inputs.history.events
            events = (events + self.ages(events.shape[1])).repeat_interleave(candidates, dim=0)
            missing = ~inputs.history.mask.repeat_interleave(candidates, dim=0)
            vectors = torch.cat([vectors, events], dim=1)
            unread = bias.new_zeros(missing.shape).masked_fill(missing, torch.finfo(bias.dtype).min / 2)
            bias = torch.cat([bias, unread], dim=1)
        return vectors, bias[:, None, None, :]
