"""No encoder: the case where poolings read the events as they are."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ctrkit.nn.encoders.base import Encoded, EncoderConfig, HistoryEncoder


class NoEncoder(HistoryEncoder):
    """Events are their own states."""

    def _encode(self, events: Tensor, mask: Tensor) -> Encoded:
        return Encoded(mask, events, events)

    def next_states(self, targets: Tensor, history: Encoded) -> Tensor:
        return targets


class NoEncoderConfig(EncoderConfig):
    """No encoder: poolings read the events as they are."""

    name: Literal["none"] = "none"

    def encoder(
        self, width: int, length: int, *, reads_states: bool = True, reads_target: bool = False
    ) -> HistoryEncoder:
        return NoEncoder()
