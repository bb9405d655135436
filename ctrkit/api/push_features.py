"""`ctrkit features push`: the newest row of every key of a table into an online store."""

from __future__ import annotations

import hashlib
import json
import os
import time as clock
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import polars as pl

from ctrkit.api.models.model import Model, load
from ctrkit.api.results import Result
from ctrkit.data.store import is_store
from ctrkit.data.store import open_store as open_prepared
from ctrkit.data.versions import version_of
from ctrkit.errors import ConfigError, DataError
from ctrkit.online import FeatureRow, FeatureSet, open_store
from ctrkit.online.catalog import Described, describe, type_name
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Report, Table
from ctrkit.schema import FeatureSpec, require_columns, unix_seconds
from ctrkit.tables import TableLike, read_named
from ctrkit.tables.cells import as_ids
from ctrkit.tables.chunks import first_columns

# The column of times where none is named and the table has it.
_TIME = "timestamp"
# Rows in one call of a store.
_PART = 5_000


@dataclass(frozen=True)
class PushedFeatures(Result):
    """What was written into an online store.

    Attributes:
        store: address of the store.
        features: the feature set, with its version.
        columns: column -> its type.
        rows: rows of the table.
        without_key: rows that have no key, which are left out.
        keys: distinct keys.
        written: keys that were written.
        newer: keys of which the store has a later row, which stays.
    """

    store: str
    features: FeatureSet
    columns: dict[str, str]
    rows: int
    without_key: int
    keys: int
    written: int
    newer: int

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "features": vars(self.features)}

    def report(self) -> Report:
        one = self.features
        rows = (
            ("rows of the table", self.rows),
            ("rows without a key", self.without_key),
            ("keys", self.keys),
            ("keys written", self.written),
            ("keys with a later row in the store", self.newer),
        )
        answer = f"{self.written:,} keys of {one.key} written into {self.store}."
        table = Table("Features", ("", "number"), rows)
        columns = Table("Columns", ("column", "type"), tuple(self.columns.items()))
        return Report(
            "Features pushed", answer, (table, columns), (f"Features '{one.name}', version {one.version}.",)
        )


def push_features(
    data: TableLike,
    *,
    store: str,
    key: str,
    model: str | os.PathLike[str] | Model | None = None,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    name: str | None = None,
    ttl: float | None = None,
    on_step: OnStep = silent,
) -> PushedFeatures:
    """Write the newest row of every key of a table into an online store.

    A row never replaces a later one, so that a push may be repeated, and pushes may come in any order.

    Args:
        data: a table with the key and the features, or the folder of `ctrkit.prepare`: then the rows that it
            was made of, with derived columns, are read part by part, and the features of its spec are
            written, so that a model that was trained on it encodes online rows as it did in training.
        store: address of the store (see `ctrkit.online.address`).
        key: column of the keys, such as `user_id`.
        model: a model; its features are written, and its feature set gives the version.
        columns: columns to write; by default the features of the model or the folder that the table has or,
            without them, all but the key and the time.
        time: column of times; by default the one that the spec of the model or the folder names, or
            `timestamp`, if it is there. Without one, every key must occur once, and the time is now.
        name: name of the feature set; by default that of the spec, and `features` without one.
        ttl: seconds after which the rows count as missing; None: never.
        on_step: called with (keys done, their number, what is being done).

    Raises:
        ConfigError: the address is wrong, the store is read only, or there are no columns to write.
        DataError: the table is faulty: a column is missing or of a type that no store holds, a row has no
            time, or a key occurs twice without a time; or the folder has another version of the features than
            the model, or the files that it was made of are gone or have changed.
        StoreError: the store cannot be reached.

    Example:
        >>> import ctrkit, polars
        >>> users = polars.DataFrame({"user_id": [7, 8], "clicks": [3, None]})
        >>> ctrkit.push_features(users, store="sqlite:features.db", key="user_id").written
        2
        >>> ctrkit.get_features([8, 9], store="sqlite:features.db", key="user_id").found
        1
    """
    if ttl is not None and not ttl > 0:
        raise ConfigError(f"ttl is {ttl}", hint="Give seconds above 0, or leave it out")
    opened = open_store(store)
    if opened.read_only:
        raise ConfigError(f"{store} is read only", hint="Write into sqlite, redis or dynamodb")
    loaded = model if isinstance(model, Model) or model is None else load(model)
    with _given(data, key, loaded) as given:
        spec, file = given.spec, given.file
        if time is None:
            named = (None if spec is None else spec.timestamp, _TIME)
            time = next((one for one in named if one in given.columns), None)
        chosen = _columns(given.columns, key, time, columns, spec)
        needed = list(dict.fromkeys([key, *chosen, *([time] if time else [])]))
        newest, rows, without = _newest(given.parts(needed), key, time)
    if spec is not None:
        newest = spec.typed(newest, file, (key,))
    values = newest.select(
        pl.col(one).cast(pl.String) if newest[one].dtype in (pl.Categorical, pl.Enum) else pl.col(one)
        for one in chosen
    )
    types = {one: type_name(values[one], file) for one in chosen}
    plain = json.dumps(types, sort_keys=True)
    version = given.version or hashlib.sha256(plain.encode()).hexdigest()[:12]
    features = FeatureSet(name or ("features" if spec is None else spec.name), version, key)
    keys, times = newest[key].to_list(), newest["__time"].to_list()
    written = 0
    for start in range(0, len(keys), _PART):
        part = slice(start, start + _PART)
        entries = zip(keys[part], times[part], values[part].iter_rows(named=True), strict=True)
        written += opened.put_many(features, [FeatureRow(*entry) for entry in entries], ttl=ttl)
        on_step(min(start + _PART, len(keys)), len(keys), "pushing")
    describe(opened, Described(features, types))
    return PushedFeatures(store, features, types, rows, without, len(keys), written, len(keys) - written)


