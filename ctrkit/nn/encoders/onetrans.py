"""The events of OneTrans: causal self-attention in which later blocks update only the newest events."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.nn.embedding import PositionEmbedding
from ctrkit.nn.encoders.attention import SelfAttention, attention_bias, check_heads, split_heads
from ctrkit.nn.encoders.base import Encoded, EncoderConfig, HistoryEncoder


def root_mean_square_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x²) + 1e-6) over the last dimension, without weights: "Root Mean Square Layer
    Normalization" (Zhang and Sennrich, NeurIPS 2019). The linear layer that reads it can hold the weights."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-6)


class EventBlock(nn.Module):
    """A block of OneTrans for its events, which share all weights (see `OneTransEncoder`).

        z = x + Attention(norm(x))
        y = z + W2 GELU(W1 norm(z) + b1) + b2

    Args:
        width: width of events and states.
        heads: number of attention heads.
        expand: inner width of the feed-forward network divided by `width`.
        dropout: dropout rate before each sum.

    Raises:
        ConfigError: the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, expand: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, expand * width), nn.GELU(), nn.Linear(expand * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Some of the events read events.

        Args:
            x: those that read, `[U, L', width]`.
            keys: keys of the events that are read, from `keys_and_values`.
            values: values of the events that are read, from `keys_and_values`.
            bias: added to the scores, `[U, 1, L', L]`.

        Returns:
            `[U, L', width]`.
        """
        return self._after(x, self.attention.read(root_mean_square_norm(x), keys, values, bias))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the events (see `SelfAttention.keys_and_values`)."""
        return self.attention.keys_and_values(root_mean_square_norm(x))

    def of_targets(self, targets: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """The states of targets after this block (see `SelfAttention.of_targets`)."""
        normed = root_mean_square_norm(targets)
        return self._after(targets, self.attention.of_targets(normed, keys, values, bias))

    def _after(self, x: Tensor, attended: Tensor) -> Tensor:
        z = x + self.dropout(attended)
        y: Tensor = z + self.dropout(self.feed_forward(root_mean_square_norm(z)))
        return y


class OneTransEncoder(HistoryEncoder):
    """The sequential tokens of "OneTrans: Unified Feature Interaction and Sequence Modeling with One
    Transformer in Industrial Recommender" (Zhang et al., WWW 2026, arXiv 2510.26104).

    Each event reads itself and those before it. The paper's pyramid: the first block updates all N events of
    the longest history, and each later block fewer, linearly down to the `newest` ones. A block reads all
    events that the block before it has updated. Which these are depends on their ages alone, so padding
    changes nothing.

    The memory holds the keys and values of each block, which the model `onetrans` reads. The state of an
    event is that of the last block that has updated it.

    The age of each event is added to it, as in the other encoders. The paper says nothing about positions.

    Args:
        width: width of events and states.
        length: N, the longest history.
        config: settings of the blocks.
        reads_states: whether any pooling reads the states of the events.
        reads_target: whether any pooling reads the state of the target. If no pooling reads either, the last
            block is a layer of keys and values alone.
    """

    def __init__(
        self,
        width: int,
        length: int,
        config: OneTransEncoderConfig,
        *,
        reads_states: bool,
        reads_target: bool,
    ) -> None:
        super().__init__()
        check_heads(config.heads, width)
        self.reads_states, self.reads_target, self.heads = reads_states, reads_target, config.heads
        self.positions = PositionEmbedding(length + reads_target, width)
        self.updated = config.updated(length)
        self.dropout = nn.Dropout(config.dropout)
        whole = config.blocks if reads_states or reads_target else config.blocks - 1
        self.stack = nn.ModuleList(
            EventBlock(width, config.heads, config.expand, config.dropout) for _ in range(whole)
        )
        self.last = nn.Linear(width, 2 * width, bias=False) if whole < config.blocks else None

    @property
    def blocks(self) -> list[EventBlock]:
        """The whole blocks, first to last."""
        return [block for block in self.stack if isinstance(block, EventBlock)]

    def _encode(self, events: Tensor, mask: Tensor) -> Encoded:
        length = events.shape[1]
        ages: Tensor = self.positions(length + self.reads_target)
        states = x = self.dropout(events + ages[:length])
        bias = attention_bias(mask, events, causal=True)
        memory: list[Tensor] = []
        for number, (block, updated) in enumerate(zip(self.blocks, self.updated, strict=False), start=1):
            keys, values = block.keys_and_values(x)
            memory += [keys, values]
            if self.reads_states or number < len(self.updated):
                newest = slice(-min(updated, length), None)
                x = block(x[:, newest], keys, values, bias[:, :, newest, -x.shape[1] :])
                states = torch.cat([states[:, : -x.shape[1]], x], dim=1)
        if self.last is not None:
            memory += split_heads(self.last(root_mean_square_norm(x)), 2, self.heads)
        return Encoded(mask, events, states if self.reads_states else events[:, :0], tuple(memory))

    def next_states(self, targets: Tensor, history: Encoded) -> Tensor:
        age: Tensor = self.positions(1)
        x: Tensor = self.dropout(targets + age)
        bias = attention_bias(history.mask, targets)
        for block, keys, values in zip(self.blocks, history.memory[::2], history.memory[1::2], strict=True):
            x = block.of_targets(x, keys, values, bias[..., -keys.shape[2] :])
        return x


class OneTransEncoderConfig(EncoderConfig):
    """Causal self-attention in which later blocks update only the newest events.

    Attributes:
        blocks: number of blocks. If only the model `onetrans` reads the events, the last block updates none,
            so the pyramid begins at three blocks.
        heads: number of attention heads, which must divide the width of embeddings.
        expand: inner width of the feed-forward layers divided by the outer width.
        newest: number of events at the end of the pyramid.
        dropout: dropout rate of the events, and before each sum.
    """

    read_by_model: ClassVar[bool] = True

    name: Literal["onetrans"] = "onetrans"
    blocks: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    expand: int = Field(default=4, ge=1)
    newest: int = Field(default=12, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    def encoder(
        self, width: int, length: int, *, reads_states: bool = True, reads_target: bool = False
    ) -> HistoryEncoder:
        return OneTransEncoder(width, length, self, reads_states=reads_states, reads_target=reads_target)

    def updated(self, length: int) -> list[int]:
        """The number of events that each block updates: from all of `length` to `newest`, linearly."""
        last, steps = min(self.newest, length), max(self.blocks - 1, 1)
        return [length - round((length - last) * block / steps) for block in range(self.blocks)]
