"""Names of encoded values, rows put together, and rows told."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from ctrkit.data.encoder import Encoder
from ctrkit.errors import DataError
from ctrkit.explanations import Attributions, Names, explain_rows, sample
from ctrkit.explanations.features import UNKNOWN, assemble, position_of
from ctrkit.schema import FeatureSpec
from tests.explanations.toys import FULL, rows

SPEC = FeatureSpec.model_validate(
    {
        "categorical": [{"name": "shop"}, {"name": "size"}],
        "numeric": [{"name": "age"}, {"name": "price", "transform": "log1p"}],
        "sequences": [
            {"name": "shops", "shares": "shop", "max_length": 3},
            {"name": "words", "max_length": 3},
        ],
    }
)
TABLE = pl.DataFrame(
    {
        "shop": ["a", "b", "a", "c"],
        "size": [7, 7, 8, 9],
        "age": [20.0, 31.5, 44.0, 60.0],
        "price": [0.0, 3.5, 1200.0, 8.25],
        "shops": [["a", "b"], [], ["zzz", "c", "a"], ["b", "a", "b", "c"]],
        "words": [["x", "y"], [], ["y", "x", "x"], ["y", "x", "y", "x"]],
        "click": [0, 1, 0, 1],
    }
)


def test_encoded_values_have_the_names_of_the_table() -> None:
    encoder = Encoder.fit(SPEC, TABLE)
    names, encoded = Names(encoder), encoder.encode(TABLE)
    for row in range(4):
        for position, column in enumerate(("shop", "size")):
            value = encoded.categorical[row, position]
            assert names.field(position, value) == str(TABLE[column][row])
        for position, column in enumerate(("age", "price")):
            value = float(encoded.numeric[row, position])
            assert names.number(column, value) == pytest.approx(TABLE[column][row], rel=1e-5, abs=1e-5)
    strange = encoder.encode(TABLE.with_columns(shop=pl.lit("new")))
    assert names.field(0, strange.categorical[0, 0]) == UNKNOWN
    event = {name: int(ids[:][2, 0]) for name, ids in encoded.sequences.items()}
    assert names.event(event) == {"shops": "zzz", "words": "y"}
    assert names.event({**event, "shops": -5}) == {"shops": UNKNOWN, "words": "y"}
    assert names.event({"shops": 0, "words": 0}) == {}


def test_a_row_is_told_with_its_values_and_events() -> None:
    encoder = Encoder.fit(SPEC, TABLE)
    encoded = encoder.encode(TABLE)
    generator = np.random.default_rng(0)
    present = np.stack([one[:] > 0 for one in encoded.sequences.values()], axis=2)
    events = generator.normal(size=(4, 3, 2)) * present
    fields = generator.normal(size=(4, 4))
    base = np.full(4, -2.0)
    final = base + fields.sum(axis=1) + events.sum(axis=(1, 2)) + 0.25
    found = Attributions(fields, events.sum(axis=(1, 2)), events, base, final, "ig")
    attention = {"din": generator.normal(size=(4, 3))}
    told = explain_rows(
        found, encoded, Names(encoder), [10, 11, 12, 13], [attention], lambda row, x: expit((row + 1.0) * x)
    )
    assert [one.row for one in told] == [10, 11, 12, 13]
    third = told[2]
    assert third.gap == pytest.approx(0.25)
    assert third.probability == pytest.approx(expit(3.0 * final[2]))
    assert third.base_probability == pytest.approx(expit(-6.0))
    assert [event.parts["words"] for event in third.events] == ["x", "x", "y"]
    assert [event.age for event in third.events] == [1, 2, 3]
    assert third.events[0].logit == pytest.approx(events[2, 2].sum())
    assert third.events[2].by_sequence == pytest.approx({"shops": events[2, 0, 0], "words": events[2, 0, 1]})
    assert third.events[0].attention == {"din": attention["din"][2, 2]}
    sizes = [abs(step.logit) for step in third.contributions]
    assert sizes == sorted(sizes, reverse=True)
    assert {step.feature for step in third.contributions} == {
        "shop", "size", "age", "price", "past event 1", "past event 2", "past event 3",
    }  # fmt: skip
    so_far = -2.0
    for step in third.contributions:
        so_far += step.logit
        assert step.probability == pytest.approx(expit(3.0 * so_far))
    logits, probabilities = zip(*third.scale, strict=True)
    assert probabilities == pytest.approx(expit(3.0 * np.array(logits)))
    assert logits[0] <= min(-2.0, final[2]) < max(-2.0, final[2]) <= logits[-1]
    assert told[1].events == ()
    assert {step.value for step in told[1].contributions} == {"b", "7", "31.5", "3.5"}


def test_a_history_taken_as_one_is_one_step() -> None:
    encoder = Encoder.fit(SPEC, TABLE)
    encoded = encoder.encode(TABLE)
    shares = np.ones((4, 4))
    found = Attributions(shares, np.full(4, 3.0), None, np.zeros(4), np.full(4, 7.0), "shap")
    told = explain_rows(found, encoded, Names(encoder), range(4), (), lambda row, x: expit(x))[0]
    assert (told.contributions[0].feature, told.contributions[0].value) == ("past events", "2 events")
    assert [event.logit for event in told.events] == [None, None]
    assert told.gap == pytest.approx(0.0)


@given(st.integers(0, 1000))
def test_assembled_rows_take_each_unit_from_its_row(seed: int) -> None:
    data = rows(count=6)
    index = np.random.default_rng(seed).integers(0, 6, (4, 6))
    found = assemble(data, index)
    for row in range(4):
        for unit in range(3):
            assert found.categorical[row, unit] == data.categorical[index[row, unit], unit]
        for unit in range(2):
            assert found.numeric[row, unit] == data.numeric[index[row, 3 + unit], unit]
        for name, ids in found.sequences.items():
            np.testing.assert_array_equal(ids[:][row], data.sequences[name][:][index[row, 5]])


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 5))
def test_a_sample_is_of_distinct_rows_in_order(count: int, most: int, seed: int) -> None:
    chosen = sample(count, most, seed)
    assert chosen.size == min(count, most)
    assert (np.diff(chosen) > 0).all()
    assert chosen.size == 0 or (chosen.min() >= 0 and chosen.max() < count)


def test_a_position_is_of_a_static_field() -> None:
    assert position_of(FULL, "age") == 4
    with pytest.raises(DataError, match=r"no feature 'prise'\. Did you mean 'price'"):
        position_of(FULL, "prise")
    with pytest.raises(DataError, match="'seen_items' is a history, which has no single value"):
        position_of(FULL, "seen_items")
