"""Linear terms: logistic regression over ids, crosses of fields and matches, beside a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.data.bins import Bins
from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError, nearest
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding_tables import known_or_unknown
from ctrkit.nn.matches import DECAYS, Matches, twins

# A cross of more cells shares this number of cells by a hash.
MOST_CELLS = 1 << 18
_PRIME = (1 << 31) - 1
# Multiplies the keys of a hashed column, so that a cell depends on all digits of its key: Knuth, "The Art of
# Computer Programming", volume 3, section 6.4.
_SPREAD = 1_327_217_885
# A column joins at most three parts.
_ORDER = 3


class LinearTerms(nn.Module):
    """One linear logit for each task, of features that a person would make by hand:

    - the id of every categorical field, the bin of every number, and the newest event of every sequence;
    - crosses of fields: one weight for each combination of their ids or bins;
    - pair terms: the newest event with the target's field of the same ids;
    - every number, and match terms: decayed counts of the target in the history (see `Matches`).

    The weights of ids and crosses (`cells`) are not trained by gradient steps: `ctrkit.training.linear_start`
    fits them to all training rows at once. A network beside them learns what they cannot say.

    Args:
        feature_map: fields, sequences and tasks.
        crosses: names of the fields of each cross.
        match_terms: whether there are match terms.
        pair_terms: whether there are pair terms.

    Raises:
        ConfigError: a cross names a field that has no ids and no bins.

    Attributes:
        fields: names of the fields that crosses may join.
        field_sizes: number of ids or bins of each.
        names: name of each column of ids.
        sizes: number of cells of each column.
        number_groups: sizes of the groups of columns with numbers: the numeric fields, then the match terms
            of each sequence.
        numbers: number of columns with numbers.
    """

    cells: Tensor
    bias: Tensor
    edges: Tensor
    parts: Tensor
    strides: Tensor
    starts: Tensor
    limits: Tensor
    spread: Tensor

    def __init__(
        self,
        feature_map: FeatureMap,
        crosses: Sequence[Sequence[str]] = (),
        *,
        match_terms: bool = True,
        pair_terms: bool = True,
    ) -> None:
        super().__init__()
        self.sequences, numeric = tuple(feature_map.sequences), feature_map.numeric
        bins = [feature_map.bins.get(name, Bins()).edges for name in numeric]
        self.binned = [number for number, edges in enumerate(bins) if edges]
        longest = max(map(len, bins), default=0)
        edges = [[*bins[number], *[inf] * (longest - len(bins[number]))] for number in self.binned]
        self.register_buffer("edges", torch.tensor(edges).reshape(len(edges), longest), persistent=False)
        self.fields = (*feature_map.categorical, *(numeric[number] for number in self.binned))
        self.field_sizes = (
            *(feature_map.tables[table] for table in feature_map.categorical.values()),
            *(len(bins[number]) + 2 for number in self.binned),  # bins, those beyond the edges, and missing
        )
        parts = [*self.fields, *self.sequences]
        size = [*self.field_sizes, *(feature_map.tables[table] for table in feature_map.sequences.values())]
        pairs = twins(feature_map) if match_terms or pair_terms else {}
        columns: list[tuple[int, ...]] = [(position,) for position in range(len(parts))]
        columns += [tuple(_position(name, self.fields) for name in cross) for cross in crosses]
        if pair_terms:
            columns += [(parts.index(sequence), field) for sequence, field in pairs.items()]
        self.names = tuple(" x ".join(parts[part] for part in column) for column in columns)
        counts = [prod(size[part] for part in column) for column in columns]
        self.sizes = tuple(min(count, MOST_CELLS) for count in counts)
        # A column of fewer than three parts is filled up with a part that is always 0.
        filled = [[*column, *[len(parts)] * (_ORDER - len(column))] for column in columns]
        strides = [
            [prod(size[part] for part in column[:place]) for place in range(len(column))]
            + [0] * (_ORDER - len(column))
            for column in columns
        ]
        starts = [sum(self.sizes[:place]) for place in range(len(columns))]
        spread = [_SPREAD if count > MOST_CELLS else 1 for count in counts]
        whole = {
            "parts": filled, "strides": strides, "starts": starts, "limits": self.sizes, "spread": spread
        }  # fmt: skip
        for name, values in whole.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)
        self.parts, self.strides = self.parts.reshape(-1, _ORDER), self.strides.reshape(-1, _ORDER)
        self.matches = Matches(feature_map) if match_terms and pairs else None
        targets = list(pairs.values()) if self.matches is not None else []
        self.number_groups = tuple(count for count in (len(numeric), *[len(DECAYS)] * len(targets)) if count)
        self.numbers = sum(self.number_groups)
        # Static fields in the order of the feature map, and then sequences, to which the terms belong.
        places = [feature_map.fields.index(name) for name in self.fields]
        places += [len(feature_map.fields) + place for place in range(len(self.sequences))]
        owners = [[places[part] for part in column] for column in columns]
        owners += [[len(feature_map.categorical) + number] for number in range(len(numeric))]
        owners += [[target] for target in targets for _ in DECAYS]
        self.terms = _Terms(owners, len(feature_map.fields) + len(self.sequences))
        tasks = len(feature_map.tasks)
        self.register_buffer("cells", torch.zeros(sum(self.sizes), tasks))
        self.register_buffer("bias", torch.zeros(tasks))
        self.slopes = nn.Parameter(torch.zeros(self.numbers, tasks))

    def forward(self, batch: Batch, sequences: Mapping[str, Tensor]) -> Tensor:
        """The logits, `[U * K, T]`.

        Args:
            batch: its static fields are read; U * K rows.
            sequences: sequence -> ids of U histories, `[U, L]`, for K consecutive rows each.
        """
        terms: Tensor = self.terms(*self.columns(batch, sequences), self.cells, self.slopes)
        return terms.sum(dim=1) + self.bias

    def columns(self, batch: Batch, sequences: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The features: positions in `cells`, int64 `[U * K, columns]`, and numbers `[U * K, numbers]`."""
        ids = [self.field_ids(batch)]
        for name in self.sequences:
            newest = known_or_unknown(F.pad(sequences[name], (1, 0))[:, -1:])
            ids.append(newest.repeat_interleave(len(batch) // max(len(newest), 1), dim=0))
        parts = F.pad(torch.cat(ids, dim=1), (0, 1)).long()
        keys = (parts[:, self.parts] * self.strides).sum(dim=2)
        cells = self.starts + (keys.remainder(_PRIME) * self.spread).remainder(_PRIME).remainder(self.limits)
        numbers = [batch.numeric.nan_to_num()]
        if self.matches is not None:
            numbers.append(self.matches(sequences, batch.categorical))
        return cells, torch.cat(numbers, dim=1)

    def field_ids(self, batch: Batch) -> Tensor:
        """Ids of the categorical fields and bins of the numbers, int64 `[B, fields]`; bin 0 is missing."""
        numbers = batch.numeric[:, self.binned]
        bins = 1 + (numbers.unsqueeze(2) >= self.edges).sum(dim=2)
        known = known_or_unknown(batch.categorical).long()
        return torch.cat([known, bins.masked_fill(numbers.isnan(), 0)], dim=1)


class _Terms(nn.Module):
    """What each column adds to the logits. Explanations record and replace its outputs.

    Args:
        owners: the parts of a row that each term belongs to, in equal shares: a cross to its fields, a match
            term to the target's field.
        parts: number of parts: static fields, then the newest event of each sequence.

    Attributes:
        shares: the share of each part in each term, `[terms, parts]`.
    """

    shares: Tensor

    def __init__(self, owners: Sequence[Sequence[int]], parts: int) -> None:
        super().__init__()
        shares = torch.zeros(len(owners), parts)
        for term, mine in enumerate(owners):
            shares[term, list(mine)] = 1.0 / len(mine)
        self.register_buffer("shares", shares, persistent=False)

    def forward(self, cells: Tensor, numbers: Tensor, weights: Tensor, slopes: Tensor) -> Tensor:
        """Terms of cells `[B, C]` and of numbers `[B, J]`: `[B, C + J, T]`."""
        return torch.cat([F.embedding(cells, weights), numbers.unsqueeze(2) * slopes], dim=1)


def _position(name: str, fields: Sequence[str]) -> int:
    if name not in fields:
        raise ConfigError(
            f"model.crosses: '{name}' is no categorical feature, and no number with bins",
            hint=nearest(name, fields),
        )
    return fields.index(name)
