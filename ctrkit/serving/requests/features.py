"""Features by id: what an online store knows of the user and of the candidates of a request."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ctrkit.errors import DataError, InputError
from ctrkit.online.catalog import look_up
from ctrkit.online.store import FeatureSet, OnlineStore, StoreError
from ctrkit.schema import FeatureSpec
from ctrkit.serving.requests.body import Value
from ctrkit.serving.requests.encoding import Cells, FieldError, id_text
from ctrkit.tables.cells import as_ids

# Seconds in which a store that has failed is not asked again, so that requests do not wait for it.
_PAUSE = 1.0


@dataclass(frozen=True)
class Joined:
    """The features of a request, completed from a store.

    Attributes:
        context: values that all candidates share.
        columns: column -> the value of each candidate.
        cold: keys, such as `user_id`, of which the store does not know a value.
        unread: keys whose features could not be read, as the store has failed.
    """

    context: Mapping[str, Value]
    columns: Mapping[str, Sequence[Value]]
    cold: tuple[str, ...]
    unread: tuple[str, ...]


class OnlineFeatures:
    """Features of an online store, for the requests of one model. Used by one thread at a time.

    Args:
        store: the store.
        spec: the features that the model reads.
        name: name of the feature sets.
        version: their version, which an export keeps as `features`.
        user: column of the users' keys; None where the store knows no users.
        item: column of the candidates' keys; None where it knows no candidates.

    Raises:
        DataError: the store has no such features.
    """

    def __init__(
        self,
        store: OnlineStore,
        spec: FeatureSpec,
        name: str,
        version: str,
        user: str | None = None,
        item: str | None = None,
    ) -> None:
        self._store, self._features = store, frozenset(spec.feature_columns)
        self._lengths = {sequence.name: sequence.max_length for sequence in spec.sequences}
        together = [{one.name for one in domain} for domain in spec.domains]
        together += [{bag.name, bag.weights} for bag in spec.bags if bag.weights is not None]
        self._together = {name: group for group in together for name in group}
        self._user = None if user is None else FeatureSet(name, version, user)
        self._item = None if item is None else FeatureSet(name, version, item)
        self._asked_from = -math.inf
        for features in (self._user, self._item):
            if features is not None and not store.read_only:
                with contextlib.suppress(StoreError):  # it may come up later
                    look_up(store, name, features.key, version)

    def join(
        self,
        user: str | None,
        context: Mapping[str, Value],
        columns: Mapping[str, Sequence[Value]],
        rows: int,
    ) -> Joined:
        """Complete the features of a request; what it gives itself, stays.

        Lists that belong together, such as the histories of a domain, come all from one place.

        Args:
            user: key of the user; by default it stands in the context.
            context: values that all candidates share.
            columns: column -> the value of each candidate.
            rows: number of candidates.

        Raises:
            FieldError: a key is no id, or the column of keys has another length.
        """
        shared, each = dict(context), dict(columns)
        given = frozenset((*context, *columns))
        cold: list[str] = []
        unread: list[str] = []
        if self._user is not None:
            key = self._user.key
            stated = shared.get(key) if key in self._features else shared.pop(key, None)
            if user is not None and key in self._features and key not in given:
                shared[key] = user
            of = Cells(key, [stated], 1, f"context.{key}") if user is None else Cells(key, [user], 1, "user")
            (values,) = self._read(self._user, of, cold, unread)
            for name in self._wanted(values or {}, given):
                if name not in shared:
                    shared[name] = self._value(name, values)
        if self._item is not None and self._item.key in each:
            key = self._item.key
            cells = each[key] if key in self._features else each.pop(key)
            if len(cells) != rows:
                raise FieldError(f"candidates.{key}", f"the column has {len(cells)} values, not {rows}")
            found = self._read(self._item, Cells(key, cells, 1, f"candidates[{{}}].{key}"), cold, unread)
            names = dict.fromkeys(name for values in found for name in values or {})
            for name in self._wanted(names, given | shared.keys()):
                if name not in self._lengths:
                    each[name] = [self._value(name, values) for values in found]
        return Joined(shared, each, tuple(cold), tuple(unread))

    def _wanted(self, names: Mapping[str, object], given: frozenset[str]) -> list[str]:
        """The names that the model reads, and that neither the request gives nor what belongs to them."""
        return [
            name for name in names if name in self._features and not given & self._together.get(name, {name})
        ]

    def _value(self, name: str, values: Mapping[str, object] | None) -> Value:
        """A value of a row; of a longer history the newest events, and no number is missing."""
        value = None if values is None else values.get(name)
        if isinstance(value, list) and name in self._lengths:
            return value[-self._lengths[name] :]
        return None if isinstance(value, float) and not math.isfinite(value) else value  # type: ignore[return-value]

    def _read(
        self, features: FeatureSet, of: Cells, cold: list[str], unread: list[str]
    ) -> list[Mapping[str, object] | None]:
        """The values of each key, by one read."""
        texts = [None if cell is None else id_text(cell, of, row) for row, cell in enumerate(of.cells)]
        try:
            keys = as_ids(pl.Series(features.key, texts, dtype=pl.String)).to_list()
        except InputError as error:
            raise of.error(error.row or 0, error.problem) from None
        wanted = [key for key in dict.fromkeys(keys) if key is not None]
        if not wanted:
            return [None] * len(keys)
        if time.monotonic() < self._asked_from:
            unread.append(features.key)
            return [None] * len(keys)
        try:
            known = dict(zip(wanted, self._store.get_many(features, wanted), strict=True))
        except (StoreError, DataError):
            self._asked_from = time.monotonic() + _PAUSE
            unread.append(features.key)
            return [None] * len(keys)
        if None in known.values():
            cold.append(features.key)
        return [known.get(key) for key in keys]
