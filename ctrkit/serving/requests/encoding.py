"""From the features of a request to the arrays of a model, without a data frame.

A frame of some hundred rows costs more than the rows themselves. Here values that were seen before are looked
up in dictionaries, what all candidates share is encoded once, and all else is left to the encoder, so that
the arrays are those of `Encoder.encode`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Floats
from ctrkit.data.bags import padded
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import UNKNOWN_ID, is_unknown
from ctrkit.data.ids import Vocabulary
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.data.scales import transform
from ctrkit.errors import InputError, nearest
from ctrkit.schema import BagFeature, NumericFeature, SequenceFeature, VectorFeature
from ctrkit.serving.requests.body import Value

# Values of an embedding table whose ids are remembered, and the largest vocabulary in a dictionary.
_REMEMBERED, _LOOKED_UP = 1 << 16, 1 << 20
# From here on, whole numbers are rounded to floating-point numbers; and what 64 bits hold.
_EXACT, _LOWEST, _HIGHEST = 2.0**53, -(1 << 63), (1 << 64) - 1


class FieldError(Exception):
    """A feature of a request is wrong.

    Args:
        path: the feature, such as `candidates[3].price` or `context.user_age`.
        message: what is wrong with it.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path, self.message = path, message


@dataclass(frozen=True)
class EncodedRequest:
    """The arrays of a request for K candidates.

    Attributes:
        static: inputs of a row but for its history, [K, ...], by the names of `arrays_of`.
        history: the user's history, [1, L] in each sequence; empty if the model reads none.
        missing: feature -> number of candidates without a value.
        unknown: feature -> number of candidates with an id that training did not know.
        rows: K.
    """

    static: dict[str, NDArray[Any]]
    history: dict[str, NDArray[np.int32]]
    missing: dict[str, int]
    unknown: dict[str, int]
    rows: int


@dataclass(frozen=True)
class Cells:
    """The values of one column.

    Attributes:
        name: the column.
        cells: a value for each candidate, or one that all share.
        times: for how many candidates a value stands.
        place: where the column is, with `{}` for the row.
    """

    name: str
    cells: Sequence[Value]
    times: int
    place: str

    def error(self, row: int, message: str) -> FieldError:
        """The error for a value."""
        return FieldError(self.place.format(row), message)

    def spread(self, array: NDArray[Any]) -> NDArray[Any]:
        """The rows of all candidates, from those of the cells."""
        return array if self.times == 1 else np.repeat(array, self.times, axis=0)


