"""First-order terms: a weight for each feature, as in logistic regression."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ctrkit.data.feature_map import PADDING_ID, FeatureMap
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import EmbeddingConfig, FeatureEmbedding
from ctrkit.nn.history import HistoryState
from ctrkit.nn.pooling import expand_shared

# Near zero: there is no symmetry to break, and an id that training never sees keeps its initial noise.
# Never hashed: a hash embedding has two weights for each id, and here each id has one weight.
WEIGHTS = EmbeddingConfig(width=1, std=0.01)


class FirstOrder(nn.Module):
    """The first-order terms of a linear model, ready to be summed: the weight of each field's id, a linear
    function of each number and of each vector (as the file has it, if it is looked up), the pooled weights of
    each bag, and for each sequence the mean weight of its events.

    Each field and each sequence has weights of its own, also where they share a table of embeddings: the ad
    that is shown and an ad that was clicked before are two features.

    Args:
        feature_map: fields and sequences.
        config: settings of the weights, as embeddings of width 1.

    Attributes:
        outputs: F + S, the number of terms.
    """

    def __init__(self, feature_map: FeatureMap, config: EmbeddingConfig = WEIGHTS) -> None:
        super().__init__()
        self.sequences = tuple(feature_map.sequences)
        self.outputs = len(feature_map.fields) + len(self.sequences)
        bags = {name: bag.table for name, bag in feature_map.bags.items()}
        columns = {**feature_map.categorical, **feature_map.sequences, **bags}
        own = replace(
            feature_map,
            tables={column: feature_map.tables[table] for column, table in columns.items()},
            categorical={column: column for column in feature_map.categorical},
            sequences={column: column for column in feature_map.sequences},
            bags={name: replace(bag, table=name) for name, bag in feature_map.bags.items()},
            vectors={name: replace(one, table=None) for name, one in feature_map.vectors.items()},
        )
        self.weights = FeatureEmbedding(own, config)

    def forward(self, batch: Batch, history: HistoryState | None) -> Tensor:
        """The terms, `[B, F + S]`: of fields, then of sequences; zero for an empty history.

        Args:
            batch: its static fields are read.
            history: U histories, for B = U x K rows; None where the feature map has no sequences.
        """
        fields = self.weights.fields(batch).squeeze(-1)
        if history is None:
            return fields
        events = self.weights.sequences(replace(batch, sequences=history.ids)).squeeze(-1)  # [U, L, S]
        present = torch.stack([history.ids[name] != PADDING_ID for name in self.sequences], dim=2)
        means = events.sum(dim=1) / present.sum(dim=1).clamp(min=1)  # [U, S]
        candidates = len(fields) // max(len(history), 1)
        return torch.cat([fields, expand_shared(means, candidates).flatten(0, 1)], dim=1)
