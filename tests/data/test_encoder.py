from __future__ import annotations

import json
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler

from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import FeatureMap, is_unknown, rows_of_tables
from ctrkit.data.fingerprints import row_hashes
from ctrkit.data.ids import unseen_ids
from ctrkit.data.scales import restored
from ctrkit.data.unlike import unknown_by_part
from ctrkit.errors import DataError
from ctrkit.schema import CategoricalFeature, FeatureSpec
from ctrkit.tables import read_table

SPEC = FeatureSpec.model_validate(
    {
        "numeric": [{"name": "price", "transform": "log1p"}],
        "categorical": [{"name": "ad", "min_count": 2}, {"name": "device"}],
        "sequences": [
            {"name": "history", "shares": "ad", "max_length": 3},
            {"name": "kind", "max_length": 3},
        ],
        "labels": {"click": "click", "conversion": "buy"},
        "group": "user",
    }
)
TABLE = pl.DataFrame(
    {
        "price": [0.0, 1.0, 3.0, 7.0],
        "ad": [7, 7, 9, 8],
        "device": ["tv", None, "pc", "pc"],
        "history": [[], [7], [9, 7, 7, 9], [7, 8]],
        "kind": [[], ["v"], ["b", "v", "v", "b"], ["b", "v"]],
        "click": [0, 1, 1, 0],
        "buy": [0, 0, 1, 0],
        "user": ["u", "v", "u", "w"],
    }
)


def test_ids_histories_and_numbers_are_as_worked_out_by_hand() -> None:
    encoder = Encoder.fit(SPEC, TABLE)
    encoded = encoder.encode(TABLE)
    # Ids by falling count in the column and in the histories; None is unknown.
    np.testing.assert_array_equal(encoded.categorical, [[2, 3], [2, 1], [3, 2], [4, 2]])
    history, kind = (encoded.sequences[name][:] for name in ("history", "kind"))
    np.testing.assert_array_equal(history, [[0, 0, 0], [0, 0, 2], [2, 2, 3], [0, 2, 4]])
    np.testing.assert_array_equal(kind, [[0, 0, 0], [0, 0, 2], [2, 2, 3], [0, 3, 2]])
    logs = np.log1p(TABLE["price"].to_numpy())
    np.testing.assert_allclose(encoded.numeric[:, 0], (logs - logs.mean()) / logs.std(), rtol=1e-6)
    np.testing.assert_array_equal(encoded.labels, [[0, 0], [1, 0], [1, 1], [0, 0]])
    assert encoded.groups is not None
    assert encoded.groups[0] == encoded.groups[2] != encoded.groups[1]


def test_feature_map_defaults_to_the_shared_features_as_target() -> None:
    feature_map = Encoder.fit(SPEC, TABLE).feature_map()
    assert feature_map.tables == {"ad": 5, "device": 4, "kind": 4}
    assert feature_map.sequences == {"history": "ad", "kind": "kind"}
    assert feature_map.target == ("ad",)
    assert feature_map.profile == ("device", "price")
    assert type(feature_map).from_dict(feature_map.to_dict()) == feature_map


def test_scales_are_those_of_the_training_rows() -> None:
    encoder = Encoder.fit(SPEC, TABLE[:2])
    logs = np.log1p([0.0, 1.0])
    scale = encoder.scales["price"]
    assert (scale.zero, scale.unit) == pytest.approx((logs.mean(), logs.std()))


def test_numbers_between_the_lowest_and_the_highest_of_training_are_those_of_scikit_learn() -> None:
    spec = FeatureSpec.model_validate(
        {"numeric": [{"name": "price", "transform": "log1p", "scale": "min_max"}]}
    )
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"price": [*rng.pareto(1.0, 300), None]})
    encoder = Encoder.fit(spec, table, rows=np.arange(100, 301))
    logs = np.log1p(table["price"].to_numpy())[:, None]
    expected = MinMaxScaler().fit(logs[100:300]).transform(logs)
    found = encoder.encode(table, labels=False).numeric
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    again = Encoder.from_state(json.loads(json.dumps(encoder.state())))
    assert (
        again.encode(table, labels=False).fingerprint() == encoder.encode(table, labels=False).fingerprint()
    )
    assert again.feature_map() == encoder.feature_map()
    assert again.feature_map().centres == {"price": pytest.approx(expected[100:300].mean())}
    assert again.feature_map().missing == ("price",)


