"""Embeddings: ids of all tables and numbers as vectors of one width, sequences as events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.config import Config
from ctrkit.data.bins import MOST_BINS, Bins
from ctrkit.data.feature_map import FIRST_ID, PADDING_ID, UNKNOWN_ID, FeatureMap
from ctrkit.errors import ConfigError, nearest
from ctrkit.nn.bags import BagReader
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding_tables import (
    HashedTables,
    ProjectedTables,
    StackedTables,
    known_or_unknown,
    own_dimension,
)
from ctrkit.nn.numbers import NumberReader
from ctrkit.nn.vectors import VectorReader

# Training must see the unknown id this often before its vector is learned rather than random: a step of Adam
# moves it by about the learning rate.
_TRAINED = 100

Tables: TypeAlias = StackedTables | ProjectedTables | HashedTables


class EmbeddingConfig(Config):
    """How ids and numbers become vectors. A plain integer sets only `width`.

    Attributes:
        width: d, the width of every vector that a model gets.
        std: standard deviation of the initial vectors. With FuxiCTR's 0.0001 the products of embeddings
            vanish, and so do the gradients of everything that compares ids. Cross networks and target
            attention then learn late that two ids are the same.
        dropout: share of whole vectors that training drops: a field of a row, or an event of a history with
            all its parts, because the parts of an event are correlated. The other vectors are scaled by
            1 / (1 - dropout).
        per_field: whether a table of n ids has the dimension min(50, n ** 1/4), projected to `width`.
        hash_above: tables of more ids than this become hash embeddings. `per_field` does not change these.
        hash_rows: number of rows that all hash embeddings share.
        bins: largest number of bins of a number, between which its vector is interpolated; 0 for none. There
            are fewer where training rows or distinct numbers are few (see `ctrkit.data.bins`). 32 cost more
            than 16 and are no better (`benchmarks/number_bins.py`). The model
            applies this to its feature map, so that it holds for all its embeddings.
    """

    width: int = Field(ge=1)
    std: float = Field(default=0.1, gt=0.0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    per_field: bool = False
    hash_above: int | None = Field(default=None, ge=1)
    hash_rows: int = Field(default=100_000, ge=1, lt=1 << 31)
    bins: int = Field(default=16, ge=0, le=MOST_BINS)

    @model_validator(mode="before")
    @classmethod
    def _width_alone(cls, content: Any) -> Any:
        is_width = isinstance(content, int) and not isinstance(content, bool)
        return {"width": content} if is_width else content


class FeatureEmbedding(nn.Module):
    """Embeddings of a batch: of the ids of every table of the feature map, and of its numbers.

    All tables lie in one matrix, unless the config gives them dimensions of their own (then one matrix for
    each dimension) or hashes the large ones. Fields and sequences that name the same table share its vectors.
    Ids stay integers, so no two ids collide in a float. The vector of padding is always zero.

    A number is embedded as a line, v * direction + bias, plus an interpolation between vectors of its bins'
    edges; a missing number has a vector of its own (see `NumberReader`). A bag is pooled (see `BagReader`),
    and a pretrained vector projected (see `VectorReader`).

    Args:
        feature_map: tables, fields and sequences.
        config: settings of the embeddings; a plain integer is their width.

    Raises:
        ConfigError: a table has no ids, or a field, sequence or bag names a table that is not there.
    """

    def __init__(self, feature_map: FeatureMap, config: EmbeddingConfig | int) -> None:
        super().__init__()
        config = EmbeddingConfig.model_validate(config)
        _check(feature_map)
        self.width, self.dropout = config.width, config.dropout
        self.sequence_names = tuple(feature_map.sequences)
        bags = {name: bag.table for name, bag in feature_map.bags.items()}
        self.table_of = {**feature_map.categorical, **feature_map.sequences, **bags}
        kinds = list(_kinds(feature_map, config))
        self.kinds = nn.ModuleList(kinds)
        self.field_columns = _Columns(kinds, tuple(feature_map.categorical.values()))
        self.sequence_columns = _Columns(kinds, tuple(feature_map.sequences.values()))
        if bags:
            self.bags = BagReader(feature_map.bags, [_Columns(kinds, (table,)) for table in bags.values()])
        if feature_map.numeric:
            self.direction = nn.Parameter(torch.randn(len(feature_map.numeric), config.width) * config.std)
            self.bias = nn.Parameter(torch.randn(len(feature_map.numeric), config.width) * config.std)
            bins = [feature_map.bins.get(name, Bins()) for name in feature_map.numeric]
            self.numbers = NumberReader(bins, feature_map.centre_of_numbers)
            # At 0 a missing number is read as the mean number, which stays so if training has none.
            self.missing = nn.Parameter(torch.zeros_like(self.bias)) if feature_map.bins else None
            steps = torch.zeros(len(bins), self.numbers.steps, config.width)
            self.steps = nn.Parameter(steps) if self.numbers.steps else None
        if feature_map.vectors:
            self.vectors = VectorReader(feature_map.vectors, config.width, config.std)

    def fields(self, batch: Batch) -> Tensor:
        """Static fields, categorical first, then numeric, bags and vectors: `[B, F, d]`."""
        parts = []
        if self.field_columns.used:
            parts.append(self.field_columns(batch.categorical, self.kinds))
        if hasattr(self, "direction"):
            parts.append(self.numbers(batch.numeric, self.direction, self.bias, self.steps, self.missing))
        if hasattr(self, "bags"):
            parts.append(self.bags(batch, self.kinds))
        if hasattr(self, "vectors"):
            parts.append(self.vectors(batch))
        if not parts:
            return batch.numeric.new_zeros(len(batch), 0, self.width)
        return self._drop(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])

    def sequences(self, batch: Batch) -> Tensor:
        """The aligned sequences side by side: `[B, L, S, d]`, S in the order of the feature map."""
        ids = torch.stack([batch.sequences[name] for name in self.sequence_names], dim=2)
        return self._drop(self.sequence_columns(ids, self.kinds))

    def event_mask(self, batch: Batch) -> Tensor:
        """Where there is an event, in any of the aligned sequences: bool `[B, L]`."""
        present = [batch.sequences[name] != PADDING_ID for name in self.sequence_names]
        return torch.stack(present).any(dim=0)

    def settle_unknown(self, counts: Mapping[str, Tensor]) -> None:
        """Set the unknown id's vector in every table whose unknown id is rare in the training rows.

        The vector becomes the mean of the vectors of all ids, the best guess for an id of which nothing is
        known (`benchmarks/unknown_ids.py`). Otherwise new ids would have the initial random vector. Vectors
        of other ids do not change.

        Args:
            counts: column -> number of times that each id occurs in the training rows, `[ids]`.
        """
        for kind in self.kinds:
            assert isinstance(kind, Tables)
            for table in kind.names:
                seen = sum(counts[column] for column, of in self.table_of.items() if of == table)
                if isinstance(seen, Tensor) and seen[UNKNOWN_ID] < _TRAINED and seen[FIRST_ID:].any():
                    kind.settle_unknown(table, seen)

    def _drop(self, vectors: Tensor) -> Tensor:
        """Drop whole fields of `[B, F, d]`, or whole events of `[B, L, S, d]`."""
        if not (self.training and self.dropout):
            return vectors
        shape = vectors.shape[:2] + (1,) * (vectors.dim() - 2)
        return vectors * F.dropout(vectors.new_ones(shape), self.dropout)


class _Columns(nn.Module):
    """Columns of ids, each read from its table of any kind.

    Args:
        kinds: modules that hold the tables, one for each kind.
        tables: name of each column's table.
    """

    order: Tensor

    def __init__(self, kinds: Sequence[Tables], tables: Sequence[str]) -> None:
        super().__init__()
        columns = [[c for c, table in enumerate(tables) if table in kind.names] for kind in kinds]
        self.used = [k for k, chosen in enumerate(columns) if chosen]
        for k in self.used:
            positions = [kinds[k].names.index(tables[column]) for column in columns[k]]
            self.register_buffer(f"columns_{k}", torch.tensor(columns[k]), persistent=False)
            self.register_buffer(f"tables_{k}", torch.tensor(positions), persistent=False)
        order = torch.tensor([column for chosen in columns for column in chosen], dtype=torch.int64)
        self.register_buffer("order", order.argsort(), persistent=False)

    def forward(self, ids: Tensor, kinds: nn.ModuleList) -> Tensor:
        """`[..., C] -> [..., C, d]`."""
        ids = known_or_unknown(ids)
        if len(self.used) == 1:
            vectors: Tensor = kinds[self.used[0]](ids, self.get_buffer(f"tables_{self.used[0]}"))
            return vectors
        parts = [
            kinds[k](ids.index_select(-1, self.get_buffer(f"columns_{k}")), self.get_buffer(f"tables_{k}"))
            for k in self.used
        ]
        return torch.cat(parts, dim=-2).index_select(-2, self.order)


def _kinds(feature_map: FeatureMap, config: EmbeddingConfig) -> Iterator[Tables]:
    """The tables of a feature map, of each kind that the config asks for."""
    hash_above = float("inf") if config.hash_above is None else config.hash_above
    hashed = {name: size for name, size in feature_map.tables.items() if size > hash_above}
    plain = {name: size for name, size in feature_map.tables.items() if size <= hash_above}
    if plain and not config.per_field:
        yield StackedTables(plain, config.width, config.std)
    if config.per_field:
        for dimension in sorted({own_dimension(size) for size in plain.values()}):
            sizes = {name: size for name, size in plain.items() if own_dimension(size) == dimension}
            yield ProjectedTables(sizes, dimension, config.width, config.std)
    if hashed:
        yield HashedTables(hashed, config.hash_rows, config.width, config.std)


def _check(feature_map: FeatureMap) -> None:
    for table, size in feature_map.tables.items():
        if size < FIRST_ID:
            raise ConfigError(
                f"the embedding table '{table}' has no ids",
                hint="Give it at least the ids of padding and unknown, or remove the feature",
            )
    bags = ((name, bag.table) for name, bag in feature_map.bags.items())
    for name, table in chain(feature_map.categorical.items(), feature_map.sequences.items(), bags):
        if table not in feature_map.tables:
            raise ConfigError(
                f"'{name}' uses the embedding table '{table}', which does not exist",
                hint=nearest(table, feature_map.tables),
            )


class EventEmbedding(nn.Module):
    """One vector for each event from the embeddings of its S parts: `[..., S, d] -> [..., d]`.

    The parts are concatenated and projected to d. A single part is not projected.

    Args:
        parts: S.
        width: d.
        normalise: whether each vector is scaled to the length sqrt(d). Attention compares events by products,
            and initial embeddings are too small for that.
    """

    def __init__(self, parts: int, width: int, *, normalise: bool = True) -> None:
        super().__init__()
        self.projection = nn.Linear(parts * width, width) if parts > 1 else nn.Identity()
        self.norm = nn.LayerNorm(width) if normalise else nn.Identity()

    def forward(self, parts: Tensor) -> Tensor:
        """`[..., S, d] -> [..., d]`."""
        event: Tensor = self.norm(self.projection(parts.flatten(-2)))
        return event


class PositionEmbedding(nn.Module):
    """A learned vector for each age of an event. Ages count from the newest event, so padding shifts none.

    Events older than the last age share its vector.
    """

    def __init__(self, ages: int, width: int, std: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(ages, width) * std)

    def forward(self, length: int) -> Tensor:
        """`[length, width]`, oldest first."""
        ages = torch.arange(length - 1, -1, -1, device=self.weight.device)
        return self.weight[ages.clamp(max=len(self.weight) - 1)]
