"""Every static field as ids: those of categories, bins of numbers, and quarters of what has an order."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor, nn

from ctrkit.data.bins import Bins
from ctrkit.data.feature_map import FeatureMap
from ctrkit.data.quarters import LEAST_VALUES, quarters_of
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding_tables import known_or_unknown

_QUARTER_IDS = 5


class FieldIds(nn.Module):
    """Ids of the categorical fields, bins of the numbers, and quarters of both where they have an order.

    A number without bins has the ids of present and missing, if the training rows have missing ones.

    An hour in quarters is a part of the day, and a price in quarters is low, fair, high or very high. In a
    cross of several fields, quarters need far fewer rows than hours and bins.

    Args:
        feature_map: the fields.

    Attributes:
        names: of all columns; a field in quarters is named "... in quarters".
        sizes: number of ids of each.
        owners: the position of each column's field in `FeatureMap.fields`.
        whole: the number of columns before those in quarters.
    """

    edges: Tensor
    quarters: Tensor
    rows: Tensor

    def __init__(self, feature_map: FeatureMap) -> None:
        super().__init__()
        numeric, categorical = feature_map.numeric, tuple(feature_map.categorical)
        bins = [feature_map.bins.get(name, Bins()).edges for name in numeric]
        # A number of few values or rows has no bins, but missing numbers of it are information too.
        holed = [name in feature_map.missing for name in numeric]
        self.binned = [number for number, edges in enumerate(bins) if edges or holed[number]]
        edges = _padded([(-inf, *bins[n]) for n in self.binned], inf)
        self.register_buffer("edges", edges, persistent=False)
        names = (*categorical, *(numeric[number] for number in self.binned))
        # A number has the bins, those beyond its edges, and missing.
        sizes = (
            *(feature_map.tables[table] for table in feature_map.categorical.values()),
            *(len(bins[number]) + 2 for number in self.binned),
        )
        ordered = [feature_map.quarters.get(name, ()) for name in categorical]
        ordered += [(0, *quarters_of(range(len(bins[n]) + 1))) for n in self.binned]
        self.ordered = [place for place, of in enumerate(ordered) if len(of) > LEAST_VALUES]
        quarters = _padded([ordered[place] for place in self.ordered], 0).long()
        self.register_buffer("quarters", quarters, persistent=False)
        self.register_buffer("rows", torch.arange(len(self.ordered)), persistent=False)
        owners = [feature_map.fields.index(name) for name in names]
        self.whole = len(names)
        self.names = (*names, *(f"{names[place]} in quarters" for place in self.ordered))
        self.sizes = (*sizes, *[_QUARTER_IDS] * len(self.ordered))
        self.owners = (*owners, *(owners[place] for place in self.ordered))

    def forward(self, batch: Batch) -> Tensor:
        """The ids, int64 `[B, columns]`. Bin 0 and quarter 0 are missing or unknown."""
        numbers = batch.numeric[:, self.binned]
        bins = (numbers.unsqueeze(2) >= self.edges).sum(dim=2)
        known = known_or_unknown(batch.categorical).long()
        ids = torch.cat([known, bins.masked_fill(numbers.isnan(), 0)], dim=1)
        return torch.cat([ids, self.quarters[self.rows, ids[:, self.ordered]]], dim=1)


def _padded(rows: Sequence[Sequence[float]], value: float) -> Tensor:
    longest = max(map(len, rows), default=0)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows]).reshape(len(rows), longest)
