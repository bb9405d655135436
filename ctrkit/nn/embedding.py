"""Embeddings: every id of every table in one matrix, numbers as a direction each, sequences as events."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.config import Config
from ctrkit.data.batches import PADDING_ID, Batch, FeatureMap


class EmbeddingConfig(Config):
    """How ids and numbers become vectors. A plain integer stands for `width` alone.

    Attributes:
        width: d, of every vector that a model gets.
        std: of the normal distribution that vectors start from. FuxiCTR's 0.0001 makes products of
            embeddings vanish, and with them the gradients of everything that compares ids: cross networks
            and target attention then start out blind, and learn late that two ids are the same.
        dropout: share of whole vectors that training drops: a field of a row, or an event of a history with
            all its parts. The rest are scaled by 1 / (1 - dropout).
        per_field: give each table a dimension of its own, and project its vectors to `width`.
        hash_above: tables of more ids than this become hash embeddings.
        hash_rows: rows that all hash embeddings share.
    """

    width: int = Field(ge=1)
    std: float = Field(default=0.1, gt=0.0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    per_field: bool = False
    hash_above: int | None = Field(default=None, ge=1)
    hash_rows: int = Field(default=100_000, ge=1, lt=1 << 31)

    @model_validator(mode="before")
    @classmethod
    def _width_alone(cls, content: Any) -> Any:
        is_width = isinstance(content, int) and not isinstance(content, bool)
        return {"width": content} if is_width else content


class FeatureEmbedding(nn.Module):
    """Embeddings of a batch, in one matrix for all tables of the feature map.

    Row 0 of the matrix is padding, zero for ever; the ids 1, 2, ... of a table lie one after the other from
    the table's offset. Fields and sequences that name the same table share its rows. Ids stay integers all
    the way: no number of them collides in a float.

    A numeric field with value v is embedded as v * direction + bias.

    Args:
        feature_map: tables, fields and sequences.
        config: of the embeddings; a plain integer is their width.
    """

    offsets: Tensor

    def __init__(self, feature_map: FeatureMap, config: EmbeddingConfig | int) -> None:
        super().__init__()
        config = EmbeddingConfig.model_validate(config)
        width, std = config.width, config.std
        sizes = [size - 1 for size in feature_map.tables.values()]  # padding is shared
        starts = dict(zip(feature_map.tables, accumulate(sizes, initial=0), strict=False))
        self.sequence_starts = {name: starts[table] for name, table in feature_map.sequences.items()}
        self.register_buffer(
            "offsets",
            torch.tensor([starts[table] for table in feature_map.categorical.values()], dtype=torch.int64),
            persistent=False,
        )
        self.weight = nn.Parameter(torch.randn(1 + sum(sizes), width) * std)
        with torch.no_grad():
            self.weight[PADDING_ID].zero_()
        if feature_map.numeric:
            self.direction = nn.Parameter(torch.randn(len(feature_map.numeric), width) * std)
            self.bias = nn.Parameter(torch.randn(len(feature_map.numeric), width) * std)

    def _lookup(self, ids: Tensor, offsets: Tensor | int) -> Tensor:
        rows = torch.where(ids == PADDING_ID, PADDING_ID, ids.long() + offsets)
        return F.embedding(rows, self.weight, padding_idx=PADDING_ID)

    def fields(self, batch: Batch) -> Tensor:
        """Static fields, categorical first and numeric after them: `[B, F, d]`."""
        parts = []
        if len(self.offsets):
            parts.append(self._lookup(batch.categorical, self.offsets))
        if hasattr(self, "direction"):
            parts.append(batch.numeric.unsqueeze(-1) * self.direction + self.bias)
        return torch.cat(parts, dim=1)

    def sequences(self, batch: Batch) -> Tensor:
        """The aligned sequences side by side: `[B, L, S, d]`, S in the order of the feature map."""
        return torch.stack(
            [self._lookup(batch.sequences[name], start) for name, start in self.sequence_starts.items()],
            dim=2,
        )

    def event_mask(self, batch: Batch) -> Tensor:
        """Where there is an event, in any of the aligned sequences: bool `[B, L]`."""
        present = [batch.sequences[name] != PADDING_ID for name in self.sequence_starts]
        return torch.stack(present).any(dim=0)


class EventEmbedding(nn.Module):
    """One normalised vector an event from the embeddings of its S parts: `[..., S, d] -> [..., d]`.

    The parts are concatenated and projected back to d; one part alone is taken as it is. Normalised, because
    attention compares events by products, which embeddings are too small for at first.
    """

    def __init__(self, parts: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(parts * width, width) if parts > 1 else nn.Identity()
        self.norm = nn.LayerNorm(width)

    def forward(self, parts: Tensor) -> Tensor:
        """`[..., S, d] -> [..., d]`."""
        event: Tensor = self.norm(self.projection(parts.flatten(-2)))
        return event


class PositionEmbedding(nn.Module):
    """A learned vector for each age of an event, counted from the newest, so that padding shifts nothing.

    Events older than the last age known share its vector.
    """

    def __init__(self, ages: int, width: int, std: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(ages, width) * std)

    def forward(self, length: int) -> Tensor:
        """`[length, width]`, oldest first."""
        ages = torch.arange(length - 1, -1, -1, device=self.weight.device)
        return self.weight[ages.clamp(max=len(self.weight) - 1)]
