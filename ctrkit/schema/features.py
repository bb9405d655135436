"""What the columns of a training table mean."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl
from pydantic import Field, model_validator

from ctrkit.config import Config
from ctrkit.errors import nearest
from ctrkit.schema.kinds import (
    BagFeature,
    CategoricalFeature,
    Ids,
    ListFeature,
    NumericFeature,
    SequenceFeature,
    VectorFeature,
)
from ctrkit.schema.logs import CANDIDATE_PREFIX
from ctrkit.tables import TableLike, read_named
from ctrkit.tables.cells import as_ids, inferred

# Columns that hold a simulated market's truth; no feature may read one.
TRUTH_PREFIX = "true_"
# Columns of predictions where a spec has a value: given the last task, and of an impression.
VALUE, IMPRESSION_VALUE = "value", "impression_value"


class CandidateSpec(Config):
    """What a policy chooses among: the column of the action's id, and the features of the action."""

    id: str
    features: tuple[str, ...] = ()


class FeatureSpec(Config):
    """What the columns of a training table mean.

    Attributes:
        name: what the set of features is called, in messages about its version.
        numeric: features that are numbers.
        categorical: features that are ids.
        sequences: histories of events.
        bags: sets of ids, with or without weights.
        vectors: pretrained embeddings, of the rows or looked up by an id.
        hash_above: a field, sequence or bag with more distinct values in the training rows is hashed into so
            many `buckets`; by default none is. Ids that are needed stay as they are: those of `target`,
            `group` and `candidate.id`, and those that a sequence shares.
        labels: task -> column, in funnel order: each label can be 1 only where the one before is.
        value: column of the value of a row whose last label is 1, such as the revenue of a conversion: an
            amount of at least 0. Other rows may hold anything there.
        group: column by which GAUC and clustered intervals group rows, usually the user.
        timestamp: column of times, to split by time (formats: `ctrkit.schema.times`).
        weight: column of row weights.
        impressions: column of the number of impressions that a row stands for, in a table of sums: then the
            columns of labels hold numbers of clicks, conversions and so on.
        target: features that query the behaviour sequence (the ad in question); by default those whose
            ids a sequence shares, else all.
        profile: features of the user, for the context gate; by default all features that are not in `target`.
        candidate: the action of a policy, needed to score the candidates of a bandit or auction log.
    """

    name: str = "features"
    numeric: tuple[NumericFeature, ...] = ()
    categorical: tuple[CategoricalFeature, ...] = ()
    sequences: tuple[SequenceFeature, ...] = ()
    bags: tuple[BagFeature, ...] = ()
    vectors: tuple[VectorFeature, ...] = ()
    hash_above: int | None = Field(default=None, ge=2, le=1 << 30)
    labels: dict[str, str] = Field(default_factory=lambda: {"click": "click"}, min_length=1)
    value: str | None = None
    group: str | None = None
    timestamp: str | None = None
    weight: str | None = None
    impressions: str | None = None
    target: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    candidate: CandidateSpec | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names in funnel order."""
        return tuple(self.labels)

    def is_text(self, name: str) -> bool:
        """Whether a column of this name holds ids, lists or vectors, which are text in a text file."""
        bare = name.removeprefix(CANDIDATE_PREFIX)
        listed = (*(one.name for one in self.listed), *self.bag_weights, *(v.column for v in self.vectors))
        ids = {*(f.name for f in self.categorical), *listed}
        return bare in ids or name in (self.group, self.candidate.id if self.candidate else None)

    def read(
        self, source: TableLike, *, may_be_empty: bool = False, ids: Collection[str] = ()
    ) -> tuple[pl.DataFrame, str | None]:
        """A table of these columns, and its name for messages.

        Columns have the types of the spec in any file format: ids are whole numbers or text, missing ids are
        null, and numbers in text cells are numbers. So counts, groups and orders are the same.

        Args:
            source: the table, as `ctrkit.tables.read_table` takes it.
            may_be_empty: whether a table without rows is allowed.
            ids: further columns of ids.

        Raises:
            DataError: the table cannot be read (see `ctrkit.tables.read_table`), or a column of ids holds
                other values (see `ctrkit.tables.cells.as_ids`).
        """
        table, file = read_named(
            source, lambda name: name in ids or self.is_text(name), may_be_empty=may_be_empty
        )
        return self.typed(table, file, ids), file

    def typed(self, table: pl.DataFrame, file: str | None, ids: Collection[str] = ()) -> pl.DataFrame:
        """The same rows, with the types that `read` gives its columns."""
        ids, numbers = self.untyped(table.schema, ids)
        columns = [as_ids(table[name], file) for name in ids]
        return table.with_columns(columns + [inferred(table[name].cast(pl.String)) for name in numbers])

    def untyped(self, schema: pl.Schema, ids: Collection[str] = ()) -> tuple[list[str], list[str]]:
        """The columns whose types `typed` changes: those of ids, and those of numbers, which are text."""
        known: set[str | None] = {*self._ids, *ids}
        text = {name for name, dtype in schema.items() if dtype in (pl.String, pl.Categorical, pl.Enum)}
        loose = {name for name, dtype in schema.items() if dtype.is_float() or dtype.is_decimal()} | text
        return (
            [name for name in schema if name in known & loose],
            [name for name in schema if name in text - known and name in self._numbers],
        )

    @property
    def _numbers(self) -> tuple[str | None, ...]:
        return (*(f.name for f in self.numeric), *self.labels.values(), self.value, self.weight)

    @property
    def _ids(self) -> tuple[str | None, ...]:
        """Columns of single ids; users may be grouped by the values of any column."""
        group = None if self.group in (*self._numbers, self.timestamp) else self.group
        looked_up = (vector.id for vector in self.vectors)
        chosen = self.candidate.id if self.candidate else None
        return (*(f.name for f in self.categorical), *looked_up, group, chosen)

    @property
    def static_features(self) -> tuple[str, ...]:
        """Names of the features with one vector a row: categorical, numeric, bags and vectors."""
        single = (*(f.name for f in self.categorical), *(f.name for f in self.numeric))
        return (*single, *(bag.name for bag in self.bags), *(vector.name for vector in self.vectors))

    @property
    def listed(self) -> tuple[ListFeature, ...]:
        """The features with a list of ids in each row."""
        return (*self.sequences, *self.bags)

    @property
    def domains(self) -> tuple[tuple[SequenceFeature, ...], ...]:
        """The sequences of each domain, which are aligned event by event."""
        names = dict.fromkeys(one.domain for one in self.sequences)
        return tuple(tuple(one for one in self.sequences if one.domain == name) for name in names)

    @property
    def tables(self) -> dict[str, str]:
        """Column of ids or of lists of ids -> its embedding table."""
        fields = {field.name: field.name for field in self.categorical}
        return {**fields, **{one.name: one.shares or one.name for one in self.listed}}

    @property
    def buckets(self) -> dict[str, int]:
        """Embedding table that is hashed -> the number of its buckets."""
        features = (*self.categorical, *self.listed)
        return {one.name: one.buckets for one in features if one.buckets is not None}

    def most_ids(self) -> dict[str, int | None]:
        """Embedding table -> its largest number of values with ids of their own; None for any number."""
        chosen = self.candidate.id if self.candidate else None
        needed = {*self.target, self.group, chosen, *(one.shares for one in self.sequences)}
        found: dict[str, int | None] = {}
        for one in (*self.categorical, *self.listed):
            if self.tables[one.name] == one.name:
                hashed = one.name not in needed if one.hash is None else one.hash
                found[one.name] = 0 if one.buckets else self.hash_above if hashed else None
        return found

    def hashed(self, known: Collection[str]) -> FeatureSpec:
        """The same spec, where all embedding tables but the known ones have `buckets`: by default
        `hash_above`."""

        def with_buckets(one: Ids) -> Ids:
            hashed = one.buckets is None and self.tables[one.name] == one.name and one.name not in known
            return one.model_copy(update={"buckets": self.hash_above}) if hashed else one

        kinds = {"categorical": self.categorical, "sequences": self.sequences, "bags": self.bags}
        return self.model_copy(update={kind: tuple(map(with_buckets, of)) for kind, of in kinds.items()})

    @property
    def bag_weights(self) -> tuple[str, ...]:
        """Columns of the weights of bags."""
        return tuple(bag.weights for bag in self.bags if bag.weights is not None)

    @property
    def static_columns(self) -> tuple[str, ...]:
        """Columns that the static features are read from."""
        column_of = {vector.name: vector.column for vector in self.vectors}
        columns = (column_of.get(name, name) for name in self.static_features)
        return tuple(dict.fromkeys((*columns, *self.bag_weights)))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features."""
        return (*self.static_features, *(s.name for s in self.sequences))

    @property
    def feature_columns(self) -> tuple[str, ...]:
        """Columns that the features are read from."""
        return (*self.static_columns, *(s.name for s in self.sequences))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a training table must have: features, labels, and those of the other roles."""
        chosen = self.candidate.id if self.candidate else None
        roles = (self.value, self.group, self.timestamp, self.weight, chosen)
        outcomes = self.labels.values()
        return (*self.feature_columns, *outcomes, *(name for name in roles if name is not None))

    def stock_of(self, vector: VectorFeature) -> str:
        """The first feature whose vectors stand in the same place: it gives them their name."""
        return next(one.name for one in self.vectors if one.place == vector.place)

    def candidate_lists(self, columns: Collection[str]) -> dict[str, str]:
        """Feature of a candidate, except its id -> list column of a log with one value for each candidate.

        These are `candidate.features` and every other feature that the log lists for each candidate: the
        row's own value belongs to the ad that was shown.
        """
        if self.candidate is None:
            return {}
        lists = {
            name: f"{CANDIDATE_PREFIX}{name}" for name in self.static_columns if name != self.candidate.id
        }
        chosen = {*self.candidate.features}
        chosen |= {vector.column for vector in self.vectors if vector.name in chosen}
        return {n: c for n, c in lists.items() if n in chosen or c in columns}

    def _check_value(self) -> None:
        """Check that no other role reads the column of values, and that no task is called as its outputs."""
        if self.value is None:
            return
        roles: dict[str | None, str] = {
            **dict.fromkeys(self.feature_columns, "a feature"),
            **dict.fromkeys(self.labels.values(), "a label"),
            self.group: "the group",
            self.timestamp: "the timestamp",
            self.weight: "the row weight",
        }
        if self.value in roles:
            raise ValueError(f"'{self.value}' is {roles[self.value]} and cannot be the value as well")
        if taken := [task for task in self.labels if task in (VALUE, IMPRESSION_VALUE)]:
            raise ValueError(f"a task cannot be called '{taken[0]}', the name of a prediction of the value")

    @model_validator(mode="before")
    @classmethod
    def _weighed_by_impressions(cls, given: Any) -> Any:
        """Rows count as the impressions that they stand for."""
        if isinstance(given, Mapping) and given.get("impressions") is not None:
            return {"weight": given["impressions"], **given}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> FeatureSpec:
        if self.impressions not in (None, self.weight):
            raise ValueError(
                f"rows are weighted by '{self.impressions}', the impressions that they stand for, so that"
                f" '{self.weight}' cannot be their weight as well"
            )
        if self.impressions is not None and self.value is not None:
            raise ValueError("a row that stands for many impressions has no single `value`")
        names = self.features
        if not self.static_features:
            raise ValueError("a spec needs at least one numeric or categorical feature, bag or vector")
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"feature '{min(twice)}' is declared twice")
        read = {*self.feature_columns}
        if leaked := read & set(self.labels.values()):
            raise ValueError(f"'{min(leaked)}' is a label and cannot be a feature as well")
        columns = list(self.labels.values())
        if twice := {name for name in columns if columns.count(name) > 1}:
            raise ValueError(f"'{min(twice)}' is the label of two tasks, which would be one task twice")
        for role, name in (("group", self.group), ("timestamp", self.timestamp)):
            if name in columns:
                raise ValueError(f"'{name}' is a label and cannot be the {role} as well")
            if name is not None and name == self.weight:
                raise ValueError(f"'{name}' is the row weight and cannot be the {role} as well")
        if self.weight in columns:
            raise ValueError(f"'{self.weight}' is a label and cannot be the row weight as well")
        if self.weight in read:
            raise ValueError(f"'{self.weight}' is the row weight and cannot be a feature as well")
        self._check_value()
        if truth := sorted(name for name in read if name.startswith(TRUTH_PREFIX)):
            raise ValueError(f"'{truth[0]}' holds the truth of a simulated market and cannot be a feature")
        categorical = {f.name for f in self.categorical}
        if taken := set(self.bag_weights) & {*names, *self.labels.values(), self.weight}:
            raise ValueError(
                f"'{min(taken)}' holds the weights of a bag and cannot have another role as well"
            )
        for sequence in self.listed:
            if sequence.shares is not None and sequence.shares not in categorical:
                kind = "bag" if isinstance(sequence, BagFeature) else "sequence"
                raise ValueError(
                    f"{kind} '{sequence.name}' shares '{sequence.shares}', no categorical feature. "
                    f"{nearest(sequence.shares, categorical)}"
                )
            if sequence.shares is not None and (sequence.buckets, sequence.hash) != (None, None):
                raise ValueError(
                    f"'{sequence.name}' shares the ids of '{sequence.shares}': set `buckets` and `hash` there"
                )
        chosen = self.candidate.features if self.candidate else ()
        if self.candidate and not chosen and self.candidate.id not in self.static_columns:
            raise ValueError(
                f"candidate.id '{self.candidate.id}' is no feature, and candidate.features is empty: all "
                "candidates of a row would get the same score. "
                f"{nearest(self.candidate.id, self.static_features)}"
            )
        for role, members in (
            ("target", self.target),
            ("profile", self.profile),
            ("candidate.features", chosen),
        ):
            for name in members:
                if name not in self.static_features:
                    raise ValueError(
                        f"{role} '{name}' is no numeric or categorical feature, bag or vector of this spec. "
                        f"{nearest(name, self.static_features)}"
                    )
        return self
