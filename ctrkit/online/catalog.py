"""Which feature sets a store has, and the types of their columns; kept in the store itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ctrkit.errors import DataError
from ctrkit.online.store import FeatureRow, FeatureSet, OnlineStore, StoreError

# The set of the catalog: keys are `NAME/KEY` for the newest version, and `NAME/KEY/VERSION` for each.
_CATALOG = FeatureSet("ctrkit", "catalog", "features")
_SCALARS: dict[str, type[pl.DataType]] = {
    str(kind): kind
    for kind in (
        pl.Null, pl.Boolean, pl.String, pl.Float32, pl.Float64,
        pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Described:
    """A feature set of a store.

    Attributes:
        features: the set.
        columns: column -> its type, as `type_name` writes it.
    """

    features: FeatureSet
    columns: Mapping[str, str]

    def table(self, rows: Sequence[Mapping[str, object] | None]) -> pl.DataFrame:
        """Rows of a store as a table with the columns and types that were written; a missing row is null.

        Raises:
            StoreError: a row has other columns or values of another type.
        """
        for row in rows:
            if row is not None and row.keys() != self.columns.keys():
                raise StoreError(f"a row of {self.features.path} has the columns {', '.join(sorted(row))}")
        try:
            return pl.DataFrame(
                [
                    pl.Series(name, [None if row is None else row[name] for row in rows], _type(kind))
                    for name, kind in self.columns.items()
                ]
            )
        except (TypeError, ValueError, OverflowError, KeyError, pl.exceptions.PolarsError) as error:
            raise StoreError(f"a row of {self.features.path} has values of another type: {error}") from error


def type_name(column: pl.Series, file: str | None = None) -> str:
    """The type of a column as a text.

    Raises:
        DataError: an online store holds no values of this type.
    """
    inner = column.dtype.inner if isinstance(column.dtype, pl.List) else column.dtype
    if str(inner) not in _SCALARS:
        raise DataError(
            f"an online store holds no {column.dtype}",
            file=file,
            column=column.name,
            hint="Cast the column to numbers, texts, truth values or lists of these, or leave it out",
        )
    return str(column.dtype)


def _type(name: str) -> pl.DataType:
    inner = name.removeprefix("List(").removesuffix(")")
    return pl.List(_SCALARS[inner]()) if inner != name else _SCALARS[inner]()


def describe(store: OnlineStore, described: Described, ttl: float | None = None) -> None:
    """Write down that a store has a set, as the newest version; after its rows, so that readers find them.

    Args:
        store: the store.
        described: the set.
        ttl: seconds after which its rows expire.
    """
    features, now = described.features, time.time()
    values = {
        "version": features.version,
        "columns": [*described.columns],
        "types": [*described.columns.values()],
    }
    newest = f"{features.name}/{features.key}"
    keys = (newest, f"{newest}/{features.version}")
    store.put_many(_CATALOG, [FeatureRow(key, now, values) for key in keys], ttl=ttl)


def look_up(store: OnlineStore, name: str, key: str, version: str | None = None) -> Described:
    """A set of a store.

    Args:
        store: the store.
        name: name of the set.
        key: column of its keys.
        version: its version; None for the one that was written last.

    Raises:
        DataError: the store has no such set.
    """
    newest = f"{name}/{key}"
    found, last = store.get_many(_CATALOG, [newest if version is None else f"{newest}/{version}", newest])
    if found is None:
        there = "" if last is None else f"; its newest version is {last['version']}"
        wanted = "" if version is None else f" of version {version}"
        raise DataError(
            f"the store has no features '{name}'{wanted} for keys of '{key}'{there}",
            hint="Fill it with `ctrkit features push`",
        )
    columns, types = found["columns"], found["types"]
    if not isinstance(columns, list) or not isinstance(types, list):
        raise StoreError(f"the catalog of '{name}' is damaged")
    return Described(FeatureSet(name, str(found["version"]), key), dict(zip(columns, types, strict=True)))
