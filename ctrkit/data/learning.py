"""Learning of ids, scales and bins from training rows that come chunk by chunk."""

from __future__ import annotations

import numpy as np
import polars as pl

from ctrkit.arrays import Integers
from ctrkit.data.bins import Bins
from ctrkit.data.ids import LEAST, as_lists, check_known, check_separator
from ctrkit.data.labels import read_weights
from ctrkit.data.scales import FeatureScale, transformed
from ctrkit.data.statistics import IdCounts, NumberSummary
from ctrkit.data.vector_learning import learners, learnt_vectors
from ctrkit.data.vectors import VectorStock
from ctrkit.errors import DataError
from ctrkit.schema import FeatureSpec, require_columns
from ctrkit.tables.cells import ids_as_text, values_of


class Learning:
    """What an encoder learns from training rows.

    Ids are ordered by decreasing count, then by value, so that the same rows give the same ids. The events of
    a sequence that shares the table of a categorical feature are ids of that table too. Of a table that is
    hashed nothing is learnt, and no values are kept.

    Args:
        spec: what the columns mean.
        rows: number of training rows.
        file: name of the table, for messages.

    Raises:
        DataError: a file of vectors is faulty.

    Attributes:
        spec: the spec, with the `min_count` of every field.
    """

    def __init__(self, spec: FeatureSpec, rows: int, file: str | None = None) -> None:
        fields = tuple(feature.counted(rows) for feature in spec.categorical)
        self.spec, self.file = spec.model_copy(update={"categorical": fields}), file
        most = self._most = self.spec.most_ids()
        self._counts = {name: IdCounts(most[table]) for name, table in self.spec.tables.items()}
        self._numbers = {feature.name: NumberSummary() for feature in spec.numeric}
        self._vectors = learners(spec)
        # Histories of the first rows, and their events: by them one sees how histories are written.
        self._first: dict[str, tuple[pl.Series, pl.Series]] = {}

    def add(self, table: pl.DataFrame, rows: Integers, file: str | None) -> None:
        """Learn from some rows of a chunk.

        Args:
            table: all rows of the chunk, so that messages give row indices of the file.
            rows: its training rows.
            file: its name, for messages.

        Raises:
            DataError: a column is missing, or a value is no id, no list, no number or no vector.
        """
        require_columns(table, self.spec.feature_columns, file)
        whole = rows.size == table.height
        for feature in self.spec.categorical:
            column = table[feature.name]
            self._counts[feature.name].add(column if whole else column[rows], file)
        for sequence in self.spec.listed:
            cells = table[sequence.name] if whole else table[sequence.name][rows]
            events = values_of(as_lists(cells, sequence, file))
            self._counts[sequence.name].add(events, file)
            if rows.size:
                self._first.setdefault(sequence.name, (cells, events))
        for vector in self.spec.vectors:
            self._vectors[vector.name].add(table[vector.column], rows, file)
        weighted = self.spec.weight in table.columns
        weight = read_weights(self.spec.weight, table, file) if weighted else None
        for number in self.spec.numeric:
            values = transformed(table[number.name], number, file)
            present = rows[~np.isnan(values[rows])]
            of_these = None if weight is None else weight[present]
            self._numbers[number.name].add(values[present], of_these, present, file)

    def vocabularies(self) -> dict[str, list[str]]:
        """Embedding table -> its values as text, in the order of their ids, unless it is hashed.

        Raises:
            DataError: a feature has no known id, or almost no event of a history is known.
        """
        found: dict[str, list[str]] = {}
        together = {feature.name: [self._counts[feature.name]] for feature in self.spec.categorical}
        for feature in self.spec.categorical:
            counts, least = self._counts[feature.name], feature.min_count or 1
            if counts.too_many:
                continue
            found[feature.name] = counts.frequent(least)
            if not found[feature.name] and counts.values >= LEAST:
                missing = 1.0 - int(counts.counts()["rows"].sum()) / counts.values
                raise DataError(
                    f"no id occurs {least} times in the training rows, and "
                    f"{missing:.0%} of these rows have no id",
                    file=self.file,
                    column=feature.name,
                    hint="Remove the feature, or lower its min_count",
                )
        empty = pl.Series(dtype=pl.String), pl.Series(dtype=pl.String)
        for sequence in self.spec.listed:
            counts, (cells, events) = self._counts[sequence.name], self._first.get(sequence.name, empty)
            if sequence.shares is None:
                check_separator(cells, sequence, self.file)
                if not counts.too_many:
                    found[sequence.name] = counts.frequent(sequence.min_count)
            else:
                if (known := found.get(sequence.shares)) is not None:
                    check_known(cells, ids_as_text(events, self.file), sequence, known, self.file)
                together[sequence.shares].append(counts)
        for feature in self.spec.categorical:
            if len(together[feature.name]) > 1 and feature.name in found:
                of_all = IdCounts.together(together[feature.name], self._most[feature.name])
                if of_all.too_many:
                    del found[feature.name]
                else:
                    found[feature.name] = of_all.frequent(feature.min_count or 1)
        return found

    def vectors(self) -> dict[str, VectorStock]:
        """Vectors, by the first feature that reads them, and their scale.

        Raises:
            DataError: no training row has a vector of a feature.
        """
        return learnt_vectors(self.spec, self._vectors, self.file)

    def numbers(self) -> tuple[dict[str, FeatureScale], dict[str, Bins]]:
        """The scale and the bins of each numeric feature.

        Raises:
            DataError: a feature has no number, or a number is so far from the others that they all become
                equal.
        """
        scales: dict[str, FeatureScale] = {}
        bins: dict[str, Bins] = {}
        for feature in self.spec.numeric:
            name, summary = feature.name, self._numbers[feature.name]
            summary.finish()
            if not summary.size:
                raise DataError(
                    "the training rows have no number in this column",
                    file=self.file,
                    column=name,
                    hint="Remove the feature",
                )
            scales[name] = FeatureScale.fit(summary, name, feature.scale)
            weight = np.ones(summary.sample.size) if summary.weight is None else summary.weight
            counted = weight > 0
            scaled = scales[name].scaled(summary.sample[counted]).astype(np.float64)
            bins[name] = Bins.fit(scaled, weight[counted])
        return scales, bins
