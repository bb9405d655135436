"""Embeddings: every id of every table in one matrix, numbers as a direction each, sequences as events."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.data.batches import PADDING_ID, Batch, FeatureMap


class FeatureEmbedding(nn.Module):
    """Embeddings of a batch, in one matrix for all tables of the feature map.

    Row 0 of the matrix is padding, zero for ever; the ids 1, 2, ... of a table lie one after the other from
    the table's offset. Fields and sequences that name the same table share its rows. Ids stay integers all
    the way: no number of them collides in a float.

    A numeric field with value v is embedded as v * direction + bias.

    Args:
        feature_map: tables, fields and sequences.
        width: d, of each embedding.
        std: of the normal distribution that rows are drawn from. FuxiCTR's 0.0001 makes products of
            embeddings vanish, and with them the gradients of everything that compares ids: cross networks
            and target attention then start out blind, and learn late that two ids are the same.
    """

    offsets: Tensor

    def __init__(self, feature_map: FeatureMap, width: int, std: float = 0.1) -> None:
        super().__init__()
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
