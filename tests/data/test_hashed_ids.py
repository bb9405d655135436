"""Ids in buckets: the same everywhere, and no value is held in memory."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrkit.config import build
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import UNKNOWN_ID
from ctrkit.data.learning import Learning
from ctrkit.data.unlike import unknown_by_part
from ctrkit.errors import ConfigError, DataError
from ctrkit.hashing import text_hashes
from ctrkit.schema import FeatureSpec

GOLDEN, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def spec_of(**changes: Any) -> FeatureSpec:
    content = {
        "categorical": [{"name": "user"}, {"name": "ad"}, {"name": "site", "buckets": 7}],
        "sequences": [{"name": "seen", "shares": "ad"}, {"name": "words"}],
        "bags": [{"name": "sites", "shares": "site"}],
        "hash_above": 20,
    }
    return build(FeatureSpec, {**content, **changes})


def table_of(rng: np.random.Generator, rows: int, values: int = 60) -> pl.DataFrame:
    sizes = rng.integers(0, 4, rows)

    def lists() -> list[list[int]]:
        return [rng.integers(0, values, size).tolist() for size in sizes]

    return pl.DataFrame(
        {
            "user": [None if one % 9 == 0 else f"u{one}" for one in rng.integers(0, values, rows)],
            "ad": rng.integers(0, values, rows),
            "site": [f" {one}.0" if one % 2 else f"{one}" for one in rng.integers(0, values, rows)],
            "seen": lists(),
            "words": lists(),
            "sites": lists(),
            "click": rng.integers(0, 2, rows),
        },
        schema_overrides={name: pl.List(pl.Int64) for name in ("seen", "words", "sites")},
    )


def mixed(word: int) -> int:
    """SplitMix64's finalizer on Python's own integers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & MASK
    return word ^ (word >> 31)


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(max_size=30) | st.none(), max_size=20), cut=st.integers(0, 5))
def test_hashes_of_texts_are_those_of_their_bytes(texts: list[str | None], cut: int) -> None:
    expected = []
    for text in texts[cut:]:
        content = (text or "").encode()
        found = mixed((len(content) + GOLDEN) & MASK)
        for start in range(0, len(content), 8):
            word = int.from_bytes(content[start : start + 8], "little")
            found = mixed(((found ^ word) + GOLDEN) & MASK)
        expected.append(found)
    series = pl.Series(texts, dtype=pl.String)
    assert text_hashes(series.slice(cut)).tolist() == expected


def test_hashes_of_texts_never_change() -> None:
    """Artifacts depend on them: where this fails, no older model with buckets reads its features right."""
    assert text_hashes(pl.Series(["", "7", "abcdefghi"])).tolist() == [
        16294208416658607535,
        7415455699457463782,
        14690935847201975099,
    ]


