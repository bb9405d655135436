"""Poolings: one vector from the events of a history for each target. Every file of this folder is registered
automatically."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, InstanceOf, PlainSerializer

from ctrkit.nn.pooling.base import Pooling, PoolingShape, expand_shared, interleave
from ctrkit.settings import Registry, line_of

POOLINGS: Registry[Pooling] = Registry(Pooling, __name__)

# In a config: a line `NAME:key=value,...`, or a mapping of `name` and settings.
PoolingSetting: TypeAlias = Annotated[
    InstanceOf[Pooling], BeforeValidator(POOLINGS.read), PlainSerializer(line_of)
]

__all__ = ["POOLINGS", "Pooling", "PoolingSetting", "PoolingShape", "expand_shared", "interleave"]
