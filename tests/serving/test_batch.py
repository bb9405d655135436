"""The stored batch: rows of every kind of feature, and what a server finds by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.data.encoder import Encoder
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.errors import ArtifactError
from ctrkit.schema import FeatureSpec
from ctrkit.serving.batch import BATCH, ROWS, check_batch, encoded_rows, raw_rows, write_batch
from ctrkit.serving.bundle import Bundle, arrays_of
from ctrkit.serving.parity import TOLERANCE, any_rows

SPEC: dict[str, Any] = {
    "numeric": [
        {"name": "price", "transform": "log1p"},
        {"name": "age", "scale": "min_max"},
        {"name": "balance", "transform": "signed_log1p"},
    ],
    "categorical": [{"name": "ad"}, {"name": "city", "buckets": 100}],
    "sequences": [
        {"name": "seen", "shares": "ad", "max_length": 4},
        {"name": "bought", "max_length": 3, "domain": "purchases"},
    ],
    "bags": [{"name": "tags", "weights": "weights", "max_length": 3}, {"name": "words", "max_length": 2}],
    "vectors": [{"name": "text"}],
}


def table(rows: int = 200) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "price": draw.exponential(size=rows),
            "age": draw.integers(18, 80, rows),
            "balance": draw.normal(scale=100, size=rows),
            "ad": draw.integers(0, 9, rows),
            "city": draw.integers(0, 500, rows),
            "seen": draw.integers(0, 9, (rows, 4)).tolist(),
            "bought": draw.integers(0, 9, (rows, 3)).tolist(),
            "tags": draw.integers(0, 9, (rows, 3)).tolist(),
            "weights": draw.random((rows, 3)).tolist(),
            "words": draw.integers(0, 9, (rows, 2)).tolist(),
            "text": draw.normal(size=(rows, 5)).tolist(),
            "click": draw.integers(0, 2, rows),
        }
    )


def test_rows_have_every_kind_of_feature_with_missing_and_new_values() -> None:
    encoder = Encoder.fit(FeatureSpec.model_validate(SPEC), table())
    rows = raw_rows(encoder, any_rows(encoder))
    encoded = encoded_rows(encoder, rows)
    assert len(encoded) == ROWS
    assert set(rows.columns) == set(encoder.spec.feature_columns)
    assert all(rows[name].null_count() for name in ("price", "age", "balance", "ad", "city", "text"))
    assert np.isnan(encoded.numeric).any()
    known, new = encoded.categorical[:, 0] > 1, encoded.categorical[:, 0] < 0
    assert known.any()
    assert new.any()
    assert {0, 4} <= {*rows["seen"].list.len()} <= {0, 1, 2, 3, 4}
    assert {0, 3} <= {*rows["bought"].list.len()} <= {0, 1, 2, 3}
    assert {*rows["tags"].list.len()} == {0, 1, 2, 3}
    assert rows["tags"].list.len().to_list() == rows["weights"].list.len().to_list()


def test_rows_of_raw_values_are_those_that_the_model_takes() -> None:
    encoder = RawEncoder(
        FeatureSpec.model_validate({"numeric": [{"name": "age"}], "categorical": [{"name": "ad"}]})
    )
    given = table(40).with_columns(age=pl.when(pl.col("age") > 60).then(None).otherwise("age"))
    rows = raw_rows(encoder, encoder.encode(encoder.spec.typed(given, None), labels=False))
    assert rows["age"].to_list() == given["age"].head(ROWS).to_list()
    assert rows["ad"].to_list() == given["ad"].head(ROWS).cast(pl.String).to_list()


def test_a_model_that_gives_something_else_is_found(bundle: Bundle, tmp_path: Path) -> None:
    rows = raw_rows(bundle.encoder, any_rows(bundle.encoder))
    encoded = encoded_rows(bundle.encoder, rows)
    wanted = dict(bundle.graphs.score(arrays_of(encoded)))
    steps = np.zeros(ROWS, dtype=np.bool_)
    write_batch(rows, wanted, steps, TOLERANCE, tmp_path)
    check_batch(bundle, tmp_path)
    steps[3] = True
    click = wanted["click"].copy()
    click[3] += 0.1
    write_batch(rows, {**wanted, "click": click}, steps, TOLERANCE, tmp_path)
    check_batch(bundle, tmp_path)  # a row at a step of a calibrator
    click[4] += 2 * TOLERANCE
    write_batch(rows, {**wanted, "click": click}, steps, TOLERANCE, tmp_path)
    with pytest.raises(ArtifactError, match="differ from those of the export, by 2e-05; 1e-05 is allowed"):
        check_batch(bundle, tmp_path)
    click[4] = np.nan
    write_batch(rows, {**wanted, "click": click}, steps, TOLERANCE, tmp_path)
    with pytest.raises(ArtifactError, match="by inf"):
        check_batch(bundle, tmp_path)
    (tmp_path / BATCH).write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="cannot be computed"):
        check_batch(bundle, tmp_path)
