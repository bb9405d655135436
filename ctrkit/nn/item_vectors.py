"""Item vectors: which targets go with which events, by the histories that hold both."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.data.feature_map import FIRST_ID, FeatureMap
from ctrkit.nn.embedding_tables import known_or_unknown
from ctrkit.nn.matches import twins

WIDTH = 8
# Of fewer ids, pair terms know every pair by heart.
_LEAST_IDS = 50


class ItemVectors(nn.Module):
    """Products of the events' summed vectors with the target's vector, coordinate by coordinate.

    A sequence that shares the table of a target field of 50 ids or more has a vector for each id. They are
    no weights: `ctrkit.training.item_vectors` finds them from histories alone. A target that often stands in
    the same histories as the events has a similar vector. The sum is divided by the square root of the number
    of events, so that more events say more.

    Args:
        feature_map: sequences and fields.

    Attributes:
        pairs: the sequences -> position of the target's field.
        sizes: number of ids of each sequence's table.
        outputs: number of products.
        vectors: of all ids, the tables of all sequences one after another, `[ids, 8]`; 0 where unknown.
    """

    vectors: Tensor

    def __init__(self, feature_map: FeatureMap) -> None:
        super().__init__()
        of_table = {name: feature_map.tables[table] for name, table in feature_map.sequences.items()}
        self.pairs = {name: at for name, at in twins(feature_map).items() if of_table[name] >= _LEAST_IDS}
        self.sizes = tuple(of_table[name] for name in self.pairs)
        self.outputs = WIDTH * len(self.pairs)
        self.register_buffer("vectors", torch.zeros(sum(self.sizes), WIDTH))

    def forward(self, sequences: Mapping[str, Tensor], targets: Tensor) -> Tensor:
        """The products, `[U * K, outputs]`.

        Args:
            sequences: sequence -> int32 ids `[U, L]`.
            targets: int32 ids of the fields of U * K targets, `[U * K, F]`, K targets for each history.
        """
        products = [targets.new_zeros(len(targets), 0, dtype=self.vectors.dtype)]
        ends = accumulate(self.sizes)
        for (name, field), size, end in zip(self.pairs.items(), self.sizes, ends, strict=True):
            vectors = self.vectors[end - size : end]
            events = known_or_unknown(sequences[name]).long()
            count = (events >= FIRST_ID).sum(dim=1, keepdim=True).clamp(min=1)
            history = F.embedding(events, vectors).sum(dim=1) / count.sqrt()
            target = F.embedding(known_or_unknown(targets[:, field]).long(), vectors)
            each = len(targets) // max(len(events), 1)
            products.append(history.repeat_interleave(each, dim=0) * target)
        return torch.cat(products, dim=1)
