"""Feast: its feature server, read over HTTP.

Source of the call: `POST /get-online-features` of `feast serve`. Feast has no versions of ctrkit: it gives
what its own registry calls by these names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ctrkit.errors import DataError, reason
from ctrkit.online.http import post
from ctrkit.online.store import FeatureRow, FeatureSet, StoreError, read_only

# What Feast calls a feature without a value for a key, and one whose value is too old.
_ABSENT = ("NOT_FOUND", "OUTSIDE_MAX_AGE")


class FeastStore:
    """The feature server of Feast; read only.

    Args:
        url: where it listens.
        view: feature view of the features; unused with a service.
        columns: names of the features.
        service: feature service to read in place of single features; None: read `columns`.
        whole_keys: keys are whole numbers, and not texts.
    """

    read_only = True

    def __init__(
        self, url: str, view: str, columns: Sequence[str], service: str | None, *, whole_keys: bool
    ) -> None:
        self.url = f"{url}/get-online-features"
        self._asked: dict[str, Any] = (
            {"features": [f"{view}:{name}" for name in columns]}
            if service is None
            else {"feature_service": service}
        )
        self._whole_keys = whole_keys

    def get_many(self, features: FeatureSet, keys: Sequence[str]) -> list[Mapping[str, object] | None]:
        """As in `OnlineStore`: one round trip for all keys."""
        if not keys:
            return []
        entities: list[object] = [*keys]
        if self._whole_keys:
            try:
                entities = [int(key) for key in keys]
            except ValueError as error:
                raise DataError(
                    f"a key is no whole number: {reason(error)}", column=features.key, hint="Drop `keys=int`"
                ) from error
        answer = post(self.url, {**self._asked, "entities": {features.key: entities}})
        try:
            names = answer["metadata"]["feature_names"]
            columns = {
                name: (one["values"], one["statuses"])
                for name, one in zip(names, answer["results"], strict=True)
                if name != features.key
            }
            return [_row(columns, place) for place in range(len(keys))]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise StoreError(f"{self.url} answers in another form: {reason(error)}") from error

    def put_many(self, features: FeatureSet, rows: Sequence[FeatureRow], *, ttl: float | None = None) -> int:
        """Refused: Feast fills its store itself, with `feast materialize`."""
        raise read_only("a feature server of Feast")


def _row(columns: Mapping[str, tuple[list[Any], list[str]]], place: int) -> dict[str, object] | None:
    """The values of one key; None if Feast has none."""
    there = {name: statuses[place] not in _ABSENT for name, (_, statuses) in columns.items()}
    if not any(there.values()):
        return None
    return {name: values[place] if there[name] else None for name, (values, _) in columns.items()}
