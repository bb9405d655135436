"""HyFormer: queries from the fields decode the events and mix with the fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.errors import ConfigError
from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.embedding import PositionEmbedding
from ctrkit.nn.encoders.attention import SelfAttention, attention_bias
from ctrkit.nn.encoders.onetrans import root_mean_square_norm
from ctrkit.nn.history import event_mask
from ctrkit.nn.mlp import MLP
from ctrkit.nn.token_mixing import FeatureTokens, TokenFeedForward, TokenLinear, mix_tokens


class HyFormerConfig(ModelConfig):
    """Config of HyFormer. `history` is not used, because the model encodes each sequence itself.

    Attributes:
        width: width of each token.
        tokens: number of queries and tokens of fields together, which must divide `width`.
        queries: number of queries of each sequence. The rest of `tokens` are tokens of fields.
        blocks: number of blocks.
        attention_heads: number of attention heads, which must divide `width`.
        expand: inner width of the feed-forward networks divided by `width`.
        hidden: widths of the tower over all tokens.
        dropout: dropout rate of the outputs of attention and of feed-forward networks.
    """

    name: Literal["hyformer"] = "hyformer"
    width: PositiveInt = 64
    tokens: PositiveInt = 8
    queries: PositiveInt = 1
    blocks: int = Field(default=2, ge=1)
    attention_heads: PositiveInt = 4
    expand: int = Field(default=2, ge=1)
    hidden: tuple[PositiveInt, ...] = (128,)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @property
    def keeps_sequences_apart(self) -> bool:
        return True

    @model_validator(mode="after")
    def _divisible(self) -> HyFormerConfig:
        for name in ("tokens", "attention_heads"):
            if self.width % getattr(self, name):
                raise ValueError(f"{name} must divide width")
        return self


class QueryDecoding(nn.Module):
    """The queries of one sequence read its events in one block:

        H = W3 (SiLU(W1 S) * W2 S),    Q' = Q + Attention(norm(Q), norm(H))

    Args:
        width: width of queries and events.
        heads: number of attention heads.
        expand: inner width of the first network divided by `width`.
        dropout: dropout rate of the attention's output.
    """

    def __init__(self, width: int, heads: int, expand: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * expand * width)
        self.down = nn.Linear(expand * width, width)
        self.attention = SelfAttention(width, heads)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Without events, queries stay as they are.

        Args:
            queries: `[U * K, N, width]`, K rows for each history.
            events: `[U, L, width]`.
            mask: bool `[U, L]`, True at events.

        Returns:
            `[U * K, N, width]`.
        """
        if not events.shape[1]:
            return queries
        gate, inner = self.up(events).chunk(2, dim=-1)
        encoded = root_mean_square_norm(self.down(F.silu(gate) * inner))
        keys, values = self.attention.keys_and_values(encoded)
        rows, count, width = queries.shape
        candidates = rows // max(len(events), 1)
        together = root_mean_square_norm(queries).reshape(len(events), candidates * count, width)
        read = self.attention.read(together, keys, values, attention_bias(mask, events))
        read = read * mask.any(dim=1)[:, None, None]
        decoded: Tensor = queries + self.dropout(read.reshape(queries.shape))
        return decoded


class HyFormerBlock(nn.Module):
    """The queries of every sequence decode its events. Then all queries and tokens of fields are mixed:

        X' = X + FFN(Mix(X)),    X = [Q' of every sequence, fields]

    with RankMixer's token mixing, and a feed-forward network of its own for each token.

    Args:
        sequences: number of sequences.
        config: settings of the blocks.
    """

    def __init__(self, sequences: int, config: HyFormerConfig) -> None:
        super().__init__()
        self.queries, self.tokens = config.queries, config.tokens
        settings = (config.width, config.attention_heads, config.expand, config.dropout)
        self.decoding = nn.ModuleList(QueryDecoding(*settings) for _ in range(sequences))
        self.feed_forward = TokenFeedForward(
            config.tokens, config.width, config.expand, dropout=config.dropout
        )

    def forward(self, tokens: Tensor, events: list[Tensor], masks: list[Tensor]) -> Tensor:
        """One block.

        Args:
            tokens: queries of each sequence, then tokens of fields, `[U * K, T, width]`.
            events: of each sequence, `[U, L, width]`.
            masks: of each sequence, bool `[U, L]`, True at events.

        Returns:
            `[U * K, T, width]`.
        """
        parts = list(tokens.tensor_split([self.queries * (one + 1) for one in range(len(events))], dim=1))
        for number, (decode, sequence, mask) in enumerate(zip(self.decoding, events, masks, strict=True)):
            parts[number] = decode(parts[number], sequence, mask)
        tokens = torch.cat(parts, dim=1)
        boosted: Tensor = tokens + self.feed_forward(mix_tokens(tokens, self.tokens))
        return boosted


