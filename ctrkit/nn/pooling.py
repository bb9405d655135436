"""Pooling: one vector from the events of a history, with or without attention of the target."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

PoolingName: TypeAlias = Literal["last_state", "mean", "target_attention", "din", "target_state", "augru"]

# Which poolings read the target, and which read the encoder's states of the events. "din" reads the events
# themselves, and "target_state" reads the encoder alone.
READ_TARGET = frozenset({"target_attention", "din", "target_state", "augru"})
READ_STATES = frozenset({"last_state", "mean", "target_attention", "augru"})


def last_state(states: Tensor, mask: Tensor) -> Tensor:
    """The state at the newest event, zero for an empty history: `[U, L, width] -> [U, width]`."""
    return states[:, -1] * mask[:, -1:]


def mean_state(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over the events, zero for an empty history: `[U, L, width] -> [U, width]`."""
    present = mask.unsqueeze(-1).to(states.dtype)
    return (states * present).sum(dim=1) / present.sum(dim=1).clamp(min=1.0)


def expand_shared(reading: Tensor, candidates: int) -> Tensor:
    """Repeat a reading that does not depend on the target for all candidates: `[U, w] -> [U, K, w]`."""
    return reading.unsqueeze(1).expand(-1, candidates, -1)


def interleave(readings: list[Tensor]) -> Tensor:
    """Readings side by side, one row for each candidate: R of `[U, K, w] -> [U * K, R, w]`."""
    return torch.stack(readings, dim=2).flatten(0, 1)