def test_buckets_are_filled_as_by_chance() -> None:
    hashes = text_hashes(pl.Series(range(100_000)).cast(pl.String))
    counts = np.bincount((hashes % np.uint64(1000)).astype(np.int64), minlength=1000)
    assert abs(((counts - 100) ** 2 / 100).sum() - 999) < 4 * np.sqrt(2 * 999)


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 80))
def test_chunks_and_order_of_rows_change_nothing(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    table = table_of(rng, 80, values=int(rng.integers(15, 30)))  # about as many as may have their own ids

    def learnt(rows: pl.DataFrame) -> Encoder:
        learning = Learning(spec_of(), rows.height)
        for start in range(0, rows.height, size):
            chunk = rows[start : start + size]
            learning.add(chunk, np.arange(chunk.height), None)
        return Encoder.learnt(learning, rows, rows[:0])

    order = rng.permutation(80)
    whole, parts = Encoder.fit(spec_of(), table), learnt(table[order])
    assert whole.state() == parts.state()
    again = Encoder.from_state(json.loads(json.dumps(whole.state())))
    encoded, moved = whole.encode(table), again.encode(table[order])
    for name, array in encoded.arrays().items():
        np.testing.assert_array_equal(moved.arrays()[name][np.arange(80)], array[order], name)
    for name, size_of in whole.feature_map().tables.items():
        of = [encoded.categorical[:, at] for at, f in enumerate(whole.spec.categorical) if f.name == name]
        assert all(ids.max() < size_of for ids in of)


def test_many_values_are_hashed_and_ids_that_are_needed_are_not() -> None:
    table = table_of(np.random.default_rng(1), 400)
    encoder = Encoder.fit(spec_of(), table)
    assert encoder.spec.buckets == {"user": 20, "site": 7, "words": 20}
    assert set(encoder.vocabularies) == {"ad"}  # a sequence shares it
    assert "more than 20 values, and is hashed into 20 buckets" in "".join(encoder.notes)
    assert "site" not in "".join(encoder.notes)
    for role in ({"group": "user"}, {"target": ["user"]}, {"candidate": {"id": "user"}}):
        assert set(Encoder.fit(spec_of(**role), table).vocabularies) == {"ad", "user"}
    named = [{"name": "user", "hash": False}, {"name": "ad", "hash": True}, {"name": "site"}]
    chosen = Encoder.fit(spec_of(categorical=named), table)
    assert chosen.spec.buckets == {"ad": 20, "site": 20, "words": 20}
    few = Encoder.fit(spec_of(hash_above=60), table)
    assert few.spec.buckets == {"site": 7}
    assert Encoder.fit(spec_of(hash_above=None), table).spec.buckets == {"site": 7}


def test_a_table_is_hashed_by_the_values_of_all_its_columns() -> None:
    """Neither the field nor the bag that shares its ids has more than 20 values, but both together have."""
    table = pl.DataFrame({"ad": list(range(20)) * 2, "ads": [[n % 15 + 10] for n in range(40)], "click": 0})
    content = {"categorical": [{"name": "ad"}], "bags": [{"name": "ads", "shares": "ad"}]}
    for most, buckets in ((25, {}), (24, {"ad": 24})):
        spec = build(FeatureSpec, {**content, "hash_above": most})
        encoder = Encoder.fit(spec, table)
        assert encoder.spec.buckets == buckets
        assert encoder.feature_map().bags["ads"].table == "ad"


def test_one_value_has_one_bucket_however_it_is_written() -> None:
    encoder = Encoder.fit(spec_of(), table_of(np.random.default_rng(2), 50))
    ways = [
        pl.Series([7]),
        pl.Series([7.0]),
        pl.Series(["7"]),
        pl.Series([" 7.0 "]),
        pl.Series(["7"], dtype=pl.Categorical),
    ]
    found = {int(encoder.ids("site", way)[0]) for way in ways}
    assert found == {2 + int(text_hashes(pl.Series(["7"]))[0] % np.uint64(7))}
    missing = pl.Series(["", "nan", None, "new"])
    ids = encoder.ids("site", missing)
    assert (ids[:3] == UNKNOWN_ID).all()
    assert ids[3] > UNKNOWN_ID  # a new value is in the bucket of others
    with pytest.raises(DataError, match="ids are integers or text"):
        encoder.ids("site", pl.Series([0.5]))


def test_no_share_of_unknown_ids_is_told_of_buckets() -> None:
    table = table_of(np.random.default_rng(3), 200)
    encoder = Encoder.fit(spec_of(), table)
    shares, notes = unknown_by_part(encoder, {"train": table, "test": table.with_columns(site=pl.lit("new"))})
    assert set(shares) == {"ad", "seen"}
    assert notes == ()
    gone = encoder.unlike(table.with_columns(site=pl.lit(None, dtype=pl.String)))
    assert any("'site': 100% of the rows have no value" in note for note in gone)


def test_values_of_a_hashed_column_are_not_held() -> None:
    spec = build(
        FeatureSpec,
        {"categorical": [{"name": "a", "hash": True}, {"name": "b", "buckets": 9}], "hash_above": 50},
    )
    learning = Learning(spec, 10_000)
    for start in range(0, 10_000, 1000):
        values = pl.Series(range(start, start + 1000)).cast(pl.String)
        chunk = pl.DataFrame({"a": values, "b": values})
        learning.add(chunk, np.arange(1000), None)
        assert all(counts.too_many and not counts.counts().height for counts in learning._counts.values())
    assert learning.vocabularies() == {}


def test_a_column_of_buckets_without_any_id_is_an_error() -> None:
    table = table_of(np.random.default_rng(4), 30).with_columns(site=pl.lit(None, dtype=pl.String))
    with pytest.raises(DataError, match="column 'site': no id occurs"):
        Encoder.fit(spec_of(), table)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"categorical": [{"name": "ad", "buckets": 1}]}, "at least 2"),
        ({"categorical": [{"name": "ad", "buckets": 9, "hash": False}]}, "leave one of them out"),
        ({"hash_above": 0}, "at least 2"),
        ({"bags": [{"name": "sites", "shares": "site", "buckets": 9}]}, "shares the ids of 'site'"),
        ({"sequences": [{"name": "seen", "shares": "ad", "hash": True}]}, "shares the ids of 'ad'"),
    ],
)
def test_faulty_buckets_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        spec_of(**changes)
