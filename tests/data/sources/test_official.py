"""Official files under any of their names, and what the readers make of their rows."""

from __future__ import annotations

import bz2
import gzip
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ctrkit.data.sources import source_tables
from ctrkit.errors import DataError
from tests.data.sources.official import MADE, text

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_logs = pytest.mark.skipif(not DATA.exists(), reason="the real logs are not here")


def read_source(name: str, path: Path) -> pl.DataFrame:
    """The rows of a data set."""
    return source_tables(name, path).rows.collect()


def packed(folder: Path, how: str) -> Path:
    """The file `train.txt` of a folder, packed; what is left to read."""
    file = folder / "train.txt"
    content = file.read_bytes()
    if how == "gz":
        (folder / "train.txt.gz").write_bytes(gzip.compress(content))
    elif how == "bz2":
        (folder / "train.txt.bz2").write_bytes(bz2.compress(content))
    elif how == "zip":
        with zipfile.ZipFile(folder / "all.zip", "w") as archive:
            archive.write(file, "dac/train.txt")
            archive.writestr("dac/readme.txt", "…")
    elif how == "tar.gz":
        with tarfile.open(folder / "dac.tar.gz", "w:gz") as archive:
            archive.add(file, "./train.txt")
    else:
        return file
    file.unlink()
    return next(folder.iterdir())


@pytest.mark.parametrize("how", ["plain", "gz", "bz2", "zip", "tar.gz"])
def test_a_file_is_found_in_its_folder_and_read_under_any_packing(tmp_path: Path, how: str) -> None:
    MADE["criteo"].write(tmp_path)
    whole = read_source("criteo", tmp_path)
    file = packed(tmp_path, how)
    assert read_source("criteo", file).equals(whole)
    assert read_source("criteo", file.parent).equals(whole)


def test_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MADE["criteo"].write(tmp_path)
    whole = read_source("criteo", tmp_path)
    monkeypatch.setattr("ctrkit.tables.scanning.BLOCK", 500)
    assert read_source("criteo", tmp_path).equals(whole)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1,2,3,pv", "row index 5: the row has 4 values"),
        ("1,2,3,pv,9,9", "row index 5: the row has 6 values"),
        ("1,2,x,pv,9", "column 'category_id', row index 5: 'x' is not a whole number"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrkit.tables.scanning.BLOCK", 40)
    text(tmp_path / "UserBehavior.csv", *["1,2,3,pv,1511658000"] * 5, row, "1,2,3,pv,1511658000")
    with pytest.raises(DataError) as error:
        read_source("userbehavior", tmp_path)
    assert f"UserBehavior.csv, {said}" in str(error.value)


def test_another_delimiter_and_other_columns_are_named(tmp_path: Path) -> None:
    MADE["taobaoad"].write(tmp_path)
    file = tmp_path / "ad_feature.csv"
    whole = file.read_text()
    for spoilt, said in {
        whole.replace(",", ";"): "the first line has no comma",
        whole.replace("brand,", "mark,"): "column 'brand': the header lacks this column",
        whole.replace("price", "price,colour"): "column 'colour': the official file has no such column",
        whole.replace("price", "price,brand"): "column 'brand': the header names this column twice",
        whole + "5,1,1,1,1,1\n": "column 'adgroup_id': the id 5 is there twice",
    }.items():
        file.write_text(spoilt)
        with pytest.raises(DataError) as error:
            read_source("taobaoad", tmp_path)
        assert f"{file}" in str(error.value)
        assert said in str(error.value)


def test_side_tables_join_their_rows(tmp_path: Path) -> None:
    MADE["taobaoad"].write(tmp_path)
    rows = read_source("taobaoad", tmp_path)
    assert rows["user"].to_list() == [*(row % 2 for row in range(39)), 4]
    prices = [None if ad == 6 else ad * 10 + 0.5 for ad in rows["adgroup_id"]]
    assert rows["price"].to_list() == prices
    assert rows["new_user_class_level"].to_list() == [None if user == 4 else user for user in rows["user"]]
    assert rows.filter(pl.col("adgroup_id") == 3)["brand"].null_count() == 19
    events = source_tables("taobaoad", tmp_path).events["behavior"].collect()
    assert events.rows() == [(0, 1493741625, "pv", 6250, 91286), (1, 1493741626, "buy", 6250, 91286)]


def test_a_purchase_counts_for_views_before_it(tmp_path: Path) -> None:
    views = ["1,1,9,pv,100", "1,1,9,pv,300", "1,2,9,pv,100", "2,1,9,pv,100"]
    text(tmp_path / "UserBehavior.csv", *views, "1,1,9,buy,50", "1,1,9,buy,200", "1,2,9,cart,200")
    rows = read_source("userbehavior", tmp_path)
    assert rows["conversion"].to_list() == [1, 0, 0, 0]
    assert rows.columns == ["user_id", "item_id", "category_id", "timestamp", "conversion"]


def test_buckets_of_criteo(tmp_path: Path) -> None:
    numbers = [*(str(number) for number in (-2, 0, 2, 3, 100, 23159456)), *[""] * 7]
    text(tmp_path / "train.txt", "\t".join(["1", *numbers, *["0a"] * 26]))
    row = read_source("criteo", tmp_path).row(0, named=True)
    expected = [-2, 0, 2, *(int(np.log(number) ** 2) for number in (3, 100, 23159456))]
    assert [row[f"I{place}_bucket"] for place in range(1, 7)] == expected
    assert row["I7_bucket"] is None


def test_times_of_avazu(tmp_path: Path) -> None:
    MADE["avazu"].write(tmp_path)
    rows = read_source("avazu", tmp_path)
    # 21 October 2014 was a Tuesday.
    assert rows.row(7, named=True)["hour_of_day"] == 7
    assert rows["weekday"].to_list() == [2] * 20 + [3] * 20
    assert rows["weekend"].sum() == 0


@needs_logs
@pytest.mark.parametrize(
    ("name", "file", "rows"), [("criteo", "criteo_10k.txt.gz", 10_000), ("avazu", "avazu_10k.csv.gz", 8999)]
)
def test_real_rows_are_as_polars_reads_them(name: str, file: str, rows: int) -> None:
    found = read_source(name, DATA / file)
    by_polars = pl.read_csv(
        DATA / file,
        separator="\t" if name == "criteo" else ",",
        has_header=name == "avazu",
        infer_schema=False,
    )
    assert found.height == by_polars.height == rows
    for ours, theirs in zip(found.iter_columns(), by_polars.iter_columns(), strict=False):
        assert ours.cast(pl.String).to_list() == theirs.to_list()


@needs_logs
def test_real_views_of_taobao(tmp_path: Path) -> None:
    log = pl.read_parquet(DATA / "userbehavior_sample.parquet")
    log.write_csv(tmp_path / "UserBehavior.csv", include_header=False)
    rows = read_source("userbehavior", tmp_path)
    assert rows.height == (log["behavior"] == "pv").sum()
    bought = {}
    for user, item, _, behavior, at in log.iter_rows():
        if behavior == "buy":
            bought[user, item] = max(at, bought.get((user, item), 0))
    pairs = zip(rows["user_id"], rows["item_id"], rows["timestamp"], strict=True)
    assert rows["conversion"].to_list() == [int(bought.get((u, i), -1) >= t) for u, i, t in pairs]
