"""The unknown id: every new ad or user gets it, and training may never see it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ctrkit.arrays import Booleans, Integers
from ctrkit.data.encoder import EncodedTable
from ctrkit.data.feature_map import FeatureMap, is_unknown, rows_of_tables
from ctrkit.nn.embedding import FeatureEmbedding

# Smaller differences between the shares of unknown ids in training and validation rows are usual.
_MORE_UNKNOWN = 0.01


def id_counts(feature_map: FeatureMap, data: EncodedTable, rows: Integers) -> dict[str, Tensor]:
    """The weighted number of times that each id occurs in the rows: column -> `[ids of its table]`.

    Args:
        feature_map: columns and tables.
        data: the encoded static fields, sequences, or both.
        rows: which rows to count.
    """
    weight = data.weight[rows].astype(np.float64)
    found: dict[str, Tensor] = {}
    static = feature_map.categorical.items() if data.categorical.shape[1] else ()
    for at, (name, table) in enumerate(static):
        counts = np.bincount(rows_of_tables(data.categorical[rows, at]), weight, feature_map.tables[table])
        found[name] = torch.from_numpy(counts)
    for name, sequence in data.sequences.items():
        table, events = feature_map.sequences[name], rows_of_tables(sequence[rows])
        each = np.repeat(weight, events.shape[1])
        found[name] = torch.from_numpy(np.bincount(events.ravel(), each, feature_map.tables[table]))
    return found


def hidden_ids(data: EncodedTable, rows: Integers, valid: Integers) -> Booleans:
    """Ids of the training rows to hide, so that as many are unknown as in the validation rows, `[n, F]`.

    Where most items are new, a model that has weights of items leaves too little to the features that still
    say something of a new one. So items are taken at random, and all of their rows are read as if the item
    were new. Fields with a usual share of unknown ids keep all ids.

    Args:
        data: the encoded rows.
        rows: the training rows.
        valid: the validation rows.
    """
    rng = np.random.default_rng(0)
    hidden = np.zeros((rows.size, data.categorical.shape[1]), dtype=np.bool_)
    for field, ids in enumerate(data.categorical[rows].T):
        usual, later = (np.mean(is_unknown(one)) for one in (ids, data.categorical[valid, field]))
        if later - usual > _MORE_UNKNOWN:
            distinct = np.unique(ids)
            new = distinct[rng.random(distinct.size) < (later - usual) / (1.0 - usual)]
            hidden[:, field] = np.isin(ids, new)
    return hidden


def settle_unknown(model: nn.Module, counts: Mapping[str, Tensor]) -> None:
    """Apply `FeatureEmbedding.settle_unknown` to all embeddings of a model."""
    for module in model.modules():
        if isinstance(module, FeatureEmbedding):
            module.settle_unknown(counts)
