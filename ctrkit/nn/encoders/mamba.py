"""Mamba as an encoder of histories."""

from __future__ import annotations

from torch import Tensor

from ctrkit.nn.encoders.base import Encoded, Memory, RecurrentEncoder
from ctrkit.nn.mamba import BlockStack, EncoderState, MambaState


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
