"""Poolings by attention of the target over all of a history."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import nn

from ctrkit.nn.attention import TargetAttention
from ctrkit.nn.augru import AUGRU
from ctrkit.nn.pooling.base import Pooling, PoolingShape
from ctrkit.settings import Count, checked


@checked
class TargetAttentionPooling(Pooling):
    """Attention of the target over the encoder's states.

    Attributes:
        newest: number of events that are read, the newest; all by default.
    """

    name: ClassVar[str] = "target_attention"
    reads_ages: ClassVar[bool] = True
    newest: Count | None = None

    def module(self, shape: PoolingShape) -> nn.Module:
        return TargetAttention(shape.width, shape.attention, self.newest)


@checked
class DINPooling(TargetAttentionPooling):
    """Attention of the target over the events themselves, as in DIN."""

    name: ClassVar[str] = "din"
    reads: ClassVar[Literal["states", "events", "encoder"]] = "events"


@checked
class AUGRUPooling(Pooling):
    """A GRU over the states whose steps are as large as the target's attention, as in DIEN."""

    name: ClassVar[str] = "augru"

    def module(self, shape: PoolingShape) -> nn.Module:
        return AUGRU(shape.width)
