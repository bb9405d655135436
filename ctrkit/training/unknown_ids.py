"""The unknown id, which training may never meet and every new ad or user becomes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ctrkit.arrays import Integers
from ctrkit.data.encoder import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.nn.embedding import FeatureEmbedding


def id_counts(feature_map: FeatureMap, data: EncodedTable, rows: Integers) -> dict[str, Tensor]:
    """How often each id stands in the rows, by their weight: column -> `[ids of its table]`.

    Args:
        data: the static fields, the sequences, or both.
    """
    weight = data.weight[rows].astype(np.float64)
    found: dict[str, Tensor] = {}
    static = feature_map.categorical.items() if data.categorical.shape[1] else ()
    for at, (name, table) in enumerate(static):
        counts = np.bincount(data.categorical[rows, at], weight, feature_map.tables[table])
        found[name] = torch.from_numpy(counts)
    for name, sequence in data.sequences.items():
        table, events = feature_map.sequences[name], sequence[rows]
        each = np.repeat(weight, events.shape[1])
        found[name] = torch.from_numpy(np.bincount(events.ravel(), each, feature_map.tables[table]))
    return found


def settle_unknown(model: nn.Module, counts: Mapping[str, Tensor]) -> None:
    """See `FeatureEmbedding.settle_unknown`, of all embeddings of a model."""
    for module in model.modules():
        if isinstance(module, FeatureEmbedding):
            module.settle_unknown(counts)
