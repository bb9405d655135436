"""Predictions of whole files, beside those of `Model.predict`."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import ctrkit
from ctrkit.api.predict import _Sample
from ctrkit.cli import app
from ctrkit.data import unlike
from ctrkit.errors import ConfigError, DataError, DataWarning

TASKS = ["click", "conversion"]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_file_is_predicted_as_the_rows_are_in_memory(
    ending: str, trained: Path, logs: Path, tmp_path: Path
) -> None:
    rows = pl.read_parquet(logs / "impressions.parquet")[:2000]
    source, out = tmp_path / f"rows.{ending}", tmp_path / f"out.{ending}"
    lists = [
        pl.col(name).cast(pl.List(pl.String)).list.join("|") for name in rows.columns if "history" in name
    ]
    if ending == "parquet":
        rows.write_parquet(source)
    elif ending == "csv":
        rows.with_columns(lists).write_csv(source)
    else:
        rows.write_ndjson(source)
    told = CliRunner().invoke(
        app, ["predict", str(trained), str(source), "--out", str(out), "--set", "chunk=300", "--json"]
    )
    assert told.exit_code == 0, told.stderr
    said = json.loads(told.stdout)
    assert (said["rows"], said["keys"]) == (2000, ["event_id", "user_id", "timestamp", "ad_id"])
    expected = ctrkit.load(trained).predict(rows)
    found = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}[ending](out)
    assert found.select(TASKS).equals(expected)
    keys = rows.select(said["keys"]).cast(pl.String)
    assert found.select(said["keys"]).cast(pl.String).equals(keys)
    assert said["columns"]["click"]["mean"] == pytest.approx(expected["click"].mean())
    assert said["columns"]["click"]["highest"] == expected["click"].max()


def test_rows_without_an_id_have_a_number_and_keys_can_be_chosen(trained: Path, logs: Path) -> None:
    rows = pl.read_parquet(logs / "impressions.parquet")[:50].drop("event_id")
    found = ctrkit.predict(trained, rows.to_pandas(), chunk=20)
    assert found.table is not None
    assert found.table["row"].to_list() == list(range(50))
    assert ctrkit.predict(trained, rows, keys=["hour"]).keys == ("hour",)
    with pytest.raises(DataError, match=r"column 'hours': .* Did you mean 'hour'\?"):
        ctrkit.predict(trained, rows, keys=["hours"])
    with pytest.raises(ConfigError, match="the key 'click' has the name of a column of predictions"):
        ctrkit.predict(trained, rows, keys=["click"])
    assert ctrkit.predict(trained, rows.head(0)).rows == 0


def test_a_fault_leaves_no_file_and_names_the_row(trained: Path, logs: Path, tmp_path: Path) -> None:
    rows = pl.read_parquet(logs / "impressions.parquet")[:50]
    prices = rows["ad_price"].to_list()
    prices[41] = -1.0
    rows.with_columns(ad_price=pl.Series(prices)).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"column 'ad_price', row index 41: -1 is below 0"):
        ctrkit.predict(trained, tmp_path / "rows.parquet", out=tmp_path / "out.parquet", chunk=10)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_rows_unlike_the_training_rows_are_told(trained: Path, logs: Path) -> None:
    rows = pl.read_parquet(logs / "impressions.parquet")[:400].with_columns(device=pl.lit("fridge"))
    with pytest.warns(DataWarning, match="Column 'device': 100% of the ids are unknown"):
        found = ctrkit.predict(trained, rows, chunk=100)
    assert found.notes[0].startswith("Column 'device'")


def test_the_sample_for_these_warnings_is_spread_over_all_chunks(
    monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    monkeypatch.setattr("ctrkit.api.predict.LOOK_AT", 10)
    sample = _Sample(ctrkit.load(trained).spec)
    table = pl.DataFrame({"hour": range(100)})
    for start in range(0, 100, 7):
        sample.add(table[start : start + 7])
    assert sample.rows["hour"].to_list() == list(range(0, 100, 16))
    assert unlike.LOOK_AT > 10
