"""What is read of a log before negatives are drawn: numbers of items and users, and features of items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.selectors import enum

from ctrkit.arrays import Booleans, Integers
from ctrkit.data.ids import as_lists
from ctrkit.data.labels import read_labels, read_weights
from ctrkit.data.raw_table import RawRows
from ctrkit.data.sampling import NegativesConfig
from ctrkit.errors import DataError
from ctrkit.schema import FeatureSpec
from ctrkit.tables.cells import ids_as_text

# With fewer rows for each item, features agree within items by chance.
_ROWS_OF_AN_ITEM = 2


class ItemSurvey:
    """A few numbers of each row, and the first row of each item.

    Args:
        spec: what the columns mean.
        config: how negatives are sampled.
        item: column of the item.
        unit: column of the user or the session; None if there is none.
    """

    def __init__(self, spec: FeatureSpec, config: NegativesConfig, item: str, unit: str | None) -> None:
        self.spec, self.config, self.item, self.unit = spec, config, item, unit
        self._items, self._units = _Numbers(), _Numbers()
        others = [name for name in spec.static_columns if name not in (item, unit)]
        self._same = {name: (_Same(), _Same(), _Same()) for name in others}
        self._found: list[tuple[NDArray[Any], ...]] = []
        self._first: list[pl.DataFrame] = []

    @property
    def items(self) -> pl.DataFrame:
        """Number of an item -> its id and the features of its first row."""
        return pl.concat(self._first, how="vertical_relaxed")

    def add(self, rows: RawRows) -> None:
        """Take in some rows.

        Raises:
            DataError: a column is faulty, or a row has no label and is not to be left out.
        """
        table, spec = rows.table, self.spec
        labels = read_labels(spec.labels, table, rows.file)[:, 0] == 1.0
        if not self.config.replace_logged and not labels.all():
            raise DataError(
                f"the row is a negative, of {int((~labels).sum()):,} among the {labels.size:,} first rows,"
                " and negatives are sampled for logs of positives alone",
                file=rows.file,
                column=next(iter(spec.labels.values())),
                row=int(np.argmin(labels)),
                hint="Leave out sampling.negatives to train on the logged ones, or set"
                " sampling.negatives.replace_logged=true to leave these out",
            )
        counted = read_weights(spec.weight, table, rows.file) > 0.0
        ids = ids_as_text(table[self.item], rows.file)
        items, new = self._items.of(ids)
        first = table[new].with_columns(ids[new].alias(self.item)).select(self.item, *self._same)
        self._first.append(first.with_columns(enum().cast(pl.String)))
        units = np.zeros(items.size, dtype=np.int64)
        if self.unit is not None:
            units, _ = self._units.of(ids_as_text(table[self.unit], rows.file))
        for name, (of_item, of_unit, of_all) in self._same.items() if self.config.features is None else ():
            values = self._hashed(table[name], rows.file)
            of_item.add(items, values)
            of_unit.add(units, values)
            of_all.add(np.zeros(items.size, dtype=np.int64), values)
        self._found.append((items, units, labels & counted, counted))

    def rows(self) -> tuple[Integers, Integers, Booleans, Booleans]:
        """Of each row: numbers of item and unit, below 0 for none; whether it is a positive that counts, and
        whether it counts."""
        items, units, positive, counted = map(np.concatenate, zip(*self._found, strict=True))
        return items, units, positive, counted

    def moved(self, file: str | None) -> tuple[str, ...]:
        """The features that come with an item.

        Raises:
            DataError: it cannot be told which they are.
        """
        if self.config.features is not None:
            return self._with_weights(self.config.features)
        candidate = self.spec.candidate
        named = () if candidate is None else tuple(name for name in candidate.features if name != self.item)
        varying = {name for name, (_, _, of_all) in self._same.items() if not of_all.holds}
        rows = sum(items.size for items, *_ in self._found)
        if varying - {*named} and rows < _ROWS_OF_AN_ITEM * self.items.height:
            raise DataError(
                f"with {rows:,} rows of {self.items.height:,} items it cannot be told which features belong"
                " to the item",
                file=file,
                column=self.item,
                hint="Name them in sampling.negatives.features; [] if there are none",
            )
        found = list(named)
        for name, (of_item, of_unit, _) in self._same.items():
            if name in named or name not in varying or not of_item.holds:
                continue
            if self.unit is not None and of_unit.holds:
                raise DataError(
                    f"the feature is the same in all rows of each '{self.item}' and of each '{self.unit}', so"
                    " it cannot be told to which it belongs",
                    file=file,
                    column=name,
                    hint="Name the features that come with the item in sampling.negatives.features",
                )
            found.append(name)
        return self._with_weights(found)

    def _with_weights(self, features: Sequence[str]) -> tuple[str, ...]:
        """Some features without the item itself, and with the weights of bags."""
        weights = [bag.weights for bag in self.spec.bags if bag.name in features and bag.weights is not None]
        return tuple(name for name in dict.fromkeys([*features, *weights]) if name in self._same)

    def _hashed(self, values: pl.Series, file: str | None) -> NDArray[np.uint64]:
        """A hash of each value, equal for what the encoder reads alike."""
        if values.name in {one.name for one in self.spec.categorical}:
            values = ids_as_text(values, file)
        elif values.name in {one.name for one in self.spec.numeric} and not values.dtype.is_nested():
            values = values.cast(pl.Float64, strict=False)
        for bag in self.spec.bags:
            if values.name == bag.name:
                values = as_lists(values, bag, file)
        return values.hash().to_numpy()


class _Numbers:
    """Numbers of distinct ids, in the order in which they appear."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, ids: pl.Series) -> tuple[Integers, Integers]:
        """The numbers of some ids, below 0 for a missing one, and the places of the first of each new id."""
        before = len(self._known)
        distinct = ids.drop_nulls().unique(maintain_order=True)
        numbers = [self._known.setdefault(one, len(self._known)) for one in distinct]
        found = np.full(ids.len(), -1, dtype=np.int64)
        if numbers:
            found = ids.replace_strict(distinct, numbers, default=-1, return_dtype=pl.Int64).to_numpy()
        known, places = np.unique(found, return_index=True)
        return found, places[known >= before]


class _Same:
    """Whether values are the same in all rows with the same number.

    Attributes:
        holds: whether they are, so far.
    """

    def __init__(self) -> None:
        self._first = np.empty(0, dtype=np.uint64)
        self.holds = True

    def add(self, numbers: Integers, values: NDArray[np.uint64]) -> None:
        """Take in some rows; numbers come in the order in which they first appear; rows below 0 do not
        count."""
        known, places = np.unique(numbers, return_index=True)
        self._first = np.append(self._first, values[places[known >= self._first.size]])
        there = numbers >= 0
        self.holds = self.holds and bool((self._first[numbers[there]] == values[there]).all())
