"""What is learnt chunk by chunk is what is learnt at once."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrkit.data import statistics
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import is_unknown
from ctrkit.data.learning import Learning
from ctrkit.data.statistics import NumberSummary
from ctrkit.schema import FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "categorical": [{"name": "ad", "min_count": 2}, {"name": "site"}],
        "numeric": [{"name": "price"}],
        "sequences": [{"name": "seen", "shares": "ad"}],
    }
)


def table_of(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    ads = [None if one % 5 == 0 else int(one) for one in rng.integers(0, 12, rows)]
    return pl.DataFrame(
        {
            "ad": ads,
            "site": [f"s{one}" for one in rng.integers(0, 9, rows)],
            "price": [None if one < 0.1 else float(one) for one in rng.random(rows)],
            "seen": [rng.integers(0, 12, size).tolist() for size in rng.integers(0, 4, rows)],
            "click": rng.integers(0, 2, rows),
        },
        schema_overrides={"ad": pl.Int64, "seen": pl.List(pl.Int64), "price": pl.Float64},
    )


def learnt(table: pl.DataFrame, size: int) -> Encoder:
    learning = Learning(SPEC, table.height)
    for start in range(0, table.height, size):
        chunk = table[start : start + size]
        learning.add(chunk, np.arange(chunk.height), None)
    return Encoder.learnt(learning, table, table[:0])


@pytest.mark.slow
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 80), block=st.sampled_from([8, 16, 1 << 19]))
def test_chunks_and_order_of_rows_change_nothing(seed: int, size: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    table = table_of(rng, 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "BLOCK", block)
        whole, parts = learnt(table, 60), learnt(table, size)
        assert json.dumps(whole.state()) == json.dumps(parts.state())
    encoded = whole.encode(table)
    assert encoded.fingerprint() == whole.encode(table).fingerprint()
    order = rng.permutation(60)
    moved = whole.encode(table[order])
    np.testing.assert_array_equal(moved.categorical, encoded.categorical[order])
    np.testing.assert_array_equal(moved.numeric, encoded.numeric[order])
    pieces = [whole.encode(table[start : start + size]).categorical for start in range(0, 60, size)]
    np.testing.assert_array_equal(np.concatenate(pieces), encoded.categorical)
    again = learnt(table[order], size)  # learnt from the same rows in another order
    assert again.vocabularies == whole.vocabularies
    assert again.scales["price"].zero == pytest.approx(whole.scales["price"].zero, rel=1e-12)


@settings(max_examples=20)
@given(values=st.lists(st.text("abcé ", max_size=4) | st.integers(-3, 30).map(str) | st.none(), max_size=30))
def test_values_that_training_did_not_see_are_unknown(values: list[str | None]) -> None:
    training = pl.DataFrame(
        {"ad": [*range(1, 11), *range(1, 11)], "site": ["s"] * 20, "price": [1.0, 2] * 10}
    )
    table = training.with_columns(seen=pl.lit([1]), click=0)
    encoder = Encoder.fit(SPEC, table)
    known = {str(one) for one in range(1, 11)}
    found = is_unknown(encoder.ids("ad", pl.Series("ad", values, dtype=pl.String)))
    expected = [value is None or value.strip() not in known for value in values]
    np.testing.assert_array_equal(found, expected)


def test_numbers_in_blocks_are_summed_as_numpy_sums_them() -> None:
    rng = np.random.default_rng(5)
    numbers = rng.lognormal(8.0, 2.0, 3 * statistics.BLOCK + 77)
    summary = NumberSummary()
    for part in np.array_split(numbers, 11):
        summary.add(part, None, np.arange(part.size), None)
    summary.finish()
    assert summary.size == numbers.size
    assert summary.mean == pytest.approx(numbers.mean(), rel=1e-12)
    assert summary.deviation == pytest.approx(numbers.std(), rel=1e-12)
    assert (summary.lowest.value, summary.highest.value) == (numbers.min(), numbers.max())
    assert statistics.BLOCK // 2 <= summary.sample.size <= statistics.BLOCK
    levels = np.linspace(0.05, 0.95, 19)
    ranks = np.searchsorted(np.sort(numbers), np.quantile(summary.sample, levels)) / numbers.size
    assert np.abs(ranks - levels).max() < 0.004