class RequestEncoder:
    """Encodes requests as an encoder encodes tables. Used by one thread at a time.

    Args:
        encoder: the encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.spec = encoder, encoder.spec
        self.columns = frozenset(self.spec.feature_columns)
        self.histories = frozenset(sequence.name for sequence in self.spec.sequences)
        self.length = max((sequence.max_length for sequence in self.spec.sequences), default=0)
        self._ids = {table: _Ids(encoder, table) for table in {*self.spec.tables.values()}}

    def encode(
        self, context: Mapping[str, Value], columns: Mapping[str, Sequence[Value]], rows: int
    ) -> EncodedRequest:
        """The arrays of a request.

        Args:
            context: values that all candidates share, and histories.
            columns: column -> the value of each candidate.
            rows: number of candidates.

        Raises:
            FieldError: a column is none of the model's, stands in both places or has another length, or a
                value is wrong.
        """
        self._check_names(context, columns, rows)
        given = {
            name: Cells(name, columns[name], 1, f"candidates[{{}}].{name}")
            if name in columns
            else Cells(name, [context.get(name)], rows, f"context.{name}")
            for name in self.columns
        }
        missing = {name: _without(of) for name, of in given.items()}
        unknown: dict[str, int] = {}
        static: dict[str, NDArray[Any]] = {}
        if fields := self.spec.categorical:
            ids = np.empty((rows, len(fields)), dtype=np.int32)
            for place, field in enumerate(fields):
                ids[:, place] = self._ids[field.name](given[field.name])
            for field, count in zip(fields, is_unknown(ids).sum(axis=0).tolist(), strict=True):
                unknown[field.name] = count - missing[field.name]
            static["categorical"] = ids
        if numbers := self.spec.numeric:
            scaled = np.empty((rows, len(numbers)), dtype=np.float32)
            for place, number in enumerate(numbers):
                scaled[:, place] = self._number(number, given[number.name])
            static["numeric"] = scaled
        for place, bag in enumerate(self.spec.bags):
            of, counts, values = self._bag(bag, given[bag.name])
            static[f"bag-{place}"] = of.spread(padded(values, counts, bag.max_length))
            unknown[bag.name] = int(is_unknown(static[f"bag-{place}"]).any(axis=1).sum())
        weighted = [bag for bag in self.spec.bags if bag.weights is not None]
        for place, bag in enumerate(weighted):
            static[f"weights-{place}"] = self._weights(bag, given)
        for place, vector in enumerate(self.spec.vectors):
            static |= self._vectors(place, vector, given[vector.column])
        history = {
            f"sequence-{place}": self._history(sequence, given[sequence.name])
            for place, sequence in enumerate(self.spec.sequences)
        }
        for place, sequence in enumerate(self.spec.sequences):
            unknown[sequence.name] = rows * bool(is_unknown(history[f"sequence-{place}"]).any())
        self._check_aligned(context)
        return EncodedRequest(
            static,
            history,
            {name: count for name, count in missing.items() if count},
            {name: count for name, count in unknown.items() if count},
            rows,
        )

    def _check_names(
        self, context: Mapping[str, Value], columns: Mapping[str, Sequence[Value]], rows: int
    ) -> None:
        for place, names in (("context", context), ("candidates[0]", columns)):
            for name in names:
                if name not in self.columns:
                    hint = nearest(name, self.columns)
                    raise FieldError(f"{place}.{name}", f"the model reads no such feature. {hint}")
        for name, cells in columns.items():
            if name in context:
                raise FieldError(f"context.{name}", "the feature stands among the candidates' too")
            if name in self.histories:
                raise FieldError(f"candidates[0].{name}", "a history is the user's: put it into the context")
            if len(cells) != rows:
                raise FieldError(f"candidates.{name}", f"the column has {len(cells)} values, not {rows}")

    def _number(self, feature: NumericFeature, of: Cells) -> NDArray[np.float32]:
        numbers = _numbers(of.cells, of)
        if feature.transform == "log1p" and (numbers < 0).any():
            row = int(np.argmax(numbers < 0))
            raise of.error(row, f"{numbers[row]:g} is negative, and its logarithm is taken")
        return self.encoder.scales[feature.name].scaled(transform(numbers, feature))

    def _bag(self, bag: BagFeature, of: Cells) -> tuple[Cells, NDArray[np.int64], NDArray[np.int32]]:
        """The number of values of each row, and the ids of all."""
        lists = [_listed(of, row, cell)[: bag.max_length] for row, cell in enumerate(of.cells)]
        counts = np.array([len(one) for one in lists], dtype=np.int64)
        flat = [value for one in lists for value in one]
        place = "candidates." if of.times == 1 else "context."
        return of, counts, self._ids[bag.shares or bag.name](Cells(of.name, flat, 1, place + of.name))

    def _weights(self, bag: BagFeature, given: Mapping[str, Cells]) -> NDArray[np.float32]:
        assert bag.weights is not None
        of, ids = given[bag.weights], given[bag.name]
        found = np.zeros((len(of.cells), bag.max_length), dtype=np.float32)
        for row, cell in enumerate(of.cells):
            weights = _listed(of, row, cell)
            wanted = ids.cells[row if len(ids.cells) > 1 else 0]
            if len(weights) != len(_listed(ids, row, wanted)):
                raise of.error(row, f"the list has another length than that of '{bag.name}'")
            numbers = _numbers(weights, Cells(of.name, weights, 1, of.place.format(row)))
            if not (numbers >= 0).all():
                raise of.error(row, "weights are numbers from 0 up")
            kept = numbers[: bag.max_length]
            found[row, : kept.size] = kept
        return of.spread(found)

    def _vectors(self, place: int, feature: VectorFeature, of: Cells) -> dict[str, NDArray[Any]]:
        stock = self.encoder.stocks[feature.name]
        if stock.table is not None:
            texts = [None if cell is None else id_text(cell, of, row) for row, cell in enumerate(of.cells)]
            cells = pl.Series(feature.column, texts, dtype=pl.String)
        else:
            lists = [_listed(of, row, cell) for row, cell in enumerate(of.cells)]
            numbers = [_numbers(one, Cells(of.name, one, 1, of.place.format(0))).tolist() for one in lists]
            cells = pl.Series(feature.column, numbers, dtype=pl.List(pl.Float64))
        try:
            vectors = stock.encode(cells, feature, None)
        except InputError as error:
            raise of.error(error.row or 0, error.problem) from None
        if vectors.rows is None:
            return {f"vector-{place}": of.spread(vectors.values)}
        rows = of.spread(vectors.rows)
        return {f"vector-{place}": vectors.values[rows], f"vector-rows-{place}": rows}

    def _history(self, sequence: SequenceFeature, of: Cells) -> NDArray[np.int32]:
        """The events, [1, L], the newest last."""
        events, found = _listed(of, 0, of.cells[0]), np.zeros((1, self.length), dtype=np.int32)
        if len(events) > sequence.max_length:
            raise of.error(
                0, f"the history has {len(events):,} events, and the model reads {sequence.max_length:,}"
            )
        if events:
            ids = self._ids[sequence.shares or sequence.name](Cells(of.name, events, 1, of.place))
            found[0, self.length - len(events) :] = ids
        return found

    def _check_aligned(self, context: Mapping[str, Value]) -> None:
        for first, *others in self.spec.domains:
            for one in others:
                if len(context.get(one.name) or ()) != len(context.get(first.name) or ()):  # type: ignore[arg-type]
                    raise FieldError(
                        f"context.{one.name}", f"the list has another length than that of '{first.name}'"
                    )


class _Ids:
    """The ids of the values of one embedding table; those of values that came before are remembered.

    Args:
        encoder: the encoder.
        table: name of the table.
    """

    def __init__(self, encoder: Encoder, table: str) -> None:
        self._encoder, self._table = encoder, table
        # A raw encoder must see each value again, as it forgets old ones.
        self._most = 0 if isinstance(encoder, RawEncoder) else _REMEMBERED
        self._known: dict[Value, int] = {None: UNKNOWN_ID}
        known = encoder.known[table]
        few = isinstance(known, Vocabulary) and len(known) <= _LOOKED_UP
        self._of_text = known.by_text() if isinstance(known, Vocabulary) and few else {}

    def __call__(self, of: Cells) -> NDArray[np.int32]:
        """The id of each cell.

        Raises:
            FieldError: a cell is no id.
        """
        try:
            try:
                return np.fromiter(map(self._known.__getitem__, of.cells), np.int32, len(of.cells))
            except KeyError:
                return self._with_new(of)
        except TypeError:
            row = next(row for row, cell in enumerate(of.cells) if isinstance(cell, list))
            raise of.error(row, "this is a list, and one value is due") from None

    def _with_new(self, of: Cells) -> NDArray[np.int32]:
        """The ids where some values are not remembered."""
        known = self._known
        found = [known.get(cell) for cell in of.cells]
        new = self._new(of, {cell for cell, one in zip(of.cells, found, strict=True) if one is None})
        if len(known) + len(new) > self._most:
            self._known = {None: UNKNOWN_ID}
        if len(new) < self._most:
            self._known |= new
        found = [new[cell] if one is None else one for cell, one in zip(of.cells, found, strict=True)]
        return np.array(found, dtype=np.int32)

    def _new(self, of: Cells, values: set[Value]) -> dict[Value, int]:
        """The ids of values that are not remembered."""
        rows = {cell: row for row, cell in reversed([*enumerate(of.cells)]) if cell in values}
        texts = {cell: id_text(cell, of, row) for cell, row in rows.items()}
        new = {cell: one for cell, text in texts.items() if (one := self._of_text.get(text)) is not None}
        # Unknown ones, and known ones that are written in another way.
        others = [cell for cell in texts if cell not in new]
        if others:
            try:
                ids = self._encoder.ids(
                    self._table, pl.Series([texts[one] for one in others], dtype=pl.String)
                )
            except InputError as error:
                raise of.error(rows[others[error.row or 0]], error.problem) from None
            new |= zip(others, ids.tolist(), strict=True)
        return new


def id_text(cell: Value, of: Cells, row: int) -> str:
    """A value as the text of its id, as `ctrkit.tables.cells.as_ids` writes it.

    Raises:
        FieldError: it is no id.
    """
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "1" if cell else "0"
    if isinstance(cell, float):
        if not (math.isfinite(cell) and cell == round(cell) and abs(cell) < _EXACT):
            raise of.error(row, f"{cell:g} is no id: ids are texts or whole numbers")
        cell = int(cell)
    if not isinstance(cell, int):
        raise of.error(row, "this is a list, and one value is due")
    if not _LOWEST <= cell <= _HIGHEST:
        raise of.error(row, "the id is beyond 64 bits")
    return str(cell)


def _numbers(cells: Sequence[Value], of: Cells) -> Floats:
    """Numbers, NaN where one is missing, [n].

    Raises:
        FieldError: a cell is no finite number.
    """
    types = {*map(type, cells)}
    if not types <= {int, float, bool, type(None)}:
        row = next(row for row, cell in enumerate(cells) if isinstance(cell, str | list))
        raise of.error(row, "this is no number")
    try:
        plain = [math.nan if cell is None else cell for cell in cells] if type(None) in types else cells
        numbers = np.array(plain, dtype=np.float64)
    except OverflowError:
        raise of.error(0, "a number is beyond what floating-point numbers hold") from None
    if not np.isfinite(numbers).all():
        for row, cell in enumerate(cells):
            if cell is not None and not math.isfinite(cell):  # type: ignore[arg-type]
                raise of.error(row, f"{cell} is no finite number")
    return numbers


def _listed(of: Cells, row: int, cell: Value) -> list[Any]:
    """A list; a missing one is empty.

    Raises:
        FieldError: it is none.
    """
    if cell is None:
        return []
    if not isinstance(cell, list):
        raise of.error(row, "this is one value, and a list is due")
    return cell


def _without(of: Cells) -> int:
    """The number of candidates without a value."""
    return of.times * (of.cells.count(None) + of.cells.count([]))
