"""The unknown id: every new ad or user gets it, and training may never see it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ctrkit.arrays import Booleans, Integers
from ctrkit.data.encoded import EncodedColumn, EncodedTable
from ctrkit.data.feature_map import FeatureMap, is_unknown, rows_of_tables
from ctrkit.nn.embedding import FeatureEmbedding

# Smaller differences between the shares of unknown ids in training and validation rows are usual.
_MORE_UNKNOWN = 0.01
# Rows that are counted at a time.
_AT_ONCE = 1 << 20


def id_counts(feature_map: FeatureMap, data: EncodedTable, rows: Integers) -> dict[str, Tensor]:
    """The weighted number of times that each id occurs in the rows: column -> `[ids of its table]`.

    Args:
        feature_map: columns and tables.
        data: the encoded static fields, sequences, or both.
        rows: which rows to count.
    """
    tables = {**(feature_map.categorical if data.categorical.shape[1] else {})}
    tables |= {name: feature_map.sequences[name] for name in data.sequences}
    tables |= {name: feature_map.bags[name].table for name in data.bags}
    found = {name: np.zeros(feature_map.tables[table]) for name, table in tables.items()}
    for first in range(0, rows.size, _AT_ONCE):
        some = rows[first : first + _AT_ONCE]
        weight, ids = data.weight[some].astype(np.float64), data.categorical.take(some, axis=0)
        for name, column in zip(feature_map.categorical if ids.shape[1] else (), ids.T, strict=True):
            found[name] += np.bincount(rows_of_tables(column), weight, found[name].size)
        columns: Mapping[str, EncodedColumn] = {**data.sequences, **data.bags}
        for name, lists in columns.items():
            events = rows_of_tables(lists[some])
            each = np.repeat(weight, events.shape[1])
            found[name] += np.bincount(events.ravel(), each, found[name].size)
    return {name: torch.from_numpy(counts) for name, counts in found.items()}


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