@register(HyFormerConfig)
class HyFormer(Backbone):
    """Queries that are made of the fields and of the mean of the events, refined in turns by attention over
    the events and by mixing with the fields: "HyFormer: Revisiting the Roles of Sequence Modeling and Feature
    Interaction in CTR Prediction" (Huang et al., 2026, arXiv 2601.12681).

        fields ─▶ tokens ─┬─────────────────────────────┐
                          ├─▶ queries ─▶ decode ─▶ mix ─┴─▶ decode ─▶ mix ─▶ tower
        events ─▶ mean ───┘                 ▲                 ▲
          └─────────────────────────────────┴─────────────────┘

    Sequences are kept apart: each has queries and weights of its own, and meets the others only where tokens
    are mixed. What a block reads of the events is computed once for all candidates of a history.

    Of the paper's three encodings of events, this is the decoder-style one, SwiGLU without attention. The
    paper's formulas of decoding have no residual and no normalisation; the residual, and normalisations of
    what attention reads, are added here. Otherwise a query would forget everything but the events, and would
    be nothing without them. Ages are added to the events, as in the other models here.

    Raises:
        ConfigError: the queries leave no token for the fields.
    """

    def __init__(self, config: HyFormerConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        width, sequences = config.width, len(shape.feature_map.sequences)
        queries = sequences * config.queries
        if queries >= config.tokens:
            raise ConfigError(
                f"{sequences} sequences have {queries} queries, which leaves no token for the fields",
                hint="Set `tokens` higher, or `queries` lower",
            )
        self.fields = FeatureTokens(shape.flat, config.tokens - queries, width)
        self.sequences = sequences
        self.domains = [tuple(one.sequences) for one in shape.feature_map.by_domain()]
        if sequences:
            # Embeddings start so small that products of them would vanish.
            self.norm = nn.LayerNorm(shape.width)
            self.events = nn.ModuleList(nn.Linear(shape.width, width) for _ in range(sequences))
            self.ages = PositionEmbedding(shape.feature_map.max_length, width)
            information = (config.tokens - queries + sequences) * width
            self.first = nn.Linear(information, queries * width)
            self.second = TokenLinear(queries, width, width)
        self.blocks = nn.ModuleList(HyFormerBlock(sequences, config) for _ in range(config.blocks))
        self.tower = MLP(config.tokens * width, config.hidden, config.dropout)
        self.outputs = self.tower.outputs

    def forward(self, inputs: Inputs) -> Representation:
        tokens = self.fields(inputs.vectors.flatten(1))
        events: list[Tensor] = []
        masks: list[Tensor] = []
        if inputs.history is not None:
            masks, events = self._masks(inputs.history.ids), self._events(inputs.history.events)
            tokens = torch.cat([self._queries(tokens, events, masks), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens, events, masks)
        return Representation.of(self.tower(tokens.flatten(1)))

    def _masks(self, ids: Mapping[str, Tensor]) -> list[Tensor]:
        """Where each sequence has events: where any sequence of its domain has one."""
        masks = {names: event_mask({name: ids[name] for name in names}) for names in self.domains}
        return [mask for name in ids for names, mask in masks.items() if name in names]

    def _events(self, embeddings: Tensor) -> list[Tensor]:
        """The events of each sequence, `[U, L, width]`, from their embeddings side by side."""
        ages: Tensor = self.ages(embeddings.shape[1])
        parts = embeddings.chunk(self.sequences, dim=2)
        return [project(self.norm(part)) + ages for project, part in zip(self.events, parts, strict=True)]

    def _queries(self, fields: Tensor, events: list[Tensor], masks: list[Tensor]) -> Tensor:
        """FFN_n(fields, mean of each sequence) for each query n: `[U * K, N, width]`."""
        counts = [mask.sum(dim=1, keepdim=True).clamp(min=1) for mask in masks]
        every = zip(events, masks, counts, strict=True)
        means = torch.cat([(one * mask.unsqueeze(2)).sum(dim=1) / count for one, mask, count in every], dim=1)
        candidates = len(fields) // max(len(means), 1)
        information = torch.cat([fields.flatten(1), means.repeat_interleave(candidates, dim=0)], dim=1)
        inner = F.gelu(self.first(information))
        inner = inner.reshape(len(fields), len(self.second.weight), fields.shape[2])
        queries: Tensor = self.second(inner.transpose(0, 1)).transpose(0, 1)
        return queries
