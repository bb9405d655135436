"""Bags of ids as one vector a row: the sum, the mean or the maximum of the vectors of their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ctrkit.data.feature_map import PADDING_ID, Bag
from ctrkit.nn.batches import Batch


class BagReader(nn.Module):
    """The pooled vectors of all bags; an empty bag has the vector 0.

    Args:
        bags: the bags.
        columns: reads the ids `[..., 1]` of each bag as vectors `[..., 1, d]`.
    """

    def __init__(self, bags: Mapping[str, Bag], columns: Sequence[nn.Module]) -> None:
        super().__init__()
        self.bags, self.columns = dict(bags), nn.ModuleList(columns)

    def forward(self, batch: Batch, kinds: nn.ModuleList) -> Tensor:
        """`[B, M, d]` of M bags.

        Args:
            batch: the rows.
            kinds: the embedding tables.
        """
        pooled = []
        for (name, bag), columns in zip(self.bags.items(), self.columns, strict=True):
            ids = batch.bags[name]
            vectors = columns(ids.unsqueeze(-1), kinds).squeeze(-2)  # [B, L, d]
            if bag.pooling == "max":
                padding = (ids == PADDING_ID).unsqueeze(2)
                highest = vectors.masked_fill(padding, -torch.inf).amax(dim=1)
                pooled.append(highest.masked_fill(padding.all(dim=1), 0.0))
            else:
                pooled.append((amounts_of(batch, name, bag).unsqueeze(2) * vectors).sum(dim=1))
        return torch.stack(pooled, dim=1)


def amounts_of(batch: Batch, name: str, bag: Bag) -> Tensor:
    """By how much each id of a bag counts, `[B, L]`; 0 for padding.

    Its weight, or 1; for the mean, divided by the sum of the row's. Under `max` each counts 1, for readers
    that only add.
    """
    there = (batch.bags[name] != PADDING_ID).to(batch.numeric.dtype)
    amounts = there * batch.bag_weights[name] if bag.weighted else there
    if bag.pooling != "mean":
        return amounts
    total = amounts.sum(dim=1, keepdim=True)
    return amounts / total.masked_fill(total == 0.0, 1.0)