def test_signed_logarithms_take_any_number_and_can_be_undone() -> None:
    spec = FeatureSpec.model_validate(
        {"numeric": [{"name": n, "transform": n} for n in ("log1p", "signed_log1p")]}
    )
    numbers = np.array([0.0, 3.0, 8.0, 1e6])
    table = pl.DataFrame({"log1p": numbers, "signed_log1p": numbers * [1, -1, 1, -1]})
    encoder = Encoder.fit(spec, table)
    logs = np.array([0.0, np.log(4.0), np.log(9.0), np.log1p(1e6)])
    signed = logs * [1, -1, 1, -1]
    found = encoder.encode(table, labels=False).numeric
    for place, expected in enumerate((logs, signed)):
        np.testing.assert_allclose(found[:, place], (expected - expected.mean()) / expected.std(), rtol=1e-6)
        feature, raw = spec.numeric[place], table.to_numpy()[:, place]
        undone = [restored(float(one), encoder.scales[feature.name], feature) for one in found[:, place]]
        np.testing.assert_allclose(undone, raw, rtol=1e-4, atol=1e-5)


def test_a_constant_number_becomes_zero() -> None:
    table = TABLE.with_columns(price=pl.lit(5.0))
    assert (Encoder.fit(SPEC, table).encode(table).numeric == 0).all()


def test_state_round_trip_encodes_alike_and_takes_ids_as_text() -> None:
    encoder = Encoder.fit(SPEC, TABLE)
    again = Encoder.from_state(encoder.state())
    text = TABLE.with_columns(pl.col("ad").cast(pl.String), pl.col("history").cast(pl.List(pl.String)))
    assert again.encode(text).fingerprint() == encoder.encode(TABLE).fingerprint()


def test_sequences_as_text_encode_as_lists_do(tmp_path: Path) -> None:
    joined = [pl.col(name).cast(pl.List(pl.String)).list.join("|") for name in ("history", "kind")]
    TABLE.with_columns(joined).write_csv(tmp_path / "t.csv")
    encoder = Encoder.fit(SPEC, TABLE)
    encoded = encoder.encode(read_table(tmp_path / "t.csv"))
    assert encoded.fingerprint() == encoder.encode(TABLE).fingerprint()


def test_fingerprint_tells_other_rows() -> None:
    encoder = Encoder.fit(SPEC, TABLE)
    assert encoder.encode(TABLE).fingerprint() != encoder.encode(TABLE.reverse()).fingerprint()


def test_an_id_above_two_to_the_24_stays_distinct() -> None:
    spec = FeatureSpec.model_validate({"categorical": [{"name": "ad"}]})
    table = pl.DataFrame({"ad": [2**24, 2**24 + 1], "click": [0, 1]})
    assert set(Encoder.fit(spec, table).encode(table).categorical[:, 0]) == {2, 3}


@pytest.mark.parametrize(
    ("change", "column", "row", "said"),
    [
        ({"click": [0, 1, 2, 0]}, "click", 2, "neither 0 nor 1"),
        ({"click": [0, None, 1, 0]}, "click", 1, "missing"),
        ({"click": [0.0, 1.0, float("nan"), 0.0]}, "click", 2, "not a finite number"),
        ({"buy": [1, 0, 1, 0]}, "buy", 0, "the step before it, is 0"),
        ({"price": [0.0, None, float("inf"), 2.0]}, "price", 2, "not a finite number"),
        ({"price": ["0", None, "NA", "2"]}, "price", 2, "'NA' is not a number"),
        ({"price": [0.0, -1.0, 1.0, 2.0]}, "price", 1, "below 0.*transform: signed_log1p"),
        ({"ad": [0.5, 1.0, 1.0, 2.0]}, "ad", None, "ids are integers or text"),
        ({"history": [1, 2, 3, 4]}, "history", None, "one list for each row"),
        ({"kind": [[], ["v"], ["b"], ["b", "v"]]}, "kind", 2, "another length than"),
    ],
)
def test_bad_values_are_named(
    change: dict[str, list[object]], column: str, row: int | None, said: str
) -> None:
    bad = TABLE.with_columns(pl.Series(name, values) for name, values in change.items())
    encoder = Encoder.fit(SPEC, TABLE)
    with pytest.raises(DataError, match=said) as caught:
        encoder.encode(bad, "t.parquet")
    assert (caught.value.file, caught.value.column, caught.value.row) == ("t.parquet", column, row)


