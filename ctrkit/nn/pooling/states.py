"""Poolings of the encoder's states without attention."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from ctrkit.nn.pooling.base import Pooling, PoolingShape, expand_shared
from ctrkit.settings import checked


@checked
class LastStatePooling(Pooling):
    """The newest state."""

    name: ClassVar[str] = "last_state"
    reads_target: ClassVar[bool] = False

    def module(self, shape: PoolingShape) -> nn.Module:
        return LastState()


@checked
class MeanPooling(Pooling):
    """The mean of the states."""

    name: ClassVar[str] = "mean"
    reads_target: ClassVar[bool] = False

    def module(self, shape: PoolingShape) -> nn.Module:
        return MeanState()


@checked
class TargetStatePooling(Pooling):
    """The encoder's state of the target as the next event, as in BST."""

    name: ClassVar[str] = "target_state"
    reads: ClassVar[Literal["states", "events", "encoder"]] = "encoder"


class LastState(nn.Module):
    """The state at the newest event, zero for an empty history."""

    def forward(self, target: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """`[U, K, any], [U, L, d], [U, L] -> [U, K, d]`."""
        return expand_shared(states[:, -1] * mask[:, -1:], target.shape[1])


class MeanState(nn.Module):
    """The mean over the events, zero for an empty history."""

    def forward(self, target: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """`[U, K, any], [U, L, d], [U, L] -> [U, K, d]`."""
        present = mask.unsqueeze(-1).to(states.dtype)
        mean = (states * present).sum(dim=1) / present.sum(dim=1).clamp(min=1.0)
        return expand_shared(mean, target.shape[1])
