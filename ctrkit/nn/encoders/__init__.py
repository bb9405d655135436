"""Encoders of a behaviour sequence: they read events and give a state for each event."""

from __future__ import annotations

from ctrkit.nn.encoders.attention import BidirectionalTransformer, CausalTransformer
from ctrkit.nn.encoders.base import Encoded, HistoryEncoder, Memory, NoEncoder, RecurrentEncoder
from ctrkit.nn.encoders.config import (
    EncoderConfig,
    GRUConfig,
    LSTMConfig,
    Mamba4RecEncoderConfig,
    MambaConfig,
    NoEncoderConfig,
    SASRecEncoderConfig,
    TransformerEncoderConfig,
)
from ctrkit.nn.encoders.mamba import MambaBlocks
from ctrkit.nn.encoders.recurrent import GRU, LSTM
from ctrkit.nn.mamba import MambaEncoder
from ctrkit.nn.mamba4rec import Mamba4RecEncoder


def build_encoder(
    config: EncoderConfig, width: int, length: int, *, reads_states: bool = True, reads_target: bool = False
) -> HistoryEncoder:
    """An encoder with fresh weights.

    Args:
        config: which encoder, and its settings.
        width: width of events and states.
        length: the longest history.
        reads_states: whether any pooling reads the states of the events.
        reads_target: whether any pooling reads the state of the target as the next event.

    Raises:
        ConfigError: the attention heads do not divide the width.
    """
    match config:
        case GRUConfig():
            return GRU(width, config.layers)
        case LSTMConfig():
            return LSTM(width, config.layers)
        case MambaConfig():
            mixer = (config.state, config.convolution, config.expand)
            return MambaBlocks(MambaEncoder(width, config.blocks, config.norm, config.dropout, *mixer))
        case Mamba4RecEncoderConfig():
            mixer = (config.state, config.convolution, config.expand)
            start = config.paper_initialisation
            return MambaBlocks(Mamba4RecEncoder(width, config.blocks, config.dropout, *mixer, start))
        case TransformerEncoderConfig():
            return BidirectionalTransformer(
                width, length, config, reads_states=reads_states, reads_target=reads_target
            )
        case SASRecEncoderConfig():
            return CausalTransformer(
                width, length, config, reads_states=reads_states, reads_target=reads_target
            )
        case NoEncoderConfig():
            return NoEncoder()


__all__ = [
    "Encoded",
    "EncoderConfig",
    "GRUConfig",
    "HistoryEncoder",
    "LSTMConfig",
    "Mamba4RecEncoderConfig",
    "MambaConfig",
    "Memory",
    "NoEncoder",
    "NoEncoderConfig",
    "RecurrentEncoder",
    "SASRecEncoderConfig",
    "TransformerEncoderConfig",
    "build_encoder",
]