@pytest.mark.parametrize(
    "cells", [[0.0, None, 3.0, float("nan")], ["0", None, "3", None], [0, None, 3, None]], ids=str
)
def test_missing_numbers_are_nan_and_teach_nothing(cells: list[object]) -> None:
    table = TABLE.with_columns(pl.Series("price", cells, strict=False))
    encoder = Encoder.fit(SPEC, table)
    assert encoder.scales == Encoder.fit(SPEC, TABLE[[0, 2]]).scales
    encoded = encoder.encode(table)
    np.testing.assert_array_equal(np.isnan(encoded.numeric[:, 0]), [False, True, False, True])
    np.testing.assert_allclose(encoded.numeric[[0, 2], 0], [-1.0, 1.0])
    # NaN has two signs and many payloads; missing numbers have one.
    negative = table.with_columns(pl.Series("price", [0.0, -np.float64("nan"), 3.0, np.nan]))
    assert encoder.encode(negative).fingerprint() == encoded.fingerprint()
    np.testing.assert_array_equal(row_hashes(encoder.encode(negative)), row_hashes(encoded))


def test_a_column_without_any_number_in_the_training_rows_is_named() -> None:
    for cells in ([None] * 4, [None, None, None, 2.0], ["", None, None, None]):
        table = TABLE.with_columns(pl.Series("price", [None if c == "" else c for c in cells]))
        with pytest.raises(DataError, match="no number") as caught:
            Encoder.fit(SPEC, table, "t.csv", np.arange(3))
        assert (caught.value.file, caught.value.column) == ("t.csv", "price")


def test_all_numbers_may_be_missing_when_predicting() -> None:
    table = TABLE.with_columns(pl.Series("price", [None] * 4))
    assert np.isnan(Encoder.fit(SPEC, TABLE).encode(table).numeric).all()


def test_missing_numbers_are_told_where_training_had_none() -> None:
    holed = TABLE.with_columns(pl.Series("price", [1.0, None, 2.0, 3.0]))
    (note,) = Encoder.fit(SPEC, TABLE).unlike(holed)
    assert note == (
        "Column 'price': 25.0% of the rows have no number, but all training rows have one; they are read as"
        " the mean of the training rows."
    )
    assert Encoder.fit(SPEC, holed).unlike(holed) == ()
    assert Encoder.from_state(Encoder.fit(SPEC, holed).state()).unlike(holed) == ()


def test_bins_are_learned_from_weighted_training_rows_and_kept() -> None:
    spec = FeatureSpec.model_validate({"numeric": [{"name": "x"}], "weight": "w"})
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"x": rng.normal(size=3000), "w": rng.integers(0, 3, 3000), "click": [0, 1] * 1500})
    counted = np.flatnonzero(table["w"].to_numpy() > 0)[:1500]
    encoder = Encoder.fit(spec, table, rows=counted)
    numbers = encoder.encode(table).numeric[counted, 0]
    edges = np.array(encoder.bins["x"].edges, dtype=np.float32)
    assert edges.size == 7
    levels = np.linspace(0, 1, 7)
    weight = table["w"].to_numpy()[counted]
    np.testing.assert_allclose(
        edges, np.quantile(numbers, levels, weights=weight, method="inverted_cdf"), rtol=1e-6
    )
    again = Encoder.from_state(json.loads(json.dumps(encoder.state())))
    assert again.bins == encoder.bins
    assert again.feature_map().bins == encoder.bins
    state = json.loads(json.dumps(encoder.feature_map().to_dict()))
    assert FeatureMap.from_dict(state) == encoder.feature_map()


