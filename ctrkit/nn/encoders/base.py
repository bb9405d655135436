"""The contract of all encoders of a behaviour sequence, and of their configs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.config import Config

# What an encoder keeps of histories, a row each in every tensor: one more event then needs no new encoding.
Memory: TypeAlias = tuple[Tensor, ...]


@dataclass(frozen=True)
class Encoded:
    """U encoded histories of up to L events.

    Attributes:
        mask: bool `[U, L]`, True at events; padding is to the left of them.
        events: `[U, L, d]`, the embedding of each event.
        states: `[U, L, d]`, from the encoder; `[U, 0, d]` where no pooling reads them. Values at padding are
            meaningless, but finite.
        memory: tensors of the encoder with U rows each.
    """

    mask: Tensor
    events: Tensor
    states: Tensor
    memory: Memory = ()

    def __len__(self) -> int:
        return int(self.mask.shape[0])


class HistoryEncoder(nn.Module, ABC):
    """Gives each event of a history a state, from the events before it or from all events.

    The amount of padding to the left of the events changes no state.
    """

    def encode(self, events: Tensor, mask: Tensor) -> Encoded:
        """Encode histories: events `[U, L, d]`, mask bool `[U, L]`. L = 0 counts as one event of padding."""
        if events.shape[1] == 0:
            events, mask = F.pad(events, (0, 0, 1, 0)), F.pad(mask, (1, 0))
        return self._encode(events, mask)

    @abstractmethod
    def _encode(self, events: Tensor, mask: Tensor) -> Encoded:
        """`encode` for L of at least 1."""

    @abstractmethod
    def next_states(self, targets: Tensor, history: Encoded) -> Tensor:
        """The state that each target would get as the next event of its history: `[U, K, d] -> [U, K, d]`."""

    def append(self, history: Encoded, event: Tensor) -> Encoded:
        """Histories with one more event, `[U, d]`: the same result as encoding the longer histories."""
        return self.encode(*longer(history, event))


def longer(history: Encoded, event: Tensor) -> tuple[Tensor, Tensor]:
    """Events `[U, L + 1, d]` and mask of histories with one event more."""
    mask = torch.cat([history.mask, torch.ones_like(history.mask[:, :1])], dim=1)
    return torch.cat([history.events, event.unsqueeze(1)], dim=1), mask


class RecurrentEncoder(HistoryEncoder):
    """An encoder with a memory of fixed size. One more event, or the state of a target as the next event,
    costs the same at any length of the history."""

    @abstractmethod
    def step(self, events: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """One more event for each of N histories: `[N, d] -> states [N, d]`, and the memory after it."""

    def next_states(self, targets: Tensor, history: Encoded) -> Tensor:
        candidates = targets.shape[1]
        shared = tuple(rows.repeat_interleave(candidates, dim=0) for rows in history.memory)
        states, _ = self.step(targets.flatten(0, 1), shared)
        return states.reshape(targets.shape)

    def append(self, history: Encoded, event: Tensor) -> Encoded:
        events, mask = longer(history, event)
        state, memory = self.step(event, history.memory)
        return Encoded(mask, events, torch.cat([history.states, state.unsqueeze(1)], dim=1), memory)


class EncoderConfig(Config, ABC):
    """Base of the encoders' configs. Each has a literal `name`, which is its own default, and makes its
    encoder.

    Attributes:
        read_by_model: whether a model reads the memory of the encoder itself, so that no pooling has to.
    """

    read_by_model: ClassVar[bool] = False

    name: str

    @abstractmethod
    def encoder(
        self, width: int, length: int, *, reads_states: bool = True, reads_target: bool = False
    ) -> HistoryEncoder:
        """An encoder with fresh weights.

        Args:
            width: width of events and states.
            length: the longest history.
            reads_states: whether any pooling reads the states of the events.
            reads_target: whether any pooling reads the state of the target as the next event.

        Raises:
            ConfigError: the settings do not fit the width.
        """
