"""`ctrkit features push`: the newest row of every key of a table into an online store."""

from __future__ import annotations

import hashlib
import json
import os
import time as clock
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ctrkit.api.models.model import Model, load
from ctrkit.api.results import Result
from ctrkit.data.versions import version_of
from ctrkit.errors import ConfigError, DataError
from ctrkit.online import FeatureRow, FeatureSet, open_store
from ctrkit.online.catalog import Described, describe, type_name
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Report, Table
from ctrkit.schema import require_columns, unix_seconds
from ctrkit.tables import TableLike, read_named
from ctrkit.tables.cells import as_ids

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
    name: str = "features",
    ttl: float | None = None,
    on_step: OnStep = silent,
) -> PushedFeatures:
    """Write the newest row of every key of a table into an online store.

    A row never replaces a later one, so that a push may be repeated, and pushes may come in any order.

    Args:
        data: a table with the key and the features.
        store: address of the store (see `ctrkit.online.address`).
        key: column of the keys, such as `user_id`.
        model: a model; its features are written, and its feature set gives the version.
        columns: columns to write; by default the model's features that the table has or, without a model, all
            but the key and the time.
        time: column of times; by default `timestamp`, if it is there. Without one, every key must occur once,
            and the time is now.
        name: name of the feature set.
        ttl: seconds after which the rows count as missing; None: never.
        on_step: called with (keys done, their number, what is being done).

    Raises:
        ConfigError: the address is wrong, the store is read only, or there are no columns to write.
        DataError: the table is faulty: a column is missing or of a type that no store holds, a row has no
            time, or a key occurs twice without a time.
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
    if loaded is not None:
        table, file = loaded.spec.read(data)
    else:
        table, file = read_named(data, lambda column: column == key)
    time = time or (_TIME if _TIME in table.columns else None)
    chosen = _columns(table, key, time, columns, loaded)
    require_columns(table, [key, *chosen, *([time] if time else [])], file)
    rows, without = table.height, table[key].null_count()
    newest = _newest(
        table.select(list(dict.fromkeys([key, *chosen, *([time] if time else [])]))), key, time, file
    )
    values = newest.select(
        pl.col(one).cast(pl.String) if newest[one].dtype in (pl.Categorical, pl.Enum) else pl.col(one)
        for one in chosen
    )
    types = {one: type_name(values[one], file) for one in chosen}
    plain = json.dumps(types, sort_keys=True)
    version = version_of(loaded.encoder) if loaded else hashlib.sha256(plain.encode()).hexdigest()[:12]
    features = FeatureSet(name, version, key)
    keys, times = newest[key].to_list(), newest["__time"].to_list()
    written = 0
    for start in range(0, len(keys), _PART):
        part = slice(start, start + _PART)
        entries = zip(keys[part], times[part], values[part].iter_rows(named=True), strict=True)
        written += opened.put_many(features, [FeatureRow(*entry) for entry in entries], ttl=ttl)
        on_step(min(start + _PART, len(keys)), len(keys), "pushing")
    describe(opened, Described(features, types))
    return PushedFeatures(store, features, types, rows, without, len(keys), written, len(keys) - written)


def _columns(
    table: pl.DataFrame, key: str, time: str | None, columns: Sequence[str] | None, model: Model | None
) -> list[str]:
    """The columns to write."""
    known = table.columns if model is None else [one for one in model.spec.features if one in table.columns]
    asked = known if columns is None else columns
    chosen = [one for one in dict.fromkeys(asked) if one != key and (one != time or columns is not None)]
    if not chosen:
        raise ConfigError("there are no columns to write", hint="Name some as `columns`")
    return chosen


def _newest(table: pl.DataFrame, key: str, time: str | None, file: str | None) -> pl.DataFrame:
    """The newest row of every key, with its time as `__time`; of rows of the same time, the last."""
    ids = as_ids(table[key], file)
    if time is None:
        seconds = pl.Series("__time", [clock.time()]).new_from_index(0, table.height)
        twice = (ids.is_duplicated() & ids.is_not_null()).arg_true()
        if twice.len():
            raise DataError(
                f"the key {ids[twice[0]]} occurs more than once, and no column of times tells the newest row",
                file=file,
                column=key,
                row=int(twice[0]),
                hint="Name the column of times",
            )
    else:
        seconds = unix_seconds(table[time], file, time)
        if seconds.null_count():
            row = int(seconds.is_null().arg_true()[0])
            raise DataError("the row has no time", file=file, column=time, row=row, hint="Remove such rows")
    timed = table.with_columns(ids.cast(pl.String).alias(key), seconds.cast(pl.Float64).alias("__time"))
    sorted_rows = timed.filter(pl.col(key).is_not_null()).sort("__time", maintain_order=True)
    return sorted_rows.unique(key, keep="last", maintain_order=True)
