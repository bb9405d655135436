"""The one shape in which encoded rows reach a model: `Batch`, and `FeatureMap` which says what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

PADDING_ID = 0
UNKNOWN_ID = 1
FIRST_ID = 2


@dataclass(frozen=True)
class Batch:
    """Encoded rows.

    Attributes:
        categorical: int32 [B, F]; 0 is padding, 1 is unknown, ids from 2, each field counted for itself.
        numeric: float32 [B, N], standardised.
        sequences: name -> int32 [B, L], left-padded with 0: the newest event is last.
        labels: float32 [B, T], tasks in funnel order; empty (T = 0) when unknown.
        weight: float32 [B].
    """

    categorical: Tensor
    numeric: Tensor
    sequences: Mapping[str, Tensor]
    labels: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return int(self.categorical.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """The same rows on another device."""
        return Batch(
            self.categorical.to(device),
            self.numeric.to(device),
            {name: ids.to(device) for name, ids in self.sequences.items()},
            self.labels.to(device),
            self.weight.to(device),
        )


@dataclass(frozen=True)
class FeatureMap:
    """What a `Batch` holds, as far as a model must know it: plain data, stored in the artifact.

    Attributes:
        tables: embedding table -> number of ids in it, padding and unknown included.
        categorical: field -> its table, in the order of the columns of `Batch.categorical`.
        numeric: fields in the order of the columns of `Batch.numeric`.
        sequences: sequence -> its table. All sequences are aligned event by event.
        max_length: the longest history, L.
        target: fields that query the history; profile: fields of the user. Both name static fields.
        tasks: in funnel order.
    """

    tables: Mapping[str, int]
    categorical: Mapping[str, str]
    numeric: tuple[str, ...] = ()
    sequences: Mapping[str, str] = field(default_factory=dict)
    max_length: int = 0
    target: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("click",)

    @property
    def fields(self) -> tuple[str, ...]:
        """Static fields in the order of their embeddings: categorical first, then numeric."""
        return (*self.categorical, *self.numeric)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> FeatureMap:
        """The inverse of `to_dict`."""
        lists = {key: tuple(state[key]) for key in ("numeric", "target", "profile", "tasks")}
        return cls(**{**state, **lists})
