"""Mamba as an encoder of histories."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from ctrkit.nn.encoders.base import Encoded, EncoderConfig, HistoryEncoder, Memory, RecurrentEncoder
from ctrkit.nn.mamba import BlockStack, EncoderState, MambaEncoder, MambaState
from ctrkit.nn.mamba4rec import Mamba4RecEncoder


class MambaBlocks(RecurrentEncoder):
    """Mamba blocks of any kind over the events (see `ctrkit.nn.mamba` and `ctrkit.nn.mamba4rec`)."""

    def __init__(self, stack: BlockStack) -> None:
        super().__init__()
        self.stack = stack

    def _encode(self, events: Tensor, mask: Tensor) -> Encoded:
        states, state = self.stack.encode(events, mask)
        return Encoded(mask, events, states, _flat(state))

    def step(self, events: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        blocks = zip(memory[::2], memory[1::2], strict=True)
        states, state = self.stack.step(events, tuple(MambaState(window, h) for window, h in blocks))
        return states, _flat(state)


def _flat(state: EncoderState) -> Memory:
    return tuple(tensor for block in state for tensor in block)


class MambaConfig(EncoderConfig):
    """Blocks of the selective state space model (see `ctrkit.nn.mamba.MambaEncoder`).

    Attributes:
        blocks: number of blocks.
        state: state size of each channel.
        convolution: kernel size of the causal convolution.
        expand: inner width divided by the outer width.
        norm: normalisation before the mixer ("pre") or after the residual ("post").
        dropout: dropout rate of each mixer's output.
    """

    name: Literal["mamba"] = "mamba"
    blocks: int = Field(default=2, ge=1)
    state: int = Field(default=16, ge=1)
    convolution: int = Field(default=4, ge=1)
    expand: int = Field(default=2, ge=1)
    norm: Literal["pre", "post"] = "pre"
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    def encoder(
        self, width: int, length: int, *, reads_states: bool = True, reads_target: bool = False
    ) -> HistoryEncoder:
        mixer = (self.state, self.convolution, self.expand)
        return MambaBlocks(MambaEncoder(width, self.blocks, self.norm, self.dropout, *mixer))


class Mamba4RecEncoderConfig(EncoderConfig):
    """Blocks of Mamba4Rec (see `ctrkit.nn.mamba4rec.Mamba4RecEncoder`).

    Attributes:
        blocks: number of blocks; a single block has no residual around its mixer.
        state: state size of each channel.
        convolution: kernel size of the causal convolution.
        expand: inner width divided by the outer width.
        dropout: dropout rate of the events and in the blocks.
        paper_initialisation: initialise Mamba's own layers too as the paper's code does.
    """

    name: Literal["mamba4rec"] = "mamba4rec"
    blocks: int = Field(default=1, ge=1)
    state: int = Field(default=32, ge=1)
    convolution: int = Field(default=4, ge=1)
    expand: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    paper_initialisation: bool = True

    def encoder(
        self, width: int, length: int, *, reads_states: bool = True, reads_target: bool = False
    ) -> HistoryEncoder:
        mixer = (self.state, self.convolution, self.expand)
        start = self.paper_initialisation
        return MambaBlocks(Mamba4RecEncoder(width, self.blocks, self.dropout, *mixer, start))