@dataclass(frozen=True)
class _Given:
    """The rows to push.

    Attributes:
        columns: the columns that they have.
        file: their name, for messages.
        parts: columns -> all rows in their order, part by part, each with its name for messages.
        spec: what the columns mean, where a model or a folder says so.
        version: the version of the features of this spec.
    """

    columns: Sequence[str]
    file: str | None
    parts: Callable[[Sequence[str]], Iterator[tuple[pl.DataFrame, str | None]]]
    spec: FeatureSpec | None = None
    version: str | None = None


@contextmanager
def _given(data: TableLike, key: str, model: Model | None) -> Iterator[_Given]:
    """The rows of a table, or of those that a folder was made of."""
    spec, version = (None, None) if model is None else (model.spec, version_of(model.encoder))
    if not is_store(data):
        table, file = read_named(data, lambda column: column == key) if spec is None else spec.read(data)

        def whole(columns: Sequence[str]) -> Iterator[tuple[pl.DataFrame, str | None]]:
            require_columns(table, columns, file)
            yield table.select(columns), file

        yield _Given(table.columns, file, whole, spec, version)
        return
    # Here, and not above: with the configs of all models comes torch.
    from ctrkit.api.models.stored_rows import raw_files, raw_rows

    store = open_prepared(data)
    encoder = store.encoder if model is None else model.encoder
    raw_files(encoder, data)
    with raw_rows(store) as raw:
        yield _Given(
            first_columns(raw.source),
            raw.file,
            lambda columns: ((rows.table, rows.file) for rows in raw.chunks(columns)),
            encoder.spec,
            version_of(encoder),
        )


def _columns(
    given: Sequence[str], key: str, time: str | None, columns: Sequence[str] | None, spec: FeatureSpec | None
) -> list[str]:
    """The columns to write."""
    known = given if spec is None else [one for one in spec.feature_columns if one in given]
    asked = known if columns is None else columns
    chosen = [one for one in dict.fromkeys(asked) if one != key and (one != time or columns is not None)]
    if not chosen:
        raise ConfigError("there are no columns to write", hint="Name some as `columns`")
    return chosen


def _newest(
    parts: Iterable[tuple[pl.DataFrame, str | None]], key: str, time: str | None
) -> tuple[pl.DataFrame, int, int]:
    """The newest row of every key, with its time as `__time`, and the numbers of rows and of rows without a
    key; of rows of the same time, the last."""
    held: pl.DataFrame | None = None
    rows = without = 0
    for table, file in parts:
        ids = as_ids(table[key], file).cast(pl.String)
        rows, without = rows + table.height, without + ids.null_count()
        timed = table.with_columns(ids.alias(key), _seconds(table, time, file).alias("__time"))
        timed = timed.filter(pl.col(key).is_not_null())
        both = timed if held is None else pl.concat([held, timed], how="vertical_relaxed")
        held = both.sort("__time", maintain_order=True).unique(key, keep="last", maintain_order=True)
        if time is None and held.height < both.height:
            row = int(ids.is_in(both[key].filter(both[key].is_duplicated()).implode()).arg_true()[0])
            raise DataError(
                f"the key {ids[row]} occurs more than once, and no column of times tells the newest row",
                file=file,
                column=key,
                row=row,
                hint="Name the column of times",
            )
    assert held is not None
    return held, rows, without


def _seconds(table: pl.DataFrame, time: str | None, file: str | None) -> pl.Series:
    """The time of each row, unix seconds."""
    if time is None:
        return pl.Series([clock.time()]).new_from_index(0, table.height)
    seconds = unix_seconds(table[time], file, time)
    if seconds.null_count():
        row = int(seconds.is_null().arg_true()[0])
        raise DataError("the row has no time", file=file, column=time, row=row, hint="Remove such rows")
    return seconds.cast(pl.Float64)