def test_a_missing_column_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"column 'device': the column is missing. Did you mean 'devise'"):
        Encoder.fit(SPEC, TABLE.rename({"device": "devise"}))


def test_labels_may_be_absent_when_predicting() -> None:
    encoded = Encoder.fit(SPEC, TABLE).encode(TABLE.drop("click", "buy"), labels=False)
    assert encoded.labels.shape == (4, 0)


HISTORIES = FeatureSpec.model_validate(
    {"categorical": [{"name": "ad"}], "sequences": [{"name": "history", "shares": "ad"}]}
)


@pytest.mark.parametrize(
    "cells",
    [["3|4|5"], ["[3, 4, 5]"], ["3,4,5"], ["3 4 5"], ["3.0|4.0|5.0"], ["3, 4, 5"], ["['3', '4', '5']"]],
)
def test_histories_in_every_common_form_are_the_same(cells: list[str]) -> None:
    table = pl.DataFrame({"ad": ["3", "4", "5"] * 4, "click": [0, 1] * 6})
    encoder = Encoder.fit(HISTORIES, table.with_columns(history=pl.lit([3, 4, 5])))
    encoded = encoder.encode(table.with_columns(history=pl.lit(cells[0])))
    np.testing.assert_array_equal(encoded.sequences["history"][:][:, -3:], [[2, 3, 4]] * 12)


def test_a_history_that_knows_almost_none_of_its_events_is_refused() -> None:
    table = pl.DataFrame({"ad": [3, 4, 5] * 4, "click": [0, 1] * 6, "history": ["ad_3/ad_4"] * 12})
    with pytest.raises(DataError, match=r"column 'history': only 0.0% of the events are .*'ad_3/ad_4'.*'3'"):
        Encoder.fit(HISTORIES, table, "t.csv")
    own = FeatureSpec.model_validate({"categorical": [{"name": "ad"}], "sequences": [{"name": "history"}]})
    with pytest.raises(DataError, match=r"most contain ','.*separator: ','"):
        Encoder.fit(own, table.with_columns(history=pl.lit("a,b")))


def test_a_feature_without_a_known_id_is_refused() -> None:
    spec = FeatureSpec.model_validate({"categorical": [{"name": "ad", "min_count": 3}]})
    with pytest.raises(DataError, match="no id occurs 3 times"):
        Encoder.fit(spec, pl.DataFrame({"ad": range(20)}))
    with pytest.raises(DataError, match="100% of these rows have no id"):
        Encoder.fit(spec, pl.DataFrame({"ad": [float("nan")] * 20}))


def test_unknown_ids_are_told_where_there_are_far_more_than_usual() -> None:
    spec = FeatureSpec.model_validate({"categorical": [{"name": "ad"}]})
    seen = pl.DataFrame({"ad": [*range(100), *range(50, 150)]})
    encoder = Encoder.fit(spec, seen, rows=np.arange(100))
    assert encoder.usual_unknown == {"ad": 0.5}  # of the validation and test rows
    assert encoder.notes == ()
    other_text = pl.DataFrame({"ad": [*map(str, range(50)), *(f"ad_{k}" for k in range(50))]})
    parts = {"train": np.arange(50), "valid": np.arange(40, 70), "test": np.arange(70, 100)}
    learnt = Encoder.fit(spec, other_text, rows=parts["train"])
    shares, (note,) = unknown_by_part(learnt, {part: other_text[rows] for part, rows in parts.items()})
    assert shares == {"ad": {"train": 0.0, "valid": pytest.approx(2 / 3), "test": 1.0}}
    assert note.startswith(
        "Test rows: Column 'ad': 100% of the ids are unknown to the model (in training 0%)"
    )
    assert "train on newer rows, or leave the id out" in note
    assert "write them as in training, such as '0'" in note
    assert encoder.unlike(pl.DataFrame({"ad": range(40, 140)})) == ()
    (note,) = encoder.unlike(pl.DataFrame({"ad": range(90, 190)}))
    assert "Column 'ad': 90% of the ids are unknown to the model (in training 50%), such as '100'" in note
    assert encoder.unlike(pl.DataFrame({"ad": range(200, 205)})) == ()  # too few to say
    assert encoder.unlike(pl.DataFrame({"candidates": [[900, 901, 902]] * 9, "ad": [1] * 9})) == ()
    with_candidates = FeatureSpec.model_validate({"categorical": [{"name": "ad"}], "candidate": {"id": "ad"}})
    log = pl.DataFrame({"candidates": [[900, 901, 902]] * 9, "ad": [1] * 9})
    assert "100%" in Encoder.fit(with_candidates, seen).unlike(log)[0]
    old = encoder.state()
    del old["usual_unknown"]
    assert (
        "unknown to the model, such as"
        in Encoder.from_state(old).unlike(pl.DataFrame({"ad": range(200, 299)}))[0]
    )


