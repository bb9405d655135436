"""Encoders of a behaviour sequence: events in, a state for each event out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from torch import Tensor, nn

from ctrkit.config import Config
from ctrkit.nn.mamba import MambaEncoder

# What a recurrent encoder remembers of the events so far: tensors with a row for each history.
Memory: TypeAlias = tuple[Tensor, ...]


class Encoder(nn.Module, ABC):
    """Maps events to states of the same width: `[B, L, width] -> [B, L, width]`."""

    @abstractmethod
    def forward(self, events: Tensor, mask: Tensor) -> Tensor:
        """The states of a history.

        Args:
            events: `[B, L, width]`.
            mask: bool `[B, L]`, True at events. Padding stands to their left and, however long, changes no
                state; what stands at padding in the result is meaningless, but finite.
        """


class NoEncoderConfig(Config):
    """The events as they are: what mean pooling and DIN read."""

    name: Literal["none"] = "none"


class NoEncoder(Encoder):
    """Events are their own states."""

    def forward(self, events: Tensor, mask: Tensor) -> Tensor:
        return events


class MambaConfig(Config):
    """Blocks of the selective state space model; see `ctrkit.nn.mamba.MambaEncoder`.

    Attributes:
        blocks: number of blocks.
        state: numbers of state a channel; convolution: its kernel; expand: inner width over outer.
        norm: before the mixer ("pre") or after the residual ("post").
        dropout: share of each mixer's output that is dropped.
    """

    name: Literal["mamba"] = "mamba"
    blocks: int = Field(default=2, ge=1)
    state: int = Field(default=16, ge=1)
    convolution: int = Field(default=4, ge=1)
    expand: int = Field(default=2, ge=1)
    norm: Literal["pre", "post"] = "pre"
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)


class Mamba(Encoder):
    """Mamba blocks over the events."""

    def __init__(self, width: int, config: MambaConfig) -> None:
        super().__init__()
        self.stack = MambaEncoder(
            width, config.blocks, config.norm, config.dropout, config.state, config.convolution, config.expand
        )

    def forward(self, events: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.stack(events, mask)
        return states


EncoderConfig: TypeAlias = Annotated[NoEncoderConfig | MambaConfig, Field(discriminator="name")]


def build_encoder(config: EncoderConfig, width: int, length: int) -> Encoder:
    """An encoder with fresh weights.

    Args:
        width: of events and states.
        length: the longest history.
    """
    if isinstance(config, MambaConfig):
        return Mamba(width, config)
    return NoEncoder()
