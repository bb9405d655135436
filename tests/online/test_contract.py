"""What every online store that can be written does."""

from __future__ import annotations

import math
import struct
import time
import uuid
from collections.abc import Iterator

import pytest

from ctrkit.errors import DataError
from ctrkit.online import FeatureRow, FeatureSet, OnlineStore, open_store

VALUES = {
    "clicks": 2**62 + 1,
    "rate": 0.1 + 0.2,
    "whole": 3.0,
    "zero": -0.0,
    "tiny": 5e-324,
    "nan": math.nan,
    "endless": -math.inf,
    "none": None,
    "yes": True,
    "text": 'é"\n\\ 🜁 true',
    "empty": "",
    "ids": ["7", None, "07"],
    "numbers": [1, 2.0, math.nan],
    "nothing": [],
}


@pytest.fixture
def store(address: str) -> Iterator[OnlineStore]:
    opened = open_store(address)
    yield opened
    if hasattr(opened, "close"):
        opened.close()


@pytest.fixture
def features() -> FeatureSet:
    # The server of Redis outlives a test.
    return FeatureSet(f"set-{uuid.uuid4().hex}", "v1", "user_id")


def bits(value: object) -> object:
    if isinstance(value, list):
        return [bits(one) for one in value]
    return ("float", struct.pack(">d", value)) if isinstance(value, float) else (type(value), value)


def one(key: str, time: float, **values: object) -> FeatureRow:
    return FeatureRow(key, time, values)


def test_values_come_back_with_their_types_and_bits(store: OnlineStore, features: FeatureSet) -> None:
    assert store.put_many(features, [FeatureRow("u", 1.0, VALUES)]) == 1
    (found,) = store.get_many(features, ["u"])
    assert found is not None
    assert {name: bits(value) for name, value in found.items()} == {
        name: bits(value) for name, value in VALUES.items()
    }


def test_keys_keep_their_order_and_unknown_ones_are_missing(store: OnlineStore, features: FeatureSet) -> None:
    keys = [f"k:{number} é" for number in range(250)]
    store.put_many(features, [one(key, 1.0, n=number) for number, key in enumerate(keys)])
    asked = [*reversed(keys), "nobody", "7", keys[3], keys[3]]
    found = store.get_many(features, asked)
    assert [row and row["n"] for row in found] == [*reversed(range(250)), None, None, 3, 3]
    assert store.get_many(features, []) == []
    assert store.put_many(features, []) == 0


def test_the_newest_row_wins_and_rows_may_be_written_again(store: OnlineStore, features: FeatureSet) -> None:
    new = one("u", 1_700_000_000.5, n=2)
    assert store.put_many(features, [new]) == 1
    assert store.put_many(features, [new]) == 1
    assert store.put_many(features, [one("u", 1_700_000_000.25, n=1)]) == 0
    assert store.get_many(features, ["u"]) == [{"n": 2}]
    assert store.put_many(features, [one("u", 1_700_000_000.75, n=3)]) == 1
    assert store.get_many(features, ["u"]) == [{"n": 3}]


def test_versions_and_keys_of_other_columns_stand_beside_each_other(
    store: OnlineStore, features: FeatureSet
) -> None:
    other = FeatureSet(features.name, "v2", "user_id")
    ads = FeatureSet(features.name, "v1", "ad_id")
    store.put_many(features, [one("7", 2.0, n=1)])
    store.put_many(other, [one("7", 1.0, n=2)])
    assert [store.get_many(each, ["7"]) for each in (features, other, ads)] == [
        [{"n": 1}],
        [{"n": 2}],
        [None],
    ]


def test_rows_expire_and_then_do_not_stop_older_ones(store: OnlineStore, features: FeatureSet) -> None:
    store.put_many(features, [one("short", 2.0, n=1)], ttl=0.3)
    store.put_many(features, [one("long", 2.0, n=2)], ttl=1000.0)
    assert store.get_many(features, ["short", "long"]) == [{"n": 1}, {"n": 2}]
    time.sleep(0.35)
    assert store.get_many(features, ["short", "long"]) == [None, {"n": 2}]
    assert store.put_many(features, [one("short", 1.0, n=3), one("long", 1.0, n=4)]) == 1
    assert store.get_many(features, ["short", "long"]) == [{"n": 3}, {"n": 2}]


@pytest.mark.parametrize("value", [object(), {"a": 1}, [[1]], b"bytes", "\ud800"])
def test_a_wrong_value_is_refused_before_anything_is_written(
    store: OnlineStore, features: FeatureSet, value: object
) -> None:
    store.put_many(features, [one("first", 1.0, n=1)])
    with pytest.raises(DataError, match="second"):
        store.put_many(features, [one("first", 2.0, n=2), one("second", 2.0, n=value)])
    assert store.get_many(features, ["first", "second"]) == [{"n": 1}, None]