def test_ids_are_unknown_but_for_padding_and_those_of_training() -> None:
    ids = np.array([[-7, -1, 0], [1, 2, 900]], dtype=np.int32)
    np.testing.assert_array_equal(is_unknown(ids), [[True, True, False], [True, False, False]])


def test_shares_of_unknown_ids_are_those_counted_by_hand() -> None:
    spec = FeatureSpec.model_validate(
        {
            "categorical": [{"name": "ad", "min_count": 2}],
            "sequences": [{"name": "seen", "shares": "ad"}, {"name": "kind"}],
        }
    )
    rng = np.random.default_rng(3)
    ads = [None if one % 7 == 0 else int(one) for one in rng.integers(0, 60, 300)]
    lists = [[int(one) for one in rng.integers(0, 60, rng.integers(0, 4))] for _ in range(300)]
    table = pl.DataFrame({"ad": ads, "seen": lists, "kind": lists})
    parts = dict(zip(("train", "valid", "test"), np.split(rng.permutation(300), [60, 150]), strict=True))
    encoder = Encoder.fit(spec, table, rows=parts["train"])
    shares, notes = unknown_by_part(encoder, {part: table[rows] for part, rows in parts.items()})
    counts = Counter(ads[row] for row in parts["train"])
    counts.update(one for row in parts["train"] for one in lists[row])
    known = {ad for ad, count in counts.items() if count >= 2 and ad is not None}
    kinds = {one for row in parts["train"] for one in lists[row]}
    for part, rows in parts.items():
        held = [ads[row] for row in rows if ads[row] is not None]
        events = [one for row in rows for one in lists[row]]
        assert shares["ad"][part] == pytest.approx(np.mean([one not in known for one in held]))
        assert shares["seen"][part] == pytest.approx(np.mean([one not in known for one in events]))
        assert shares["kind"][part] == pytest.approx(np.mean([one not in kinds for one in events]))
    assert all("min_count of 2" in note for note in notes)


NUMBER = FeatureSpec.model_validate({"numeric": [{"name": "price"}]})


def test_what_rounding_leaves_of_a_constant_is_no_scale() -> None:
    prices = np.full(1000, 14.62)
    assert prices.std() > 0  # 3.6e-15, the deviation that was once divided by
    encoder = Encoder.fit(NUMBER, pl.DataFrame({"price": prices}))
    other = pl.DataFrame({"price": [14.62, 14.63, 1e300]})
    np.testing.assert_array_equal(encoder.encode(other, labels=False).numeric[:, 0], [0, 0, 0])
    (note,) = encoder.unlike(other)
    assert "66.7% of the numbers, such as 14.63, are not the number of all training rows" in note


def test_a_number_beside_which_all_others_are_alike_is_refused() -> None:
    prices = [1.0, 2.0, 3.0] * 400
    for wild in (1e38, 1e300, -1e20):
        table = pl.DataFrame({"price": [*prices[:700], wild, *prices[700:]]})
        with pytest.raises(DataError, match="makes them all equal") as caught:
            Encoder.fit(NUMBER, table, rows=np.arange(10, 1201))
        assert caught.value.row == 700
    heavy = np.random.default_rng(0).pareto(1.5, 2000)
    assert np.isfinite(Encoder.fit(NUMBER, pl.DataFrame({"price": heavy})).scales["price"].bound)


