"""Raw tables to encoded arrays. Vocabularies and scales are learned from training rows only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Integers, rows_of
from ctrkit.data.bags import first_values, first_weights, padded
from ctrkit.data.bins import Bins
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FIRST_ID, UNKNOWN_ID, Bag, Domain, FeatureMap, VectorField
from ctrkit.data.histories import Histories, Ids
from ctrkit.data.ids import Buckets, Vocabulary, as_lists, unseen_ids
from ctrkit.data.labels import read_groups, read_labels, read_values, read_weights
from ctrkit.data.learning import Learning
from ctrkit.data.quarters import ordered_values, quarters_of
from ctrkit.data.scales import FeatureScale, transformed
from ctrkit.data.unlike import spread, unlike, usual_shares
from ctrkit.data.vectors import VectorStock
from ctrkit.errors import DataError
from ctrkit.schema import BagFeature, FeatureSpec, NumericFeature, SequenceFeature, require_columns
from ctrkit.tables.cells import ids_as_text

# Events whose ids are found at a time.
_EVENTS = 1 << 20


class Encoder:
    """Learns ids, scales and bins from training rows, and turns any table of the same columns into arrays.

    Args:
        spec: what the columns mean.
        vocabularies: embedding table -> its values as text, in the order of their ids (from 2 up). A table
            with `buckets` in the spec has none.
        scales: numeric feature -> its scale on the training rows.
        usual_unknown: categorical field or sequence -> usual share of unknown ids, from the training table.
        usual_missing: feature -> usual share of rows without an id, a number or any event.
        notes: notes for the user.
        bins: numeric feature -> its bins; encoders of earlier versions have none.
        stocks: the first feature that reads some vectors -> their scale and, where looked up, all of them.

    Attributes:
        known: embedding table -> its vocabulary, or its buckets.
        shared: embedding tables that a field and a sequence share.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        vocabularies: Mapping[str, Sequence[str]],
        scales: Mapping[str, FeatureScale],
        usual_unknown: Mapping[str, float] | None = None,
        usual_missing: Mapping[str, float] | None = None,
        notes: Sequence[str] = (),
        bins: Mapping[str, Bins] | None = None,
        stocks: Mapping[str, VectorStock] | None = None,
    ) -> None:
        self.spec = spec
        self.vocabularies = {name: list(values) for name, values in vocabularies.items()}
        self.scales = dict(scales)
        self.usual_unknown = dict(usual_unknown or {})
        self.usual_missing = dict(usual_missing or {})
        self.notes = tuple(notes)
        self.bins = dict(bins or {})
        self.known: dict[str, Vocabulary | Buckets] = {
            **{name: Vocabulary(values) for name, values in self.vocabularies.items()},
            **{name: Buckets(size) for name, size in spec.buckets.items()},
        }
        self.stocks = {one.name: (stocks or {})[spec.stock_of(one)] for one in spec.vectors}
        self.shared = {sequence.shares for sequence in spec.sequences}

    @classmethod
    def fit(
        cls,
        spec: FeatureSpec,
        table: pl.DataFrame,
        file: str | None = None,
        rows: Integers | None = None,
    ) -> Encoder:
        """Learn from the training rows (see `ctrkit.data.learning`).

        Args:
            spec: what the columns mean.
            table: all rows, so that messages give row indices of the file.
            file: name of the table, for messages.
            rows: the training rows; by default all.

        Raises:
            DataError: a feature has no known id or no number, almost no event of a history is known, a number
                is so far from the others that they all become equal, or a reason that `encode` lists.
        """
        mine = np.arange(table.height) if rows is None else rows
        learning = Learning(spec, mine.size, file)
        learning.add(table, mine, file)
        others = np.ones(table.height, dtype=np.bool_)
        others[mine] = False
        return cls.learnt(learning, table[spread(mine)], table[spread(np.flatnonzero(others))])

    @classmethod
    def learnt(cls, learning: Learning, training: pl.DataFrame, held_out: pl.DataFrame) -> Encoder:
        """The encoder of what was learnt.

        Args:
            learning: what was learnt from all training rows.
            training: some training rows, spread over all of them (`ctrkit.data.unlike.spread`).
            held_out: some of the other rows.

        Raises:
            DataError: as of `fit`.
        """
        vocabularies, (scales, bins) = learning.vocabularies(), learning.numbers()
        spec = learning.spec.hashed(vocabularies)
        told = [
            f"Column '{name}' has more than {size:,} values, and is hashed into {size:,} buckets: values of"
            " one bucket are the same to the model."
            for name, size in spec.buckets.items()
            if name not in learning.spec.buckets
        ]
        stocks = learning.vectors()
        bare = cls(spec, vocabularies, scales, stocks=stocks)
        unknown, missing, notes = usual_shares(bare, training, held_out)
        return cls(spec, vocabularies, scales, unknown, missing, (*told, *notes), bins, stocks)

    def unlike(self, table: pl.DataFrame) -> tuple[str, ...]:
        """Sentences on how rows differ from the training rows (see `ctrkit.data.unlike`)."""
        return unlike(self, table)

    @property
    def sizes(self) -> dict[str, int]:
        """Embedding table -> the number of its ids, padding and unknown included."""
        values = {name: len(values) for name, values in self.vocabularies.items()}
        return {name: size + FIRST_ID for name, size in {**values, **self.spec.buckets}.items()}

    def feature_map(self) -> FeatureMap:
        """What a model must know about the encoded rows."""
        spec = self.spec
        shared = {s.shares for s in spec.sequences if s.shares is not None}
        target = (
            spec.target or tuple(f.name for f in spec.categorical if f.name in shared) or spec.static_features
        )
        profile = spec.profile or tuple(name for name in spec.static_features if name not in target)
        return FeatureMap(
            tables=self.sizes,
            categorical={f.name: f.name for f in spec.categorical},
            numeric=tuple(f.name for f in spec.numeric),
            centres={name: scale.centre for name, scale in self.scales.items() if scale.centre},
            missing=tuple(f.name for f in spec.numeric if self.usual_missing.get(f.name)),
            sequences={s.name: s.shares or s.name for s in spec.sequences},
            bags={
                b.name: Bag(b.shares or b.name, b.max_length, b.pooling, b.weights is not None)
                for b in spec.bags
            },
            vectors={
                v.name: VectorField(stock.width, spec.stock_of(v), len(stock.table.values))
                if v.trained and stock.table is not None
                else VectorField(stock.width)
                for v, stock in zip(spec.vectors, self.stocks.values(), strict=True)
            },
            max_length=max((s.max_length for s in spec.sequences), default=0),
            target=target,
            profile=profile or spec.static_features,
            tasks=spec.tasks,
            bins=self.bins,
            value=spec.value is not None,
            quarters={
                feature.name: (*[0] * FIRST_ID, *quarters_of(values))
                for feature in spec.categorical
                if (values := ordered_values(self.vocabularies.get(feature.name, []))) is not None
            },
            domains=tuple(
                Domain(tuple(one.name for one in domain), max(one.max_length for one in domain))
                for domain in spec.domains
                if len(spec.domains) > 1
            ),
        )

    def encode(
        self,
        table: pl.DataFrame,
        file: str | None = None,
        *,
        labels: bool = True,
        static: bool = True,
        sequences: bool = True,
        events: Mapping[str, Ids] | None = None,
    ) -> EncodedTable:
        """Encode a table.

        Args:
            table: the rows.
            file: name of the table, for messages.
            labels: whether to read labels, values and weights; otherwise `EncodedTable.labels` has no column.
            static: whether to encode the static fields; otherwise they have no columns.
            sequences: whether to encode the sequences; otherwise there are none.
            events: sequence -> ids of the events of all rows, where its cells are pointers to them.

        Raises:
            DataError: a column is missing or has a wrong type, a number is infinite, a label is not 0 or 1 or
                breaks the funnel, or a row whose last label is 1 has no value.
        """
        spec = self.spec
        features = [*(spec.static_columns if static else ())]
        features += [sequence.name for sequence in spec.sequences if sequences]
        outcomes = (*spec.labels.values(), *([] if spec.value is None else [spec.value]))
        require_columns(table, (*features, *(outcomes if labels else ())), file)
        n = table.height
        categorical = [self.ids(f.name, table[f.name], file) for f in spec.categorical if static]
        numeric = [self._scaled(f, table[f.name], file) for f in spec.numeric if static]
        histories = self._histories(table, events or {}, file) if sequences else {}
        bags = {b.name: self._bag(b, table, file) for b in spec.bags if static}
        weights = {b.name: first_weights(table, b, file) for b in spec.bags if static}
        looked_up = [(one, self.stocks[one.name]) for one in spec.vectors if static]
        vectors = {one.name: stock.encode(table[one.column], one, file) for one, stock in looked_up}
        weight = read_weights(spec.weight, table, file) if labels else np.ones(n)
        targets = read_labels(spec.labels, table, file) if labels else np.empty((n, 0), dtype=np.float32)
        return EncodedTable(
            rows_of(np.stack(categorical)) if categorical else np.empty((n, 0), dtype=np.int32),
            rows_of(np.stack(numeric)) if numeric else np.empty((n, 0), dtype=np.float32),
            histories,
            targets,
            weight.astype(np.float32),
            read_groups(spec.group, table),
            read_values(spec, table, targets, file) if labels else None,
            spec.impressions is not None,
            bags,
            {name: one for name, one in weights.items() if one is not None},
            vectors,
        )

    def state(self) -> dict[str, Any]:
        """Plain data, and arrays of the vectors that are looked up, for the artifact."""
        stocks = {self.spec.stock_of(one): self.stocks[one.name] for one in self.spec.vectors}
        return {
            "spec": self.spec.model_dump(mode="json"),
            "vocabularies": self.vocabularies,
            "scales": {name: list(astuple(one)) for name, one in self.scales.items()},
            "usual_unknown": self.usual_unknown,
            "usual_missing": self.usual_missing,
            "bins": {name: [list(one.edges), list(one.means)] for name, one in self.bins.items()},
            "vectors": {name: stock.state() for name, stock in stocks.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Encoder:
        """An encoder from the plain data of `state`.

        Raises:
            KeyError: the plain data are damaged.
            TypeError: the plain data are damaged.
            ValueError: the plain data are damaged.
        """
        scales = {name: FeatureScale(*values) for name, values in state["scales"].items()}
        spec = FeatureSpec.model_validate(state["spec"])
        vocabularies = state["vocabularies"]
        known = {*spec.tables.values()} - {*spec.buckets}
        if set(vocabularies) != known or set(scales) != {f.name for f in spec.numeric}:
            raise ValueError("its vocabularies or scales are not those of its features")
        for name, values in vocabularies.items():
            if not all(isinstance(value, str) for value in values) or len(set(values)) < len(values):
                raise ValueError(f"the vocabulary of '{name}' has a duplicate or a value that is not text")
        for name, scale in scales.items():
            finite = all(map(np.isfinite, astuple(scale)))
            if not (finite and scale.unit > 0 and scale.bound >= 0):
                raise ValueError(f"the scale of '{name}' is {scale}")
        # Artifacts of earlier versions have no usual shares and no bins.
        bins = {name: Bins(*map(tuple, values)) for name, values in state.get("bins", {}).items()}
        if bins and set(bins) != set(scales):
            raise ValueError("its bins are not those of its numbers")
        usual = state.get("usual_unknown"), state.get("usual_missing")
        stocks = {name: VectorStock.from_state(one) for name, one in state.get("vectors", {}).items()}
        if any((stocks[spec.stock_of(one)].table is None) != (one.table is None) for one in spec.vectors):
            raise ValueError("its vectors are not those of its features")
        return cls(spec, vocabularies, scales, *usual, bins=bins, stocks=stocks)

    def ids(self, table: str, values: pl.Series, file: str | None = None) -> NDArray[np.int32]:
        """Ids of flat values, int32 [n]. Missing values and values that training did not see are unknown.

        In a table that a sequence shares, unknown values keep an identity (see `unseen_ids`). In a table that
        is hashed, only missing values are unknown.

        Args:
            table: name of the embedding table.
            values: the values.
            file: name of their table, for messages.

        Raises:
            DataError: a value is no id.
        """
        if isinstance(values.dtype, pl.Enum) and values.dtype.categories.len() <= values.len():
            # Each distinct text once. One that is no id may be in no row.
            with suppress(DataError):
                of_texts = self.ids(table, values.dtype.categories)
                places = values.to_physical()
                if places.null_count():
                    places = places.cast(pl.UInt32).fill_null(of_texts.size)
                ids: NDArray[np.int32] = np.append(of_texts, np.int32(UNKNOWN_ID))[places.to_numpy()]
                return ids
        known = self.known[table]
        plain = values.dtype == pl.String and isinstance(known, Vocabulary)
        text = values if plain else ids_as_text(values, file)
        found = known.ids(text)
        unknown = np.flatnonzero(found == UNKNOWN_ID)
        if not unknown.size:
            return found
        text = text.gather(unknown)
        if plain:  # these may be known values that are written in another way
            try:
                text = ids_as_text(text, file)
            except DataError:
                ids_as_text(values, file)  # the same fault, with its row
                raise
            found[unknown] = known.ids(text)
        if table in self.shared:
            new = found[unknown] == UNKNOWN_ID
            found[unknown[new]] = unseen_ids(text.filter(pl.Series(new)))
        return found

    def _scaled(self, feature: NumericFeature, values: pl.Series, file: str | None) -> NDArray[np.float32]:
        """A numeric feature, transformed and scaled."""
        return self.scales[feature.name].scaled(transformed(values, feature, file))

    def _bag(self, bag: BagFeature, table: pl.DataFrame, file: str | None) -> NDArray[np.int32]:
        """Ids of a bag as [n, L], with padding behind them."""
        values, counts = first_values(table, bag, file)
        return padded(self.ids(bag.shares or bag.name, values, file), counts, bag.max_length)

    def event_ids(self, events: Mapping[str, pl.Series]) -> dict[str, Ids]:
        """Sequence -> the ids of its events, for those whose events stand apart from the rows."""
        found = {}
        for sequence in self.spec.sequences:
            if (values := events.get(sequence.name)) is not None:
                slices = (values.slice(start, _EVENTS) for start in range(0, max(values.len(), 1), _EVENTS))
                found[sequence.name] = np.concatenate([self._event_ids(sequence, some) for some in slices])
        return found

    def _event_ids(self, sequence: SequenceFeature, values: pl.Series, file: str | None = None) -> Ids:
        """Ids of events, in the smallest type that holds all ids of their table."""
        table = sequence.shares or sequence.name
        ids, most = self.ids(table, values, file), self.sizes[table] - 1
        # Only in a table that is shared are ids negative.
        if table in self.shared or most > np.iinfo(np.uint16).max:
            return ids
        return ids.astype(np.uint8 if most <= np.iinfo(np.uint8).max else np.uint16)

    def _histories(
        self, table: pl.DataFrame, events: Mapping[str, Ids], file: str | None
    ) -> dict[str, Histories]:
        """All sequences; those of one domain are aligned event by event."""
        width = max((s.max_length for s in self.spec.sequences), default=0)
        found = {
            s.name: Histories.of_pointers(events[s.name], table[s.name], s.max_length, width)
            if s.name in events
            else self._history(s, as_lists(table[s.name], s, file), width, file)
            for s in self.spec.sequences
        }
        for domain in self.spec.domains:
            _check_aligned({one.name: found[one.name] for one in domain}, file)
        return found

    def _history(
        self, sequence: SequenceFeature, lists: pl.Series, width: int, file: str | None
    ) -> Histories:
        """The newest ids of a list column."""
        newest = lists.list.tail(sequence.max_length)
        events = newest.filter(newest.list.len() > 0).explode()
        ids = self._event_ids(sequence, events, file)
        return Histories.of_lists(ids, newest.list.len().fill_null(0).to_numpy(), width)


def _check_aligned(sequences: Mapping[str, Histories], file: str | None) -> None:
    """Check that sequences of a row have the same length, because they describe the same events."""
    names = list(sequences)
    for name in names[1:]:
        apart = np.flatnonzero(sequences[name].lengths != sequences[names[0]].lengths)
        if apart.size:
            raise DataError(
                f"the list has another length than the list of '{names[0]}'",
                file=file,
                column=name,
                row=int(apart[0]),
                hint="Sequences of one domain are aligned event by event: give them equal lengths and the "
                "same max_length, or give the sequence a `domain` of its own",
            )
