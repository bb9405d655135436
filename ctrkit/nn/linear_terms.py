"""Linear terms: logistic regression over ids, crosses of fields and matches, beside a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError, nearest
from ctrkit.nn.bags import amounts_of
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding_tables import known_or_unknown
from ctrkit.nn.field_ids import FieldIds
from ctrkit.nn.item_vectors import WIDTH, ItemVectors
from ctrkit.nn.matches import DECAYS, Matches, twins
from ctrkit.nn.numbers import present
from ctrkit.nn.vectors import known_vectors

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

    - the id of every categorical field, the bin of every number and whether it is missing, and the newest
      event of every sequence;
    - crosses of fields: one weight for each combination of their ids, bins or quarters (see `FieldIds`);
    - pair terms: the newest event with the target's field of the same ids;
    - the ids of every bag, each as often as it counts in the bag (see `amounts_of`);
    - every number, the mean number where one is missing;
    - the numbers of every vector (as the file has it, if it is looked up), and whether it is missing;
    - match terms: decayed counts of the target in the history (see `Matches`);
    - co-occurrence terms: how often other histories hold the events and the target (see `ItemVectors`).

    The weights of ids and crosses (`cells`) are not trained by gradient steps: `ctrkit.training.linear_start`
    fits them to all training rows at once. A network beside them learns what they cannot say.

    Args:
        feature_map: fields, sequences and tasks.
        crosses: names of the fields of each cross.
        match_terms: whether there are match terms.
        pair_terms: whether there are pair terms.
        co_occurrence_terms: whether there are co-occurrence terms.

    Raises:
        ConfigError: a cross names a field that has no ids, no bins and no missing numbers.

    Attributes:
        field_ids: the fields that crosses may join.
        names: name of each column of ids, and then of each bag.
        sizes: number of cells of each.
        columns: number of columns of cells; the last `bag_columns` are the places of all bags.
        number_groups: sizes of the groups of columns with numbers: the numeric fields, then each vector, then
            the match terms and then the co-occurrence terms of each sequence.
        numbers: number of columns with numbers.
    """

    cells: Tensor
    bias: Tensor
    parts: Tensor
    strides: Tensor
    starts: Tensor
    limits: Tensor
    spread: Tensor
    centres: Tensor

    def __init__(
        self,
        feature_map: FeatureMap,
        crosses: Sequence[Sequence[str]] = (),
        *,
        match_terms: bool = True,
        pair_terms: bool = True,
        co_occurrence_terms: bool = True,
    ) -> None:
        super().__init__()
        self.sequences, numeric = tuple(feature_map.sequences), feature_map.numeric
        self.field_ids = FieldIds(feature_map)
        self.register_buffer("centres", torch.tensor(feature_map.centre_of_numbers), persistent=False)
        fields = self.field_ids.names
        parts = [*fields, *self.sequences]
        size = [
            *self.field_ids.sizes,
            *(feature_map.tables[table] for table in feature_map.sequences.values()),
        ]
        pairs = twins(feature_map) if match_terms or pair_terms else {}
        alone = [*range(self.field_ids.whole), *range(len(fields), len(parts))]
        columns: list[tuple[int, ...]] = [(position,) for position in alone]
        columns += [tuple(_position(name, fields) for name in cross) for cross in crosses]
        if pair_terms:
            columns += [(parts.index(sequence), field) for sequence, field in pairs.items()]
        self.bags, self.vectors = dict(feature_map.bags), tuple(feature_map.vectors)
        of_vectors = [one.width + 1 for one in feature_map.vectors.values()]
        names = [" x ".join(parts[part] for part in column) for column in columns]
        self.names = (*names, *self.bags)
        counts = [prod(size[part] for part in column) for column in columns]
        of_columns = [min(count, MOST_CELLS) for count in counts]
        self.sizes = (*of_columns, *(feature_map.tables[bag.table] for bag in self.bags.values()))
        self.bag_columns = sum(bag.length for bag in self.bags.values())
        self.columns = len(columns) + self.bag_columns
        # A column of fewer than three parts is filled up with a part that is always 0.
        filled = [[*column, *[len(parts)] * (_ORDER - len(column))] for column in columns]
        strides = [
            [prod(size[part] for part in column[:place]) for place in range(len(column))]
            + [0] * (_ORDER - len(column))
            for column in columns
        ]
        every = [sum(self.sizes[:place]) for place in range(len(self.sizes))]
        starts, self.bag_starts = every[: len(columns)], every[len(columns) :]
        spread = [_SPREAD if count > MOST_CELLS else 1 for count in counts]
        whole = {
            "parts": filled, "strides": strides, "starts": starts, "limits": of_columns, "spread": spread
        }  # fmt: skip
        for name, values in whole.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)
        self.parts, self.strides = self.parts.reshape(-1, _ORDER), self.strides.reshape(-1, _ORDER)
        self.matches = Matches(feature_map) if match_terms and pairs else None
        self.items = ItemVectors(feature_map) if co_occurrence_terms else None
        matched = list(pairs.values()) if self.matches is not None else []
        together = list(self.items.pairs.values()) if self.items is not None else []
        groups = (len(numeric), *of_vectors, *[len(DECAYS)] * len(matched), *[WIDTH] * len(together))
        self.number_groups = tuple(count for count in groups if count)
        self.numbers = sum(self.number_groups)
        # Static fields in the order of the feature map, and then sequences, to which the terms belong.
        places = [*self.field_ids.owners]
        places += [len(feature_map.fields) + place for place in range(len(self.sequences))]
        owners = [[places[part] for part in column] for column in columns]
        of_bags = len(feature_map.categorical) + len(numeric)
        owners += [[of_bags + bag] for bag, one in enumerate(self.bags.values()) for _ in range(one.length)]
        owners += [[len(feature_map.categorical) + number] for number in range(len(numeric))]
        for name, columns_of_it in zip(self.vectors, of_vectors, strict=True):
            owners += [[feature_map.fields.index(name)]] * columns_of_it
        owners += [[target] for target in matched for _ in DECAYS]
        owners += [[target] for target in together for _ in range(WIDTH)]
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
        cells, numbers = self.positions(batch, sequences), self.number_columns(batch, sequences)
        terms: Tensor = self.terms(cells, self.amounts(batch), numbers, self.cells, self.slopes)
        return terms.sum(dim=1) + self.bias

    def positions(self, batch: Batch, sequences: Mapping[str, Tensor]) -> Tensor:
        """Positions in `cells` of the columns of ids and the places of bags, int64 `[U * K, columns]`."""
        ids = [self.field_ids(batch)]
        for name in self.sequences:
            newest = known_or_unknown(F.pad(sequences[name], (1, 0))[:, -1:])
            ids.append(newest.repeat_interleave(len(batch) // max(len(newest), 1), dim=0))
        parts = F.pad(torch.cat(ids, dim=1), (0, 1)).long()
        keys = (parts[:, self.parts] * self.strides).sum(dim=2)
        spread = (keys.remainder(_PRIME) * self.spread).remainder(_PRIME)
        cells = [self.starts + spread.remainder(self.limits)]
        for name, start in zip(self.bags, self.bag_starts, strict=True):
            cells.append(start + known_or_unknown(batch.bags[name]).long())
        return torch.cat(cells, dim=1)

    def amounts(self, batch: Batch) -> Tensor:
        """By how much the places of bags count, `[U * K, bag_columns]`."""
        found = [amounts_of(batch, name, bag) for name, bag in self.bags.items()]
        return torch.cat([batch.numeric.new_zeros(len(batch), 0), *found], dim=1)

    def number_columns(self, batch: Batch, sequences: Mapping[str, Tensor]) -> Tensor:
        """The columns with numbers, `[U * K, numbers]`."""
        numbers = [present(batch.numeric, self.centres)]
        for name in self.vectors:
            numbers += known_vectors(batch, name)
        for terms in (self.matches, self.items):
            if terms is not None:
                numbers.append(terms(sequences, batch.categorical))
        return torch.cat(numbers, dim=1)


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

    def forward(
        self, cells: Tensor, amounts: Tensor, numbers: Tensor, weights: Tensor, slopes: Tensor
    ) -> Tensor:
        """Terms of cells `[B, C]` and of numbers `[B, J]`: `[B, C + J, T]`. The last A cells count as
        `amounts` `[B, A]` say, all others once."""
        once, more = F.embedding(cells, weights).tensor_split([cells.shape[1] - amounts.shape[1]], dim=1)
        return torch.cat([once, more * amounts.unsqueeze(2), numbers.unsqueeze(2) * slopes], dim=1)


def _position(name: str, fields: Sequence[str]) -> int:
    if name not in fields:
        raise ConfigError(
            f"model.crosses: '{name}' is no categorical feature, and no number with bins",
            hint=nearest(name, fields),
        )
    return fields.index(name)