def test_far_numbers_are_read_as_ten_times_the_farthest_of_training() -> None:
    encoder = Encoder.fit(NUMBER, pl.DataFrame({"price": [0.0, 1.0] * 50}))
    z = encoder.encode(pl.DataFrame({"price": [1.0, 40.0, 1e9, -1e300]}), labels=False).numeric[:, 0]
    np.testing.assert_allclose(z, [1.0, 79.0, 100.0, -100.0])


@pytest.mark.parametrize(
    "users",
    [["a", None, "b", None, "a"], [1.0, float("nan"), 2.0, None, 1.0], [True, None, False, None, True]],
)
def test_a_row_without_a_group_is_a_unit_of_its_own(users: list[object]) -> None:
    spec = FeatureSpec.model_validate({"categorical": [{"name": "x"}], "group": "user"})
    table = pl.DataFrame({"x": ["p", "q"] * 2 + ["p"], "click": [0, 1, 0, 1, 0], "user": users})
    groups = Encoder.fit(spec, table).encode(table).groups
    assert groups is not None
    assert groups[0] == groups[4] != groups[2]
    assert (groups[[1, 3]] < 0).all()
    assert (groups[[0, 2, 4]] >= 0).all()
    assert len(set(groups.tolist())) == 4
    lists = table.with_columns(user=pl.Series([[1]] * 5))
    with pytest.raises(DataError, match="column 'user': groups must be integers or text"):
        Encoder.fit(spec, table).encode(lists)


def test_weights_beyond_single_precision_are_named() -> None:
    spec = FeatureSpec.model_validate({"categorical": [{"name": "x"}], "weight": "w"})
    table = pl.DataFrame({"x": ["p", "q"], "click": [0, 1], "w": [1.0, 1e39]})
    with pytest.raises(DataError, match=r"column 'w', row index 1.*above 1e"):
        Encoder.fit(spec, table).encode(table)


@pytest.mark.slow
@given(st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=30))
def test_unseen_ids_are_negative_and_differ_where_values_differ(values: list[str | None]) -> None:
    ids = unseen_ids(pl.Series(values, dtype=pl.String))
    assert ids.dtype == np.int32
    for one, own in zip(values, ids, strict=True):
        assert own == 1 if one is None else own < 0
        for other, theirs in zip(values, ids, strict=True):
            assert (one == other) == (own == theirs)


def test_unseen_ids_are_the_digests_of_their_text() -> None:
    """They must not change: two machines, and two runs, give an event and its target the same id."""
    ids = unseen_ids(pl.Series(["ad_1", None, "é"]))
    for text, found in (("ad_1", ids[0]), ("é", ids[2])):
        digest = int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "little")
        assert int(found) == digest % 2**31 - 2**31
    assert ids[1] == 1


def test_unknown_ids_keep_their_identity_only_where_a_history_shares_them() -> None:
    table = TABLE.with_columns(
        ad=pl.Series([99, 7, None, 98]),
        device=pl.Series(["radio", "pc", None, "radio"]),
        history=pl.Series([[99], [98, 7], [None, 99], []], dtype=pl.List(pl.Int64)),
        kind=pl.Series([["new"], ["b", "v"], ["v", "new"], []]),
    )
    encoded = Encoder.fit(SPEC, TABLE).encode(table)
    new, other = encoded.categorical[0, 0], encoded.categorical[3, 0]
    assert len({int(new), int(other)}) == 2
    assert max(new, other) < 0
    np.testing.assert_array_equal(encoded.categorical, [[new, 1], [2, 2], [1, 1], [other, 1]])
    history = encoded.sequences["history"][:]
    np.testing.assert_array_equal(history, [[0, 0, new], [0, other, 2], [0, 1, new], [0, 0, 0]])
    np.testing.assert_array_equal(encoded.sequences["kind"][np.array([0, 2])], [[0, 0, 1], [0, 2, 1]])
    np.testing.assert_array_equal(rows_of_tables(history), np.where(history < 0, 1, history))


