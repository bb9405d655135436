"""The units that explanations attribute to, shuffle or swap, and the names of encoded values.

The units are the static fields (categorical, numeric, bags and vectors) and the history as a whole. The
sequences of a history describe the same events, so one sequence taken from another row would describe no
event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import FIRST_ID, PADDING_ID, FeatureMap
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.data.scales import restored
from ctrkit.data.vectors import Vectors
from ctrkit.errors import DataError, nearest

HISTORY = "past events"
UNKNOWN = "(unknown)"
MISSING = "(missing)"
# Numbers of a vector in its text.
_SHOWN = 3


def units(feature_map: FeatureMap) -> tuple[str, ...]:
    """The names of the units: the static fields, and "past events" if there are sequences."""
    return (*feature_map.fields, *((HISTORY,) if feature_map.sequences else ()))


def take(data: EncodedTable, rows: Integers) -> EncodedTable:
    """The rows at the given positions, `[n]`, in this order."""
    return EncodedTable(
        data.categorical[rows],
        data.numeric[rows],
        {name: one.of_rows(rows) for name, one in data.sequences.items()},
        data.labels[rows],
        data.weight[rows],
        None if data.groups is None else data.groups[rows],
        bags={name: ids[rows] for name, ids in data.bags.items()},
        bag_weights={name: weights[rows] for name, weights in data.bag_weights.items()},
        vectors={name: one.of_rows(rows) for name, one in data.vectors.items()},
    )


def assemble(data: EncodedTable, index: Integers) -> EncodedTable:
    """Rows made from several rows: unit j of new row i comes from row `index[i, j]` of the table.

    Args:
        data: the table.
        index: the row that each unit comes from, `[n, F]`, or `[n, F + 1]` with the history last.
    """
    categorical = data.categorical.shape[1]
    fields = categorical + data.numeric.shape[1]
    places = np.arange(fields)
    history = index[:, -1]
    own = {name: index[:, fields + place] for place, name in enumerate((*data.bags, *data.vectors))}
    return EncodedTable(
        data.categorical[index[:, :categorical], places[:categorical]],
        data.numeric[index[:, categorical:fields], places[categorical:] - categorical],
        {name: one.of_rows(history) for name, one in data.sequences.items()},
        np.empty((len(index), 0), dtype=np.float32),
        np.ones(len(index), dtype=np.float32),
        bags={name: ids[own[name]] for name, ids in data.bags.items()},
        bag_weights={name: weights[own[name]] for name, weights in data.bag_weights.items()},
        vectors={name: one.of_rows(own[name]) for name, one in data.vectors.items()},
    )


def with_field(data: EncodedTable, position: int, value: float) -> EncodedTable:
    """The same rows with one encoded value, an id or a scaled number, in a categorical or numeric field."""
    split = data.categorical.shape[1]
    if position < split:
        categorical = data.categorical.copy()
        categorical[:, position] = int(value)
        return replace(data, categorical=categorical)
    numeric = data.numeric.copy()
    numeric[:, position - split] = value
    return replace(data, numeric=numeric)


def column(data: EncodedTable, position: int) -> NDArray[np.int32] | NDArray[np.float32]:
    """The encoded values of a categorical or numeric field, `[n]`."""
    split = data.categorical.shape[1]
    return data.categorical[:, position] if position < split else data.numeric[:, position - split]


def position_of(feature_map: FeatureMap, name: str) -> int:
    """The position of a static field with one value among the fields.

    Raises:
        DataError: it is a history, a bag or a vector, or there is no such field, and the message names the
            nearest one.
    """
    if name in feature_map.sequences or name == HISTORY:
        raise DataError(
            f"'{name}' is a history, which has no single value",
            hint=f"Name one of {', '.join(feature_map.fields)}",
        )
    if name in feature_map.bags or name in feature_map.vectors:
        kind = "bag" if name in feature_map.bags else "vector"
        single = (*feature_map.categorical, *feature_map.numeric)
        hint = f"Name one of {', '.join(single)}"
        raise DataError(f"'{name}' is a {kind}, which has no single value", hint=hint)
    if name not in feature_map.fields:
        raise DataError(f"the model has no feature '{name}'", hint=nearest(name, feature_map.fields))
    return feature_map.fields.index(name)


class Names:
    """The values of the table that encoded values stand for.

    Args:
        encoder: the model's encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.feature_map, self._encoder = encoder.feature_map(), encoder
        self._vocabularies = encoder.vocabularies
        self._scales = encoder.scales
        self._numbers = {feature.name: feature for feature in encoder.spec.numeric}

    def id(self, table: str, value: int) -> str:
        """The text of an id of an embedding table; "(unknown)" for ids not seen in training.

        In a table that is hashed it is the bucket, as in "(bucket 7)".
        """
        if value < FIRST_ID:
            return "" if value == PADDING_ID else self._raw(table, value)
        if table not in self._vocabularies:
            return f"(bucket {value - FIRST_ID})"
        return self._vocabularies[table][value - FIRST_ID]

    def _raw(self, table: str, value: int) -> str:
        """The text of an id that training has not seen."""
        if not isinstance(self._encoder, RawEncoder):
            return UNKNOWN
        return self._encoder.values(table, np.array([value], dtype=np.int32))[0] or MISSING

    def number(self, feature: str, value: float) -> float:
        """A scaled number in the units of the table, with six digits (the precision of float32)."""
        raw = restored(float(value), self._scales[feature], self._numbers[feature])
        return float(f"{raw:.6g}")

    def bag(self, data: EncodedTable, row: int, name: str) -> str:
        """The ids of a row's bag as text, each with its weight if it has one."""
        table, weights = self.feature_map.bags[name].table, data.bag_weights.get(name)
        found = []
        for place, value in enumerate(data.bags[name][row].tolist()):
            if value != PADDING_ID:
                weight = "" if weights is None else f" ({weights[row, place]:.4g})"
                found.append(f"{self.id(table, value)}{weight}")
        return ", ".join(found)

    def vector(self, vectors: Vectors, row: int, name: str) -> str:
        """A row's vector as text: the id that was looked up, or its first numbers."""
        stock = self._encoder.stocks[name]
        if vectors.rows is not None and stock.table is not None:
            found = int(vectors.rows[row])
            return stock.table.ids[found - 1] if found else MISSING
        if np.isnan(vectors.values[row, 0]):
            return MISSING
        first = ", ".join(f"{number:.4g}" for number in stock.scale.raw(vectors.values[row])[:_SHOWN])
        return f"{first}, … ({stock.width} numbers)" if stock.width > _SHOWN else first

    def row(self, data: EncodedTable, row: int) -> tuple[str, ...]:
        """The values of all static fields of a row as text."""
        encoded = [*data.categorical[row].tolist(), *data.numeric[row].tolist()]
        single = (self.field(position, value) for position, value in enumerate(encoded))
        bags = (self.bag(data, row, name) for name in self.feature_map.bags)
        return (*single, *bags, *(self.vector(one, row, name) for name, one in data.vectors.items()))

    def field(self, position: int, value: float) -> str:
        """The value of a categorical or numeric field as text."""
        name = self.feature_map.fields[position]
        table = self.feature_map.categorical.get(name)
        if table is None and np.isnan(value):
            return MISSING
        return f"{self.number(name, value):,.6g}" if table is None else self.id(table, int(value))

    def event(self, ids: Mapping[str, int]) -> dict[str, str]:
        """The parts of an event: sequence -> text; empty for padding."""
        return {
            name: self.id(self.feature_map.sequences[name], value)
            for name, value in ids.items()
            if value != PADDING_ID
        }


def sample(rows: int, most: int, seed: int) -> Integers:
    """Positions of at most `most` of so many rows, drawn without replacement, in rising order."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def chunks(count: int, size: int) -> Sequence[slice]:
    """Slices of at most `size` rows that cover `count` rows."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
