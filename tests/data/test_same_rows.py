"""The same rows give the same arrays and predictions, in whatever format they come."""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ctrkit.api.models.model import Model
from ctrkit.artifact import Artifact
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.ids import UnknownIds
from ctrkit.data.split import SplitConfig, split_rows
from ctrkit.errors import DataError, DataWarning
from ctrkit.models import build_model, model_config
from ctrkit.schema import FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "numeric": [{"name": "price"}],
        "categorical": [{"name": "ad"}, {"name": "code"}, {"name": "flag"}],
        "sequences": [{"name": "seen", "shares": "ad"}, {"name": "kind"}],
        "group": "user",
        "timestamp": "at",
    }
)
N = 40
# Zeros in front, digits beside letters, many digits, other alphabets, missing ones, numbers as ids.
CODES = ["007", "7", "7a", "12345678901234567890", "\u00e9t\u00e9", "1e5", "a, b", None, "true", "0x1"]
TABLE = pl.DataFrame(
    {
        "ad": [k % 5 for k in range(N)],
        "code": [CODES[k % len(CODES)] for k in range(N)],
        "flag": [k % 3 == 0 for k in range(N)],
        "seen": [[0, 1, 2][: k % 4] for k in range(N)],
        "kind": [["v", "007", "b, c"][: k % 4] for k in range(N)],
        "price": [0.5 + k for k in range(N)],
        "click": [k % 2 for k in range(N)],
        "user": [f"{k % 6:03d}" for k in range(N)],
        "at": [1_700_000_000 + 60 * k for k in range(N)],
    }
)