@pytest.mark.parametrize(
    ("hashed", "kind"), [({}, np.uint8), ({"buckets": 3000}, np.uint16), ({"buckets": 2**17}, np.int32)]
)
def test_ids_of_events_take_the_bytes_that_they_need(hashed: dict[str, int], kind: type) -> None:
    spec = FeatureSpec.model_validate(
        {
            "categorical": [{"name": "ad"}],
            "sequences": [{"name": "seen", "min_count": 1, "max_length": 4, **hashed}],
        }
    )
    lists = [[f"s{(7 * row + place) % 90}" for place in range(row % 5)] for row in range(200)]
    table = pl.DataFrame({"ad": ["a", "b"] * 100, "click": [0, 1] * 100, "seen": lists})
    encoder = Encoder.fit(spec, table)
    found = encoder.encode(table).sequences["seen"]
    assert found.ids.dtype == kind
    for row, one in zip(lists, found[:], strict=True):
        assert one[4 - len(row) :].tolist() == encoder.ids("seen", pl.Series(row, dtype=pl.String)).tolist()


def test_events_count_towards_min_count_and_have_ids() -> None:
    spec = FeatureSpec.model_validate(
        {"categorical": [{"name": "ad", "min_count": 3}], "sequences": [{"name": "seen", "shares": "ad"}]}
    )
    rng = np.random.default_rng(0)
    ads = [*rng.integers(0, 30, 60).tolist(), 1, 1, 1]
    lists = [rng.integers(0, 40, rng.integers(0, 4)).tolist() for _ in ads]
    encoder = Encoder.fit(spec, pl.DataFrame({"ad": ads, "seen": lists}))
    counts = Counter([*ads, *(one for events in lists for one in events)])
    known = sorted((-count, str(one)) for one, count in counts.items() if count >= 3)
    assert encoder.vocabularies["ad"] == [name for _, name in known]
    assert any(int(name) >= 30 for _, name in known)  # only in histories


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(1, 1), (9_999, 1), (19_999, 1), (20_000, 2), (99_999, 9), (100_000, 10), (10**8, 10)],
)
def test_the_least_count_of_ids_follows_from_the_rows(rows: int, expected: int) -> None:
    assert CategoricalFeature(name="ad").counted(rows).min_count == expected
    assert CategoricalFeature(name="ad", min_count=4).counted(rows).min_count == 4


def test_the_least_count_is_that_of_the_training_rows_and_is_kept() -> None:
    spec = FeatureSpec.model_validate({"categorical": [{"name": "ad"}]})
    table = pl.DataFrame({"ad": [*["a"] * 19_994, "b", "b", "b", "c", "d", "d", "b", "b"]})
    encoder = Encoder.fit(spec, table, rows=np.arange(20_000))
    assert encoder.vocabularies == {"ad": ["a", "b", "d"]}  # c occurs once
    assert encoder.spec.categorical[0].min_count == 2
    assert Encoder.from_state(encoder.state()).spec == encoder.spec
    assert spec.categorical[0].min_count is None


def test_texts_as_their_distinct_ones_have_the_same_ids() -> None:
    """Parquet files bring them so: also in a table that a history shares, written in other ways, missing."""
    encoder = Encoder.fit(SPEC, TABLE)
    distinct = ["9", "7.0", " 8", "new", "4.5e+18"]
    texts = pl.Series("ad", ["new", None, "7.0", "9", " 8", "7.0"] * 2)
    enum = texts.cast(pl.Enum(distinct))
    for table in ("ad", "device"):
        assert encoder.ids(table, enum).tolist() == encoder.ids(table, texts).tolist()
    assert encoder.ids("ad", enum)[[1, 2, 3]].tolist() == [1, 2, 3]
    # One that is no id counts only where a row has it.
    rounded = pl.Series("ad", ["9", "4.5e+18"] * 3).cast(pl.Enum(distinct))
    with pytest.raises(DataError, match="row index 1"):
        encoder.ids("ad", rounded, "file")
