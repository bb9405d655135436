"""Self-attention over a behaviour sequence: bidirectional as in BST, causal as in SASRec.

Both know the order of events by the age of each event. Ages are counted back from the target, or from the
newest event where no pooling puts a target after it. So padding shifts no age, and events have the same ages
when they are encoded without the target.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.errors import ConfigError
from ctrkit.nn.embedding import PositionEmbedding
from ctrkit.nn.encoders.base import Encoded, EncoderConfig, HistoryEncoder


def check_heads(heads: int, width: int, setting: str = "history.encoder.heads") -> None:
    """Raise a ConfigError that names the setting where a number of heads does not divide the width."""
    if width % heads:
        raise ConfigError(
            f"{setting}: {heads} heads do not divide {width}, the width of embeddings",
            hint="Choose another number of heads, or another `embedding.width`",
        )


class SelfAttention(nn.Module):
    """Multi-head attention of "Attention Is All You Need" (Vaswani et al., NeurIPS 2017), without biases.

    Raises:
        ConfigError: the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(heads, width)
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.outputs = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Each event reads the others: `[U, L, width] -> [U, L, width]`.

        Args:
            bias: added to the scores, `[U, 1, L or 1, L]`.
        """
        query, keys, values = split_heads(self.inputs(x), 3, self.heads)
        return self._join(F.scaled_dot_product_attention(query, keys, values, attn_mask=bias))

    def read(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Some events, or other tokens, read the events: `[U, L', width] -> [U, L', width]`.

        Args:
            x: those that read, `[U, L', width]`.
            keys: keys of the events, from `keys_and_values`.
            values: values of the events, from `keys_and_values`.
            bias: added to the scores, `[U, 1, L' or 1, L]`.
        """
        (query,) = split_heads(F.linear(x, self.inputs.weight[: x.shape[2]]), 1, self.heads)
        return self._join(F.scaled_dot_product_attention(query, keys, values, attn_mask=bias))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the events: `[U, L, width] -> [U, heads, L, width / heads]`, twice."""
        width = x.shape[-1]
        keys, values = split_heads(F.linear(x, self.inputs.weight[width:]), 2, self.heads)
        return keys, values

    def of_targets(self, targets: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Each target reads the events and itself, but no other target: `[U, K, width] -> [U, K, width]`.

        Args:
            targets: `[U, K, width]`.
            keys: keys of the events, from `keys_and_values`.
            values: values of the events, from `keys_and_values`.
            bias: added to the scores of the events, `[U, 1, 1, L]`.
        """
        query, own_key, own_value = split_heads(self.inputs(targets), 3, self.heads)
        query = query / math.sqrt(query.shape[-1])
        own_score = (query * own_key).sum(dim=-1, keepdim=True)
        scores = torch.cat([query @ keys.transpose(2, 3) + bias, own_score], dim=-1)
        weights = scores.softmax(dim=-1)
        return self._join(weights[..., :-1] @ values + weights[..., -1:] * own_value)

    def _join(self, x: Tensor) -> Tensor:
        """The heads side by side, mixed."""
        mixed: Tensor = self.outputs(x.transpose(1, 2).flatten(2))
        return mixed


def split_heads(x: Tensor, parts: int, heads: int) -> list[Tensor]:
    """Cut vectors into parts, such as queries and keys, and each part into heads.

    Args:
        x: `[U, L, parts * width]`.
        parts: number of parts.
        heads: number of heads.

    Returns:
        The parts, `[U, heads, L, width / heads]` each.
    """
    width = x.shape[2] // (parts * heads)
    cut = x.reshape(*x.shape[:2], parts, heads, width).permute(2, 0, 3, 1, 4)
    return [cut[part] for part in range(parts)]


