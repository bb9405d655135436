"""`ctrkit features get`: the newest values of some keys from an online store."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ctrkit.api.models.model import Model, load
from ctrkit.api.results import Result
from ctrkit.data.versions import version_of
from ctrkit.errors import ConfigError, DataError
from ctrkit.online import FeatureSet, open_store
from ctrkit.online.catalog import look_up
from ctrkit.reports import Report, Table
from ctrkit.tables.cells import as_ids

# The version of features that another system keeps.
_OTHERS = "external"


@dataclass(frozen=True)
class OnlineFeatures(Result):
    """Values of keys from an online store.

    Attributes:
        store: address of the store.
        features: the feature set, with its version; "external" where another system keeps it.
        found: number of keys that have values.
        missing: keys without values.
        table: a row for each key, in the order asked: the key, and its values with the types of the pushed
            table; null where the key has none.
    """

    store: str
    features: FeatureSet
    found: int
    missing: tuple[str, ...]
    table: pl.DataFrame = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        rows = [
            {name: _plain(value) for name, value in row.items()} for row in self.table.iter_rows(named=True)
        ]
        return {
            "store": self.store,
            "features": vars(self.features),
            "found": self.found,
            "missing": list(self.missing),
            "rows": rows,
        }

    def report(self) -> Report:
        rows = tuple(tuple(_cell(value) for value in row) for row in self.table.iter_rows())
        shown = Table("Features", tuple(self.table.columns), rows)
        answer = f"{self.found:,} of {self.table.height:,} keys have values."
        one = self.features
        lacking = (f"No values: {', '.join(self.missing)}.",) if self.missing else ()
        notes = (f"Features '{one.name}', version {one.version}.", *lacking)
        return Report("Features", answer, (shown,), notes)


def get_features(
    values: Sequence[str | int],
    *,
    store: str,
    key: str,
    model: str | os.PathLike[str] | Model | None = None,
    name: str | None = None,
    version: str | None = None,
) -> OnlineFeatures:
    """The newest values of some keys from an online store.

    Args:
        values: the keys.
        store: address of the store (see `ctrkit.online.address`).
        key: column of the keys, such as `user_id`.
        model: a model; the values are those of its version of the features, and no other.
        name: name of the feature set; by default that of the model's spec, and `features` without a model.
        version: its version; None for the model's or, without a model, the one that was pushed last.

    Raises:
        ConfigError: the address is wrong, no key is given, or both a model and a version are.
        DataError: the store has no such features or not of this version, or a key is no id.
        StoreError: the store cannot be reached.

    Example:
        >>> import ctrkit, polars
        >>> users = polars.DataFrame({"user_id": [7, 8], "clicks": [3, None]})
        >>> ctrkit.push_features(users, store="sqlite:features.db", key="user_id").written
        2
        >>> ctrkit.get_features([7, 9], store="sqlite:features.db", key="user_id").missing
        ('9',)
    """
    if not values:
        raise ConfigError("there are no keys", hint="Give some as VALUE")
    if model is not None:
        if version is not None:
            raise ConfigError("a model and a version are both given", hint="Leave one of them out")
        encoder = (model if isinstance(model, Model) else load(model)).encoder
        version, name = version_of(encoder), name or encoder.spec.name
    name = name or "features"
    keys = as_ids(pl.Series(key, [str(value) for value in values], dtype=pl.String)).to_list()
    if None in keys:
        raise DataError("a key is empty", column=key, hint="Leave it out")
    opened = open_store(store)
    if opened.read_only:
        features = FeatureSet(name, _OTHERS, key)
        rows = opened.get_many(features, keys)
        known = list(dict.fromkeys(column for row in rows if row is not None for column in row))
        columns = {one: [None if row is None else row.get(one) for row in rows] for one in known}
        table = pl.DataFrame(columns, strict=False)
    else:
        described = look_up(opened, name, key, version)
        features = described.features
        rows = opened.get_many(features, keys)
        table = described.table(rows)
    missing = tuple(one for one, row in zip(keys, rows, strict=True) if row is None)
    with_keys = pl.DataFrame({key: keys}).hstack(table) if table.width else pl.DataFrame({key: keys})
    return OnlineFeatures(store, features, len(keys) - len(missing), missing, with_keys)


def _plain(value: Any) -> Any:
    """A value in JSON, which has no NaN and no infinity: they are texts there."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else value