def as_json(table: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    written = {
        name: [json.dumps(cell, ensure_ascii=False) for cell in table[name].to_list()] for name in columns
    }
    return table.with_columns(pl.Series(name, cells) for name, cells in written.items())


def text_of(table: pl.DataFrame, **options: Any) -> bytes:
    return as_json(table, ("seen", "kind")).write_csv(**options).encode()


def save(name: str, write: Callable[[Path], object]) -> Callable[[Path], Path]:
    def source(folder: Path) -> Path:
        write(folder / name)
        return folder / name

    return source


def two_files(folder: Path) -> str:
    """Of which one holds numbers alone where the other has text."""
    for number, rows in enumerate((TABLE[:2], TABLE[2:])):
        (folder / f"{number}.csv").write_bytes(text_of(rows))
    return str(folder / "*.csv")


SOURCES: dict[str, Callable[[Path], Any]] = {
    "parquet": save("t.parquet", TABLE.write_parquet),
    "csv": save("t.csv", lambda path: path.write_bytes(text_of(TABLE))),
    "csv.gz": save("t.csv.gz", lambda path: path.write_bytes(gzip.compress(text_of(TABLE)))),
    "csv, semicolons, UTF-16": save(
        "t.csv", lambda path: path.write_bytes(text_of(TABLE, separator=";").decode().encode("utf-16"))
    ),
    "csv as pandas writes it": save("t.csv", lambda path: TABLE.to_pandas().to_csv(path, index=False)),
    "tsv": save("t.tsv", lambda path: path.write_bytes(text_of(TABLE, separator="\t"))),
    "jsonl": save("t.jsonl", TABLE.write_ndjson),
    "json array": save("t.json", lambda path: path.write_text(json.dumps(TABLE.to_dicts()))),
    "two csv files": two_files,
    "pandas": lambda folder: TABLE.to_pandas(),
    "pandas, numbers and text in a column": lambda folder: TABLE.to_pandas().assign(
        code=[7 if code == "7" else code for code in TABLE["code"]]
    ),
    "pandas, ids as floats": lambda folder: TABLE.to_pandas().astype({"ad": float}),
    "Arrow": lambda folder: TABLE.to_arrow(),
    "Polars": lambda folder: TABLE,
    "lazy": lambda folder: TABLE.lazy(),
    "ids as text": lambda folder: TABLE.with_columns(
        pl.col("ad", "flag").cast(pl.String), pl.col("seen").cast(pl.List(pl.String))
    ),
    "times in milliseconds": lambda folder: TABLE.with_columns(pl.col("at") * 1000),
    "letters taken apart": lambda folder: TABLE.with_columns(pl.col("code").str.normalize("NFD")),
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.fit(SPEC, TABLE)


@pytest.fixture(scope="module")
def model(encoder: Encoder) -> Model:
    config = model_config({"name": "lr"})
    network = build_model(config, encoder.feature_map())
    return Model(
        Artifact(
            {"model": config.model_dump(mode="json")},
            encoder.feature_map().to_dict(),
            encoder.state(),
            network.arrays(),
            data={"file": None, "fingerprint": ""},
        )
    )


def arrays(encoded: EncodedTable) -> list[np.ndarray[Any, Any]]:
    assert encoded.groups is not None
    return [encoded.categorical, encoded.numeric, *encoded.sequences.values(), encoded.labels, encoded.groups]


@pytest.mark.parametrize("kind", SOURCES)
def test_the_same_rows_give_the_same_arrays_parts_and_predictions(
    kind: str, encoder: Encoder, model: Model, tmp_path: Path
) -> None:
    source = SOURCES[kind](tmp_path)
    table, file = SPEC.read(source)
    for found, expected in zip(
        arrays(encoder.encode(table, file)), arrays(encoder.encode(TABLE)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    # Learnt from this format, ids and scales are the same too.
    assert Encoder.fit(SPEC, table).vocabularies == encoder.vocabularies
    parts = [split_rows(SPEC, SplitConfig(), one, 0) for one in (table, TABLE)]
    np.testing.assert_array_equal(parts[0].train, parts[1].train)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted = model.predict(source)
    np.testing.assert_array_equal(np.asarray(predicted["click"]), np.asarray(model.predict(TABLE)["click"]))


def test_an_empty_table_has_no_predictions(model: Model) -> None:
    assert model.predict(TABLE[:0]).shape == (0, 1)
    assert model.predict(TABLE.to_pandas()[:0]).shape == (0, 1)
    assert model.predict(pd.DataFrame(columns=TABLE.columns)).shape == (0, 1)


def test_predictions_on_unlike_rows_warn_with_column_share_and_examples(model: Model) -> None:
    other = TABLE.with_columns(ad="ad_" + pl.col("ad").cast(pl.String))
    with pytest.warns(DataWarning, match=r"'ad': 100% .*'ad_0', 'ad_1', 'ad_2'.*such as '0'"):
        model.predict(other)
    histories = TABLE.with_columns(seen=pl.col("seen").cast(pl.List(pl.String)).list.join("/"), kind=None)
    with (
        pytest.warns(DataWarning, match="'seen': .* unknown to the model"),
        pytest.warns(DataWarning, match="'kind': 100% of the rows have no value"),
        pytest.raises(DataError),
    ):
        model.predict(histories)  # and such lists are not as long as others


@pytest.mark.parametrize("price", [1e5, 1e38, 1e300, -1e300])
def test_predictions_are_never_nan(model: Model, price: float) -> None:
    with pytest.warns(DataWarning, match="'price': 2.5% of the numbers, such as .*far outside"):
        p = model.predict(TABLE.with_columns(price=pl.Series([price, *TABLE["price"][1:]])))["click"]
    assert np.isfinite(p.to_numpy()).all()


def test_a_row_is_numbered_as_in_the_file(tmp_path: Path) -> None:
    broken = TABLE.with_columns(
        price=pl.when(pl.int_range(N) == 30).then(float("inf")).otherwise(pl.col("price"))
    )
    train = np.arange(0, N, 2)
    with pytest.raises(DataError, match="not a finite number") as caught:
        Encoder.fit(SPEC, broken, "t.csv", train)
    assert caught.value.row == 30
    for number in range(4):
        (tmp_path / f"{number}.csv").write_bytes(text_of(broken[10 * number : 10 * number + 10]))
    table, file = SPEC.read(str(tmp_path / "*.csv"))
    with pytest.raises(DataError, match="not a finite number") as caught:
        Encoder.fit(SPEC, table, file, train)
    assert (caught.value.file, caught.value.row) == (str(tmp_path / "3.csv"), 0)


@pytest.mark.parametrize("sign", ["^", "_", ":", "->", "/", "\x01"])
def test_histories_with_another_sign_between_known_ids_are_refused(sign: str) -> None:
    seen = pl.col("seen").cast(pl.List(pl.String)).list.join(sign)
    rows = TABLE.with_columns(seen=pl.Series([[*range(k % 3), k % 5, k // 8] for k in range(N)]))
    with pytest.raises(DataError, match="most unknown events are ids of 'ad'") as caught:
        Encoder.fit(SPEC, rows.with_columns(seen=seen))
    assert json.dumps(sign)[1:-1] in str(caught.value.hint)


def test_a_column_that_holds_nothing_where_training_had_something_is_told() -> None:
    encoder = Encoder.from_state(Encoder.fit(SPEC, TABLE).state())
    assert encoder.unlike(TABLE) == ()
    for name, usual in (("ad", "0%"), ("seen", "25%")):
        (note,) = encoder.unlike(TABLE.with_columns(pl.lit(None).alias(name)))
        assert f"Column '{name}': 100% of the rows have no value (in training {usual})" in note


def test_a_share_of_unknown_ids_that_was_high_in_training_is_told_only_where_it_is_another() -> None:
    usual = 0.93
    assert not UnknownIds(1000, 970, ()).far_above(usual)
    assert UnknownIds(1000, 1000, ()).far_above(usual)
    assert not UnknownIds(20, 20, ()).far_above(usual)  # chance leaves as few in 23 of 100 tables
    assert UnknownIds(1000, 700, ()).far_above(0.2)