def attention_bias(mask: Tensor, like: Tensor, *, causal: bool = False) -> Tensor:
    """The bias of attention scores: it hides padding, and later events where `causal`.

    It is finite, so that the softmax of a history without events is defined.

    Args:
        mask: bool `[U, L]`, True at events.
        like: a tensor of the type and device of the bias.
        causal: whether later events are hidden.

    Returns:
        `[U, 1, 1, L]`, or `[U, 1, L, L]` where `causal`.
    """
    readable = mask[:, None, None, :]
    if causal:
        length = mask.shape[1]
        readable = readable & torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    bias = like.new_zeros(readable.shape)
    return bias.masked_fill(~readable, torch.finfo(like.dtype).min / 2)


class AttentionBlock(nn.Module):
    """Self-attention and a feed-forward network, each in a residual with layer normalisation.

    Args:
        width: width of events and states.
        heads: number of attention heads.
        expand: inner width of the feed-forward network divided by `width`.
        dropout: dropout rate before each residual sum.
        pre: whether the inputs are normalised, x + f(norm(x)), with ReLU (as in SASRec), or the sums,
            norm(x + f(x)), with LeakyReLU (as in BST).
    """

    def __init__(self, width: int, heads: int, expand: int, dropout: float, *, pre: bool) -> None:
        super().__init__()
        self.pre = pre
        self.attention = SelfAttention(width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, expand * width),
            nn.ReLU() if pre else nn.LeakyReLU(),
            nn.Linear(expand * width, width),
        )
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """`[U, L, width] -> [U, L, width]`."""
        return self._after(x, self.attention(self._before(x), bias))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the events (see `SelfAttention.keys_and_values`)."""
        return self.attention.keys_and_values(self._before(x))

    def of_targets(self, targets: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """The states of targets after this block (see `SelfAttention.of_targets`)."""
        return self._after(targets, self.attention.of_targets(self._before(targets), keys, values, bias))

    def _before(self, x: Tensor) -> Tensor:
        normed: Tensor = self.attention_norm(x) if self.pre else x
        return normed

    def _after(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(attended)
        if self.pre:
            pre: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
            return pre
        x = self.attention_norm(x)
        post: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return post


class AttentionConfig(EncoderConfig):
    """Settings that both self-attention encoders have.

    Attributes:
        blocks: number of blocks.
        heads: number of attention heads, which must divide the width of embeddings.
        expand: inner width of the feed-forward layers divided by the outer width.
        dropout: dropout rate before each residual sum.
    """

    blocks: int = Field(default=1, ge=1)
    heads: int = Field(default=2, ge=1)
    expand: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)


class TransformerEncoder(HistoryEncoder):
    """What both self-attention encoders share.

    Args:
        width: width of events and states.
        length: the longest history.
        config: settings of the blocks.
        reads_states: whether any pooling reads the states of the events; otherwise they are not computed.
        reads_target: whether any pooling reads the state of the target; otherwise it is not computed.
    """

    pre: ClassVar[bool]

    def __init__(
        self, width: int, length: int, config: AttentionConfig, *, reads_states: bool, reads_target: bool
    ) -> None:
        super().__init__()
        self.reads_states, self.reads_target = reads_states, reads_target
        self.positions = PositionEmbedding(length + reads_target, width)
        self.stack = nn.ModuleList(
            AttentionBlock(width, config.heads, config.expand, config.dropout, pre=self.pre)
            for _ in range(config.blocks)
        )

    @property
    def blocks(self) -> list[AttentionBlock]:
        """The blocks, first to last."""
        return [block for block in self.stack if isinstance(block, AttentionBlock)]

    def _place(self, events: Tensor) -> Tensor:
        """Events with their ages."""
        length = events.shape[1]
        ages: Tensor = self.positions(length + self.reads_target)
        return events + ages[:length]

    def _place_targets(self, targets: Tensor) -> Tensor:
        """Targets with theirs, 0."""
        age: Tensor = self.positions(1)
        return targets + age


class BidirectionalTransformer(TransformerEncoder):
    """Every event reads every other, as in "Behavior Sequence Transformer for E-commerce Recommendation in
    Alibaba" (Chen et al., DLP-KDD 2019): post-norm blocks with LeakyReLU.

    In the paper the target is the last event of the sequence, and its state is what is read: this is the
    pooling `target_state`. All events see the target, so all blocks but the last are computed again for each
    target. The last block is computed at the target's position only. Other poolings read the states of a
    history without a target.

    The paper concatenates to each embedding a learned vector for the time between event and target. Here a
    learned vector for the number of events between them is added.
    """

    pre = False

    def _encode(self, events: Tensor, mask: Tensor) -> Encoded:
        if not self.reads_states:
            return Encoded(mask, events, events[:, :0])
        x, bias = self._place(events), attention_bias(mask, events)
        for block in self.blocks:
            x = block(x, bias)
        return Encoded(mask, events, x)

    def next_states(self, targets: Tensor, history: Encoded) -> Tensor:
        *blocks, last = self.blocks
        x, t = self._place(history.events), self._place_targets(targets)
        bias = attention_bias(history.mask, targets)
        if blocks:
            candidates = targets.shape[1]
            rows = x.repeat_interleave(candidates, dim=0)
            rows = torch.cat([rows, t.flatten(0, 1).unsqueeze(1)], dim=1)  # [U * K, L + 1, d]
            bias = bias.repeat_interleave(candidates, dim=0)
            everywhere = F.pad(bias, (0, 1))
            for block in blocks:
                rows = block(rows, everywhere)
            state = last.of_targets(rows[:, -1:], *last.keys_and_values(rows[:, :-1]), bias)
            return state.reshape(targets.shape)
        return last.of_targets(t, *last.keys_and_values(x), bias)


class TransformerEncoderConfig(AttentionConfig):
    """Every event attends to every other."""

    name: Literal["transformer"] = "transformer"

    def encoder(
        self, width: int, length: int, *, reads_states: bool = True, reads_target: bool = False
    ) -> HistoryEncoder:
        return BidirectionalTransformer(
            width, length, self, reads_states=reads_states, reads_target=reads_target
        )


class CausalTransformer(TransformerEncoder):
    """Each event reads itself and those before it, as in "Self-Attentive Sequential Recommendation" (Kang and
    McAuley, ICDM 2018): dropout of the input, pre-norm blocks with ReLU, and a normalisation at the end.

    No event sees the target. So the keys and values of the events are computed once for each block and kept
    as the memory, and a target costs one position in each block.
    """

    pre = True

    def __init__(
        self, width: int, length: int, config: AttentionConfig, *, reads_states: bool, reads_target: bool
    ) -> None:
        super().__init__(width, length, config, reads_states=reads_states, reads_target=reads_target)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(width)

    def _encode(self, events: Tensor, mask: Tensor) -> Encoded:
        x, bias = self.dropout(self._place(events)), attention_bias(mask, events, causal=True)
        memory: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            if self.reads_target:
                memory += block.keys_and_values(x)
            if self.reads_states or number < len(self.blocks):
                x = block(x, bias)
        states = self.norm(x) if self.reads_states else events[:, :0]
        return Encoded(mask, events, states, tuple(memory))

    def next_states(self, targets: Tensor, history: Encoded) -> Tensor:
        x = self.dropout(self._place_targets(targets))
        bias = attention_bias(history.mask, targets)
        for block, keys, values in zip(self.blocks, history.memory[::2], history.memory[1::2], strict=True):
            x = block.of_targets(x, keys, values, bias)
        states: Tensor = self.norm(x)
        return states


class SASRecEncoderConfig(AttentionConfig):
    """Events attend to those before them."""

    name: Literal["sasrec"] = "sasrec"
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=1, ge=1)
    expand: int = Field(default=1, ge=1)

    def encoder(
        self, width: int, length: int, *, reads_states: bool = True, reads_target: bool = False
    ) -> HistoryEncoder:
        return CausalTransformer(width, length, self, reads_states=reads_states, reads_target=reads_target)
