"""Negatives for a log of positives alone: each positive's row again, with other items and without labels.

A raw table is read once more for it: items and users become numbers, by which `item_draws.py` draws. The
negatives themselves are made while the table is read, chunk by chunk, the same for any size of chunks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.selectors import enum

from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.item_draws import ItemDraws, LogRows
from ctrkit.data.item_survey import ItemSurvey
from ctrkit.data.labels import read_labels
from ctrkit.data.raw_table import RawRows, RawTable
from ctrkit.data.sampling import NegativesConfig
from ctrkit.data.split import Split
from ctrkit.errors import ConfigError, DataError, TableName, nearest
from ctrkit.schema import Column, FeatureSpec, check_column
from ctrkit.tables.cells import ids_as_text


@dataclass(frozen=True, kw_only=True)
class WithNegatives(RawTable):
    """A raw table with sampled negatives: each positive is followed by its own.

    Attributes:
        item: column of the item.
        moved: features that come with an item.
        items: number of an item -> its id, and the features that come with it.
        draws: what draws for the rows of each part.
        parts: the part of each row of the log, [n].
        times_read: how many times each row of the log is here, [n]: 1 and the number of its negatives, or 0.
    """

    item: str
    moved: tuple[str, ...]
    items: pl.DataFrame
    draws: tuple[ItemDraws, ...]
    parts: NDArray[np.int8]
    times_read: Integers

    @cached_property
    def sources(self) -> Integers:
        """The row of the log that each row comes from, ascending."""
        return np.repeat(np.arange(self.times_read.size), self.times_read)

    @cached_property
    def starts(self) -> Integers:
        """The place of the first row that comes from each row of the log, and the number of all rows."""
        return np.concatenate([[0], np.cumsum(self.times_read)])

    @property
    def lonely(self) -> int:
        """The number of positives without a negative."""
        return int(np.count_nonzero(self.times_read == 1))

    def split(self, split: Split) -> Split:
        """The split of the log as a split of these rows: negatives are in the part of their positive.

        Raises:
            DataError: a part has no negatives, or no rows.
        """
        parts = self.parts[self.sources]
        found = [np.flatnonzero(parts == part) for part in range(3)]
        for name, rows in zip(("training", "validation", "test"), found, strict=True):
            log = self.sources[rows]
            if np.unique(log).size == log.size:
                raise DataError(
                    f"none of the {log.size:,} {name} positives has a negative: there are no other items for"
                    " them by their time, but those that their users know",
                    file=self.file,
                    column=self.item,
                    hint="Divide the rows in another way with `split`, or set"
                    " sampling.negatives.exclude_known=false",
                )
        return Split(found[0], found[1], found[2], split.by, split.boundaries)

    def chunks(self, columns: Sequence[str], *, pointers: bool = False) -> Iterator[RawRows]:
        for rows in super().chunks([*columns, self.item], pointers=pointers):
            found = self._with_negatives(rows)
            if found.table.height:
                yield replace(found, table=found.table.select(list(dict.fromkeys(columns))))

    def whole(self) -> RawRows:
        """All rows, with the columns of the spec."""
        parts = list(self.chunks(self.spec.columns))
        counts = np.concatenate([rows.counts for rows in parts if rows.counts is not None])
        file = None if self.origin is None else os.fspath(self.origin)
        table = pl.concat([rows.table for rows in parts], how="vertical_relaxed")
        return RawRows(table, _SampledName.of_rows(file, self.sources), 0, 1, 1, counts)

    def _with_negatives(self, rows: RawRows) -> RawRows:
        here = np.arange(rows.start, rows.start + rows.table.height)
        again = self.times_read[here]
        source = np.repeat(here, again)
        origin = source - rows.start
        ids = ids_as_text(rows.table[self.item], rows.file)
        # Chunks have distinct texts of their own.
        table = rows.table[origin].with_columns(enum().cast(pl.String)).with_columns(ids[origin])
        first = np.cumsum(again) - again
        negative = np.ones(source.size, dtype=np.bool_)
        negative[first[again > 0]] = False
        items, counts = np.zeros(source.size, dtype=np.int64), np.ones(source.size)
        for part, draws in enumerate(self.draws):
            mine = (self.parts[here] == part) & (again > 1)
            places = first[mine, None] + np.arange(1, draws.config.per_positive + 1)
            items[places], counts[places] = draws.draw(here[mine])
        marks = pl.Series(negative)
        columns = [
            pl.when(marks).then(self.items[name].gather(items)).otherwise(table[name]).alias(name)
            for name in (self.item, *self.moved)
            if name in table.columns
        ]
        for name in self.spec.labels.values():
            if name in table.columns:
                labels = read_labels({name: name}, rows.table, rows.file)[origin, 0]
                columns.append(pl.lit(pl.Series(name, np.where(negative, 0, labels).astype(np.int8))))
        return RawRows(
            table.with_columns(columns),
            _SampledName.of_rows(rows.file, origin),
            int(self.starts[rows.start]),
            rows.done,
            rows.total,
            counts,
        )


def with_negatives(
    raw: RawTable, config: NegativesConfig, split: Split, table: pl.DataFrame, seed: int
) -> WithNegatives:
    """A log of positives with sampled negatives.

    Args:
        raw: the log.
        config: how negatives are sampled.
        split: which of its rows are training, validation and test rows.
        table: its rows, as far as their times are read.
        seed: random seed.

    Raises:
        ConfigError: a column is not named, and it cannot be told which it is.
        DataError: the log has negatives, too few items, or a column is missing or faulty.
    """
    spec = raw.spec
    item, unit = _columns(spec, config)
    survey = ItemSurvey(spec, config, item, unit)
    for rows in raw.chunks([*spec.columns, item, *([] if unit is None else [unit])], pointers=True):
        survey.add(rows)
    items, units, positive, counted = survey.rows()
    if config.per_positive >= survey.items.height:
        raise DataError(
            f"there are {survey.items.height:,} items, too few for {config.per_positive:,} negatives of each"
            " positive",
            file=raw.file,
            column=item,
            hint="Give a log of more items, or lower sampling.negatives.per_positive",
        )
    times = None
    if spec.timestamp is not None:
        column = Column(spec.timestamp, "time", "the time of the row")
        times = check_column(table[spec.timestamp], column, raw.file).to_numpy().astype(np.float64)
    alone = np.arange(items.size)
    if config.by != "session" and (unit is None or config.exclude_known is False):
        units = alone  # only its own item is left out of a row's draws
    units = np.where(units < 0, alone + units.max(initial=0) + 1, units)
    log, parts = LogRows(items, units, times, positive), split.parts
    draws = tuple(ItemDraws(log, counted & (parts <= part), config, seed) for part in range(3))
    again = positive.astype(np.int64)
    for part, of_part in enumerate(draws):
        mine = np.flatnonzero(positive & (parts == part))
        again[mine] += config.per_positive * (of_part.room(mine).total > 0)
    return WithNegatives(
        spec,
        raw.source,
        raw.origin,
        raw.events,
        item=item,
        moved=survey.moved(raw.file),
        items=survey.items,
        draws=draws,
        parts=parts,
        times_read=again,
    )


def _columns(spec: FeatureSpec, config: NegativesConfig) -> tuple[str, str | None]:
    """The columns of the item, and of the user or the session.

    Raises:
        ConfigError: there is none by default.
    """
    shared = {one.shares for one in spec.sequences if one.shares is not None}
    item = config.item or (spec.candidate.id if spec.candidate else None)
    if item is None and len(shared) == 1:
        item = min(shared)
    if item is None:
        raise ConfigError(
            "no setting says which column holds the item of a row, whose negatives have other items",
            hint="Set sampling.negatives.item to the name of the column",
        )
    unit = (config.session if config.by == "session" else config.user) or spec.group
    if unit is None and (config.by == "session" or config.exclude_known):
        what = "session" if config.by == "session" else "user"
        raise ConfigError(
            f"no setting says which column holds the {what} of a row, whose items are "
            + ("drawn as negatives" if config.by == "session" else "left out of the negatives"),
            hint=f"Set sampling.negatives.{what} to the name of the column",
        )
    if item in (unit, *spec.labels.values(), spec.timestamp, spec.weight):
        raise ConfigError(
            f"'{item}' has another role and cannot be the item", hint="Set sampling.negatives.item"
        )
    for name in config.features or ():
        if name not in spec.static_columns:
            raise ConfigError(
                f"sampling.negatives.features: '{name}' is no feature with one value a row",
                hint=nearest(name, spec.static_columns),
            )
    return item, unit


class _SampledName(TableName):
    """The name of a table with negatives, which gives the row of the log that a row comes from."""

    log: str | None
    sources: Integers

    @classmethod
    def of_rows(cls, log: str | None, sources: Integers) -> _SampledName:
        """The name of a table whose rows come from the given rows of a log with a name."""
        made = cls(log or "")
        made.log, made.sources = log, sources
        return made

    def place(self, row: int) -> tuple[str, int]:
        source = int(self.sources[row])
        return self.log.place(source) if isinstance(self.log, TableName) else (self.log or "", source)


def counting(data: EncodedTable, counts: Floats | None) -> EncodedTable:
    """Encoded rows whose weights are multiplied by the counts of the rows, [n]; the same rows for None."""
    if counts is None:
        return data
    return replace(data, weight=(data.weight * counts).astype(np.float32))
