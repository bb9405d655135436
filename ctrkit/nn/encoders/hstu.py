"""HSTU: causal attention whose weights are not shares of a whole, and whose output is gated."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.nn.encoders.attention import check_heads
from ctrkit.nn.encoders.base import Encoded, EncoderConfig, HistoryEncoder, longer

# The epsilon of the authors' code. Sums over few events, divided by N, are so small that torch's default,
# 1e-5, would shrink them.
_EPSILON = 1e-6


class HSTUBlock(nn.Module):
    """A hierarchical sequential transduction unit: "Actions Speak Louder than Words: Trillion-Parameter
    Sequential Transducers for Generative Recommendations" (Zhai et al., ICML 2024, arXiv 2402.17152).

        U, V, Q, K = SiLU(f1(LN(x)))
        A_ij = SiLU(Q_i · K_j + bias of i - j) / N      for j <= i
        y = f2(LN(A V) * U) + x

    f1 and f2 are linear. As in the authors' code, the bias is the same for all heads, products are not scaled
    by the width of a head, and the normalisations have no weights: the linear layers can hold these.

    The authors divide by the length of the padded batch. Here N is the longest history, a constant, so that
    neither padding nor later events change a state. The normalisation of A V removes N again, as far as its
    epsilon is small beside A V. So another N would change little, and a state keeps the total of its weights
    only where few events are read.

    The paper's second bias, by the time between events, is left out, as a batch has no times of events.

    Args:
        width: width of events and states.
        heads: number of attention heads.
        length: N, the longest history.
        distances: number of distances i - j with a bias of their own; longer ones share the last.
        dropout: dropout rate of what f2 reads.

    Raises:
        ConfigError: the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, length: int, distances: int, dropout: float) -> None:
        super().__init__()
        check_heads(heads, width)
        self.heads, self.length = heads, length
        self.inputs = nn.Linear(width, 4 * width)
        self.outputs = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.randn(distances) * 0.02)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each event reads itself and those before it.

        Args:
            x: `[U, L, width]`.
            mask: bool `[U, L]`, True at events.

        Returns:
            The new states `[U, L, width]`, and the keys and values, `[U, heads, L, width / heads]` each.
        """
        gate, values, queries, keys = self._projected(x)
        places = torch.arange(x.shape[1], device=x.device)
        distance = places.unsqueeze(1) - places
        weights = self._weights(queries @ keys.transpose(2, 3) + self._bias(distance))
        readable = mask[:, None, None, :] & (distance >= 0)
        return self._after(x, gate, weights * readable @ values), keys, values

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Those of `forward`, without the new states."""
        _, values, _, keys = self._projected(x)
        return keys, values

    def of_targets(
        self, targets: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each target, as the next event, reads the events and itself, but no other target.

        Args:
            targets: `[U, K, width]`.
            keys: keys of the events, from `forward`.
            values: values of the events, from `forward`.
            mask: bool `[U, L]`, True at events.

        Returns:
            As `forward`, of the targets.
        """
        gate, own_value, query, own_key = self._projected(targets)
        distance = torch.arange(mask.shape[1], 0, -1, device=mask.device)
        weights = self._weights(query @ keys.transpose(2, 3) + self._bias(distance))
        own = self._weights((query * own_key).sum(dim=-1, keepdim=True) + self.bias[0])
        read = weights * mask[:, None, None, :] @ values + own * own_value
        return self._after(targets, gate, read), own_key, own_value

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """U, `[U, L, width]`, and V, Q and K, `[U, heads, L, width / heads]` each."""
        normed = F.layer_norm(x, x.shape[-1:], eps=_EPSILON)
        gate, *rest = F.silu(self.inputs(normed)).chunk(4, dim=-1)
        values, queries, keys = (
            part.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2) for part in rest
        )
        return gate, values, queries, keys

    def _bias(self, distance: Tensor) -> Tensor:
        """The bias of each distance; what stands at negative distances is not read."""
        return self.bias[distance.clamp(0, len(self.bias) - 1)]

    def _weights(self, scores: Tensor) -> Tensor:
        return F.silu(scores) / self.length

    def _after(self, x: Tensor, gate: Tensor, read: Tensor) -> Tensor:
        read = read.transpose(1, 2).flatten(2)
        gated = F.layer_norm(read, read.shape[-1:], eps=_EPSILON) * gate
        y: Tensor = x + self.outputs(self.dropout(gated))
        return y


class HSTU(HistoryEncoder):
    """A stack of `HSTUBlock`, with dropout of the events.

    No state depends on later events, and events know their order by their distances alone. So the keys and
    values of the events are computed once for each block and kept as the memory. A target costs one position
    in each block, and so does one more event.

    Args:
        width: width of events and states.
        length: the longest history.
        config: settings of the blocks.
        reads_states: whether any pooling reads the states of the events; otherwise the last block computes
            none.
        reads_target: whether any pooling reads the state of the target.
    """

    def __init__(
        self, width: int, length: int, config: HSTUConfig, *, reads_states: bool, reads_target: bool
    ) -> None:
        super().__init__()
        self.reads_states = reads_states
        self.dropout = nn.Dropout(config.dropout)
        self.stack = nn.ModuleList(
            HSTUBlock(width, config.heads, length, length + reads_target, config.dropout)
            for _ in range(config.blocks)
        )

    @property
    def blocks(self) -> list[HSTUBlock]:
        """The blocks, first to last."""
        return [block for block in self.stack if isinstance(block, HSTUBlock)]

    def _encode(self, events: Tensor, mask: Tensor) -> Encoded:
        x = self.dropout(events)
        memory: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            if self.reads_states or number < len(self.blocks):
                x, *own = block(x, mask)
            else:
                own = list(block.keys_and_values(x))
            memory += own
        return Encoded(mask, events, x if self.reads_states else events[:, :0], tuple(memory))

    def next_states(self, targets: Tensor, history: Encoded) -> Tensor:
        return self._next(targets, history)[0]

    def append(self, history: Encoded, event: Tensor) -> Encoded:
        events, mask = longer(history, event)
        state, own = self._next(event.unsqueeze(1), history)
        states = torch.cat([history.states, state], dim=1) if self.reads_states else history.states
        memory = (torch.cat(both, dim=2) for both in zip(history.memory, own, strict=True))
        return Encoded(mask, events, states, tuple(memory))

    def _next(self, targets: Tensor, history: Encoded) -> tuple[Tensor, list[Tensor]]:
        """The states of targets, `[U, K, d]`, and what the memory would keep of each."""
        x = self.dropout(targets)
        memory: list[Tensor] = []
        for block, keys, values in zip(self.blocks, history.memory[::2], history.memory[1::2], strict=True):
            x, *own = block.of_targets(x, keys, values, history.mask)
            memory += own
        return x, memory


class HSTUConfig(EncoderConfig):
    """Causal attention whose weights are not shares of a whole, and whose output is gated.

    Attributes:
        blocks: number of blocks.
        heads: number of attention heads, which must divide the width of embeddings.
        dropout: dropout rate of the events, and of what the last layer of each block reads.
    """

    name: Literal["hstu"] = "hstu"
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)

    def encoder(
        self, width: int, length: int, *, reads_states: bool = True, reads_target: bool = False
    ) -> HistoryEncoder:
        return HSTU(width, length, self, reads_states=reads_states, reads_target=reads_target)
