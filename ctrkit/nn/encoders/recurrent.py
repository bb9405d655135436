"""GRU and LSTM over left-padded histories.

torch's layers have no mask, and zeros at padding are not enough, because the biases change the state. Here
padding closes the gates. The input has one more entry, 1 at padding, whose weights drive the gates so far
that the state stays exactly zero. So padding needs no gather and no sorting, the last state of a layer is the
state of the newest event, and each layer exports as one operation.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ctrkit.nn.encoders.base import Encoded, EncoderConfig, HistoryEncoder, Memory, RecurrentEncoder

# A sigmoid is exactly 0 and 1 in every precision at this distance from zero.
_CLOSED = 1e4


class _GatedEncoder(RecurrentEncoder):
    """What GRU and LSTM share: the weights of torch's own module, and an input entry that marks padding.

    Args:
        cells: layers that hold the weights.
        closing: what padding adds to each gate, one number for `cells.hidden_size` rows.
    """

    closing: Tensor

    def __init__(self, cells: nn.RNNBase, closing: tuple[float, ...]) -> None:
        super().__init__()
        self.cells = cells
        column = torch.tensor(closing).repeat_interleave(cells.hidden_size).unsqueeze(1)
        self.register_buffer("closing", column, persistent=False)

    def _weights(self, layer: int) -> list[Tensor]:
        """Input weights (with those of the entry for padding), recurrent weights, and the biases of both."""
        inputs, *rest = self.cells.all_weights[layer]
        return [torch.cat([inputs, self.closing], dim=1), *rest]

    def _start(self, events: Tensor) -> Tensor:
        return events.new_zeros(1, len(events), self.cells.hidden_size)


def _with_padding(x: Tensor, mask: Tensor) -> Tensor:
    """`[U, L, d] -> [U, L, d + 1]`: at padding all entries are 0 except the last, which is 1."""
    present = mask.unsqueeze(-1)
    return torch.cat([x * present, (~present).to(x.dtype)], dim=-1)


class GRU(_GatedEncoder):
    """Gated recurrent units (Cho et al., EMNLP 2014), in the form of `torch.nn.GRU`.

    Args:
        width: width of events and states.
        layers: number of layers; each reads the states of the layer before.
    """

    def __init__(self, width: int, layers: int = 1) -> None:
        # Gates: reset, update, new. Update at 1 keeps the state.
        super().__init__(nn.GRU(width, width, layers, batch_first=True), (0.0, _CLOSED, 0.0))

    def _encode(self, events: Tensor, mask: Tensor) -> Encoded:
        x, memory = events, []
        for layer in range(self.cells.num_layers):
            x, h = torch.gru(
                _with_padding(x, mask), self._start(x), self._weights(layer), True, 1, 0.0, False, False, True
            )
            memory.append(h[0])
        return Encoded(mask, events, x, tuple(memory))

    def step(self, events: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        x, after = events, []
        for weights, h in zip(self.cells.all_weights, memory, strict=True):
            x = torch.gru_cell(x, h, *weights)
            after.append(x)
        return x, tuple(after)


class LSTM(_GatedEncoder):
    """Long short-term memory (Hochreiter and Schmidhuber, Neural Computation 1997), in the form of
    `torch.nn.LSTM`.

    Args:
        width: width of events and states.
        layers: number of layers; each reads the states of the layer before.
    """

    def __init__(self, width: int, layers: int = 1) -> None:
        # Gates: input, forget, cell, output. Input at 0 and forget at 1 keep the cell.
        super().__init__(nn.LSTM(width, width, layers, batch_first=True), (-_CLOSED, _CLOSED, 0.0, 0.0))

    def _encode(self, events: Tensor, mask: Tensor) -> Encoded:
        x, memory = events, []
        for layer in range(self.cells.num_layers):
            start = self._start(x)
            x, h, c = torch.lstm(
                _with_padding(x, mask), (start, start), self._weights(layer), True, 1, 0.0, False, False, True
            )
            memory += [h[0], c[0]]
        return Encoded(mask, events, x, tuple(memory))

    def step(self, events: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        x, after = events, []
        for weights, h, c in zip(self.cells.all_weights, memory[::2], memory[1::2], strict=True):
            x, cell = torch.lstm_cell(x, (h, c), *weights)
            after += [x, cell]
        return x, tuple(after)


class GRUConfig(EncoderConfig):
    """Gated recurrent units."""

    name: Literal["gru"] = "gru"
    layers: int = Field(default=1, ge=1)

    def encoder(
        self, width: int, length: int, *, reads_states: bool = True, reads_target: bool = False
    ) -> HistoryEncoder:
        return GRU(width, self.layers)


class LSTMConfig(EncoderConfig):
    """Long short-term memory."""

    name: Literal["lstm"] = "lstm"
    layers: int = Field(default=1, ge=1)

    def encoder(
        self, width: int, length: int, *, reads_states: bool = True, reads_target: bool = False
    ) -> HistoryEncoder:
        return LSTM(width, self.layers)
