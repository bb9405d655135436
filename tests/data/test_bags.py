"""Bags of ids as the encoder reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import Bag, FeatureMap
from ctrkit.data.fingerprints import row_hashes
from ctrkit.errors import DataError
from ctrkit.schema import FeatureSpec

CONFIG: dict[str, Any] = {
    "categorical": [{"name": "ad", "min_count": 1}],
    "bags": [
        {"name": "tags", "weights": "tag_weights", "max_length": 2, "pooling": "sum"},
        {"name": "liked", "shares": "ad", "max_length": 3},
    ],
}
SPEC = FeatureSpec.model_validate(CONFIG)
TABLE = pl.DataFrame(
    {
        "ad": [7, 7, 9, 8],
        "tags": [["new", "red"], [], ["red", "new", "old"], ["red"]],
        "tag_weights": [[0.5, 2.0], [], [1.0, 0.0, 3.0], [4]],
        "liked": [[9], None, [7, 9, 7, 8], [5]],
        "click": [0, 1, 1, 0],
    }
)


def test_ids_and_weights_are_as_worked_out_by_hand() -> None:
    encoder = Encoder.fit(SPEC, TABLE)
    # By falling count over all values, then by text: also those beyond the largest length are ids.
    assert encoder.vocabularies == {"ad": ["7", "9", "8", "5"], "tags": ["red", "new", "old"]}
    found = encoder.encode(TABLE)
    np.testing.assert_array_equal(found.bags["tags"], [[3, 2], [0, 0], [2, 3], [2, 0]])
    np.testing.assert_array_equal(found.bag_weights["tags"], [[0.5, 2], [0, 0], [1, 0], [4, 0]])
    np.testing.assert_array_equal(found.bags["liked"], [[3, 0, 0], [0, 0, 0], [2, 3, 2], [5, 0, 0]])
    assert set(found.bag_weights) == {"tags"}
    feature_map = encoder.feature_map()
    assert feature_map.bags == {"tags": Bag("tags", 2, "sum", True), "liked": Bag("ad", 3)}
    assert feature_map.fields == ("ad", "tags", "liked")
    assert FeatureMap.from_dict(json.loads(json.dumps(feature_map.to_dict()))) == feature_map
    again = Encoder.from_state(json.loads(json.dumps(encoder.state())))
    assert again.encode(TABLE).fingerprint() == found.fingerprint()


def test_bags_in_text_are_those_in_lists(tmp_path: Path) -> None:
    text = TABLE.with_columns(
        pl.col("tags").list.join("|"),
        pl.col("tag_weights").cast(pl.List(pl.String)).list.join("|"),
        pl.Series("liked", ["[9]", "", "7|9|7|8", "5"]),
    )
    text.write_csv(tmp_path / "t.csv")
    table, file = SPEC.read(tmp_path / "t.csv")
    encoder = Encoder.fit(SPEC, TABLE)
    assert Encoder.fit(SPEC, table, file).state() == encoder.state()
    assert encoder.encode(table, file).fingerprint() == encoder.encode(TABLE).fingerprint()


def test_other_ids_and_other_weights_are_other_rows() -> None:
    encoder = Encoder.fit(SPEC, TABLE)
    known = encoder.encode(TABLE)
    for column, cells in (
        ("tags", [["new", "old"], [], ["red", "new", "old"], ["red"]]),
        ("tag_weights", [[0.5, 2.5], [], [1.0, 0.0, 3.0], [4]]),
    ):
        other = encoder.encode(TABLE.with_columns(pl.Series(column, cells, strict=False)))
        assert other.fingerprint() != known.fingerprint()
        assert (row_hashes(other) != row_hashes(known)).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("column", "cells", "row", "said"),
    [
        ("tags", [1, 2, 3, 4], None, "one list for each row, not Int64"),
        ("tag_weights", [0.5, 1.0, 1.0, 1.0], None, "one list for each row, not Float64"),
        ("tag_weights", [[0.5, 2.0], [], [1.0, 0.0], [4.0]], 2, "another length than the list of 'tags'"),
        ("tag_weights", [[0.5, 2.0], None, [1.0, 0.0, 3.0], []], 3, "another length than the list of 'tags'"),
        ("tag_weights", [[0.5, 2.0], [], [1.0, 0.0, np.nan], [4.0]], 2, "the weight nan"),
        ("tag_weights", [[0.5, None], [], [1.0, 0.0, 3.0], [4.0]], 0, "the weight None"),
        ("tag_weights", [[0.5, 2.0], [], [1.0, 0.0, 3.0], [-1.0]], 3, "weights are numbers from 0 up"),
        ("tag_weights", [["0.5", "x"], [], ["1", "0", "3"], ["4"]], 0, "the weight 'x'"),
        ("tag_weights", [[0.5, 2.0], [], [1.0, 0.0, 3.0], [1e300]], 3, "weights are numbers"),
    ],
)
def test_bad_bags_are_named(column: str, cells: list[Any], row: int | None, said: str) -> None:
    encoder = Encoder.fit(SPEC, TABLE)
    with pytest.raises(DataError, match=said) as caught:
        encoder.encode(TABLE.with_columns(pl.Series(column, cells, strict=False)), "t.parquet")
    assert (caught.value.file, caught.value.column, caught.value.row) == ("t.parquet", column, row)


@pytest.mark.parametrize(
    ("bag", "said"),
    [
        (
            {"name": "tags", "shares": "adv"},
            "bag 'tags' shares 'adv', no categorical feature. Did you mean 'ad'",
        ),
        ({"name": "tags", "weights": "w", "pooling": "max"}, "a maximum has no weights"),
        ({"name": "tags", "weights": "ad"}, "'ad' holds the weights of a bag"),
        ({"name": "ad"}, "feature 'ad' is declared twice"),
    ],
)
def test_bags_without_meaning_are_refused(bag: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FeatureSpec.model_validate({**CONFIG, "bags": [bag]})


def test_a_missing_column_of_weights_is_named() -> None:
    with pytest.raises(DataError, match="column is missing") as caught:
        Encoder.fit(SPEC, TABLE.drop("tag_weights"))
    assert caught.value.column == "tag_weights"


def test_unknown_ids_of_bags_are_told() -> None:
    table = pl.concat([TABLE] * 5)
    new = table.with_columns(pl.Series("tags", [["x", "y"], [], ["x", "y", "z"], ["x"]] * 5))
    (note,) = Encoder.fit(SPEC, table).unlike(new)
    assert "Column 'tags': 100% of the ids are unknown to the model (in training 0%), such as 'x'" in note
