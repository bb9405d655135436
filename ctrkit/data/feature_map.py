"""What a model must know about encoded rows: their fields and their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Booleans
from ctrkit.data.bins import Bins

PADDING_ID = 0
UNKNOWN_ID = 1
FIRST_ID = 2

Ids = TypeVar("Ids", NDArray[np.int32], NDArray[np.int64])


def is_unknown(ids: Ids) -> Booleans:
    """Which ids are unknown: those of missing values, and negative ids of values not seen in training."""
    return np.asarray((ids <= UNKNOWN_ID) & (ids != PADDING_ID))


def rows_of_tables(ids: Ids) -> Ids:
    """Ids as rows of their embedding tables: every unknown id is `UNKNOWN_ID`."""
    return np.where(is_unknown(ids), ids.dtype.type(UNKNOWN_ID), ids)


@dataclass(frozen=True)
class Bag:
    """Several ids a row, read as one vector.

    Attributes:
        table: the embedding table of its ids.
        length: L, the largest number of ids.
        pooling: "sum", "mean" or "max".
        weighted: whether each id has a weight.
    """

    table: str
    length: int
    pooling: str = "mean"
    weighted: bool = False


@dataclass(frozen=True)
class VectorField:
    """A pretrained vector a row.

    Attributes:
        width: how many numbers it has.
        table: name of the vectors that training changes; None where it changes none.
        rows: their number, with one for rows without a vector.
    """

    width: int
    table: str | None = None
    rows: int = 0


@dataclass(frozen=True)
class Domain:
    """Sequences that describe the same events.

    Attributes:
        sequences: their names.
        length: the length of the longest history.
    """

    sequences: tuple[str, ...]
    length: int


@dataclass(frozen=True)
class FeatureMap:
    """The fields of encoded rows and their ids, as plain data that the artifact stores.

    Attributes:
        tables: embedding table -> number of ids in it, padding and unknown included.
        categorical: field -> its table, in the order of the columns of `EncodedTable.categorical`.
        numeric: fields in the order of the columns of `EncodedTable.numeric`.
        sequences: sequence -> its table. Those of one domain are aligned event by event.
        max_length: L, the length of the longest history of any domain.
        target: static fields of the target, which reads the history.
        profile: static fields of the user.
        tasks: names of the tasks, in funnel order.
        bins: numeric field -> its bins. In artifacts of earlier versions there are none, and missing numbers
            have no vectors.
        value: whether rows have a value, given the last task.
        quarters: field of 8 to 100 whole numbers -> for each id of its table, the quarter of the values that
            it is in, 1 to 4, and 0 for padding and unknown. In artifacts of earlier versions there are none.
        centres: numeric field -> mean of its scaled training rows, as which a missing number is read where it
            has no vector; 0 where none is given.
        bags: bags of ids, fields after the numeric ones. In artifacts of earlier versions there are none.
        vectors: pretrained vectors, fields after the bags. In artifacts of earlier versions there are none.
        missing: numeric fields with missing numbers in the training rows. In artifacts of earlier versions
            there are none.
        domains: the sequences by domain, if there are several domains; else empty.
    """

    tables: Mapping[str, int]
    categorical: Mapping[str, str]
    numeric: tuple[str, ...] = ()
    sequences: Mapping[str, str] = field(default_factory=dict)
    max_length: int = 0
    target: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("click",)
    bins: Mapping[str, Bins] = field(default_factory=dict)
    value: bool = False
    quarters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    centres: Mapping[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    bags: Mapping[str, Bag] = field(default_factory=dict)
    vectors: Mapping[str, VectorField] = field(default_factory=dict)
    domains: tuple[Domain, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """Static fields in the order of their embeddings: categorical, numeric, bags and vectors."""
        return (*self.categorical, *self.numeric, *self.bags, *self.vectors)

    @property
    def centre_of_numbers(self) -> tuple[float, ...]:
        """The mean of each number, in the order of `numeric`."""
        return tuple(self.centres.get(name, 0.0) for name in self.numeric)

    def by_domain(self) -> tuple[FeatureMap, ...]:
        """The same features for each domain, with the sequences of this domain alone."""
        if not self.domains:
            return (self,)
        return tuple(
            replace(
                self,
                sequences={name: self.sequences[name] for name in one.sequences},
                max_length=one.length,
                domains=(),
            )
            for one in self.domains
        )

    def with_bins(self, most: int) -> FeatureMap:
        """The same features with at most so many bins a number."""
        return replace(self, bins={name: one.coarser(most) for name, one in self.bins.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> FeatureMap:
        """A feature map from the plain data of `to_dict`."""
        names = ("numeric", "target", "profile", "tasks", "missing")
        lists = {key: tuple(state[key]) for key in names if key in state}
        stored = state.get("bins", {}).items()
        bins = {name: Bins(tuple(one["edges"]), tuple(one["means"])) for name, one in stored}
        quarters = {name: tuple(one) for name, one in state.get("quarters", {}).items()}
        bags = {name: Bag(**one) for name, one in state.get("bags", {}).items()}
        vectors = {name: VectorField(**one) for name, one in state.get("vectors", {}).items()}
        domains = tuple(Domain(tuple(one["sequences"]), one["length"]) for one in state.get("domains", ()))
        plain = {"bins": bins, "quarters": quarters, "bags": bags, "vectors": vectors, "domains": domains}
        return cls(**{**state, **lists, **plain})
