"""The base class of poolings: one vector from the events of a history for each target."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ctrkit.settings import checked


@dataclass(frozen=True)
class PoolingShape:
    """What a pooling must know to be built.

    Attributes:
        width: d, of targets, events, states and readings.
        attention: widths of the network that compares a target with an event.
    """

    width: int
    attention: tuple[int, ...]


@checked
class Pooling(ABC):
    """The settings of a pooling, which makes the module that reads histories for targets.

    Attributes:
        name: name in `readouts`.
        reads: what the module reads: the encoder's "states", or the "events" themselves. "encoder" has no
            module: its reading is the encoder's state of the target.
        reads_target: whether the reading depends on the target.
        reads_ages: whether the ages of the events are added to what it reads, where the config has positions.
        matches: whether it reads only events whose id in a sequence equals the target's. Its setting
            `sequence` names the sequence.
    """

    what: ClassVar[str] = "pooling"
    name: ClassVar[str]
    reads: ClassVar[Literal["states", "events", "encoder"]] = "states"
    reads_target: ClassVar[bool] = True
    reads_ages: ClassVar[bool] = False
    matches: ClassVar[bool] = False

    def module(self, shape: PoolingShape) -> nn.Module | None:
        """A module with fresh weights, which reads each history with each of its targets.

        Its `forward(target, events, mask)` gets `[U, K, d]`, `[U, L, d]` and bool `[U, L]`, True at events,
        and returns `[U, K, d]`. If the pooling does not read the target, the target may be `[U, K, 0]`. If it
        `matches`, the mask is `[U, K, L]`, one for each target.
        """
        return None


def expand_shared(reading: Tensor, candidates: int) -> Tensor:
    """Repeat a reading that does not depend on the target for all candidates: `[U, w] -> [U, K, w]`."""
    return reading.unsqueeze(1).expand(-1, candidates, -1)


def interleave(readings: list[Tensor]) -> Tensor:
    """Readings side by side, one row for each candidate: R of `[U, K, w] -> [U * K, R, w]`."""
    return torch.stack(readings, dim=2).flatten(0, 1)
