"""Requests are completed from an online store, and answered without it when it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ctrkit.errors import DataError
from ctrkit.online.catalog import Described, describe
from ctrkit.online.sqlite import SqliteStore
from ctrkit.online.store import FeatureRow, FeatureSet, StoreError
from ctrkit.serving.requests.body import Value
from ctrkit.serving.requests.encoding import FieldError
from ctrkit.serving.requests.features import OnlineFeatures
from tests.serving.test_encoding import SPEC

USERS, ITEMS = FeatureSet("features", "v", "user"), FeatureSet("features", "v", "ad")


class Counted(SqliteStore):
    """A store that counts its reads, and can be made to fail."""

    reads, down = 0, False

    def get_many(self, features: FeatureSet, keys: Sequence[str]) -> list[Mapping[str, object] | None]:
        self.reads += 1
        if self.down:
            raise StoreError("no answer")
        return super().get_many(features, keys)


@pytest.fixture
def store(tmp_path: Path) -> Counted:
    store = Counted(str(tmp_path / "features.db"))
    user: dict[str, Any] = {"age": 30.0, "seen": [*"1234567"], "seen_in": [*"abcdefg"], "other": 1}
    rows = {
        USERS: {"7": user, "é": {**user, "age": float("nan")}},
        ITEMS: {"1": {"price": 5.0, "tags": ["t"], "seen": ["9"], "age": 2.0}},
    }
    for known, of_keys in rows.items():
        store.put_many(known, [FeatureRow(key, 0.0, values) for key, values in of_keys.items()])
        describe(store, Described(known, {}))
    store.reads = 0
    return store


def online(store: Counted, **settings: Any) -> OnlineFeatures:
    found = OnlineFeatures(store, SPEC, "features", "v", **{"user": "user", "item": "ad"} | settings)
    store.reads = 0
    return found


def test_known_keys_complete_what_the_request_does_not_give(store: Counted) -> None:
    found = online(store).join("7", {}, {"ad": [1, "1.0", 1]}, 3)
    seen = {"seen": [*"34567"], "seen_in": [*"cdefg"]}
    assert found.context == {"user": "7", "age": 30.0, **seen}  # the newest events, and no other column
    assert found.columns == {"ad": [1, "1.0", 1], "price": [5.0] * 3, "tags": [["t"]] * 3}
    assert (found.cold, found.unread, store.reads) == ((), (), 2)


def test_what_the_request_gives_stays_and_lists_that_belong_together_too(store: Counted) -> None:
    found = online(store).join(None, {"user": 7, "seen": ["1"]}, {"ad": [1], "age": [None]}, 1)
    assert found.context == {"user": 7, "seen": ["1"]}
    assert found.columns == {"ad": [1], "age": [None], "price": [5.0], "tags": [["t"]]}


def test_keys_that_the_model_does_not_read_are_keys_only(store: Counted) -> None:
    describe(store, Described(FeatureSet("features", "v", "who"), {}))
    store.put_many(FeatureSet("features", "v", "who"), [FeatureRow("a", 0.0, {"age": 4})])
    found = online(store, user="who", item=None).join(None, {"who": "a"}, {"ad": [1]}, 1)
    assert (found.context, found.columns, found.cold) == ({"age": 4}, {"ad": [1]}, ())


def test_unknown_keys_are_told(store: Counted) -> None:
    found = online(store).join("nobody", {}, {"ad": [1, 2, None]}, 3)
    assert found.cold == ("user", "ad")
    assert found.context == {"user": "nobody"}
    assert found.columns["price"] == [5.0, None, None]
    assert online(store).join(None, {}, {"price": [1.0]}, 1).cold == ()  # no keys
    assert online(store).join("e\u0301", {}, {}, 1).context["age"] is None  # a stored number that is none


def test_a_store_that_fails_is_left_alone_for_a_while(
    store: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("ctrkit.serving.requests.features.time.monotonic", lambda: now)
    joins, store.down = online(store), True
    for _ in range(3):
        found = joins.join("7", {}, {"ad": [1]}, 1)
        assert (found.context, found.columns, found.cold) == ({"user": "7"}, {"ad": [1]}, ())
        assert found.unread == ("user", "ad")
    assert store.reads == 1
    store.down, now = False, 102.0
    assert joins.join("7", {}, {"ad": [1]}, 1).context["age"] == 30.0


def test_wrong_keys_and_stores_are_told(store: Counted) -> None:
    wrong: list[tuple[list[Value], str]] = [
        ([1, [2]], "candidates[1].ad"),
        ([1, 2.5], "candidates[1].ad"),
        ([1], "candidates.ad"),
    ]
    for column, path in wrong:
        with pytest.raises(FieldError) as told:
            online(store).join(None, {}, {"ad": column}, 2)
        assert told.value.path == path
    with pytest.raises(FieldError) as told:
        online(store).join(None, {"user": [7]}, {}, 1)
    assert told.value.path == "context.user"
    with pytest.raises(DataError, match="no features 'features' of version other"):
        OnlineFeatures(store, SPEC, "features", "other", user="user")
