"""Tables read and written in chunks, beside the same tables read whole."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from ctrkit.errors import ConfigError, DataError
from ctrkit.tables import read_chunks, read_table, table_writer

TABLE = pl.DataFrame(
    {
        "id": [f"{number:03}" for number in range(40)],
        "said": ['two\nlines, "quoted"' if number % 7 == 0 else "plain" for number in range(40)],
        "price": [None if number % 5 == 0 else number / 8 for number in range(40)],
    }
)


def as_csv(path: Path) -> Path:
    TABLE.write_csv(path / "t.csv")
    return path / "t.csv"


def as_packed_csv(path: Path) -> Path:
    (path / "t.csv.gz").write_bytes(
        gzip.compress(b"\xef\xbb\xbf# made by hand\n" + as_csv(path).read_bytes())
    )
    return path / "t.csv.gz"


def as_wide_csv(path: Path) -> Path:
    (path / "wide.csv").write_bytes(as_csv(path).read_text().encode("utf-16"))
    return path / "wide.csv"


def as_json_lines(path: Path) -> Path:
    TABLE.write_ndjson(path / "t.jsonl")
    return path / "t.jsonl"


def as_json_array(path: Path) -> Path:
    (path / "t.json").write_text(json.dumps(TABLE.to_dicts()))
    return path / "t.json"


def as_parquet(path: Path) -> Path:
    TABLE.write_parquet(path / "t.parquet", row_group_size=11)
    return path / "t.parquet"


@pytest.mark.parametrize(
    "write", [as_csv, as_packed_csv, as_wide_csv, as_json_lines, as_json_array, as_parquet]
)
def test_chunks_together_are_the_table(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = write(tmp_path)
    chunks = list(read_chunks(path, rows=6, block=100))
    assert len(chunks) > 6
    assert max(chunk.table.height for chunk in chunks) <= 6
    assert [chunk.done for chunk in chunks] == sorted(chunk.done for chunk in chunks)
    assert chunks[-1].done == chunks[-1].total
    together = pl.concat([chunk.table for chunk in chunks], how="vertical_relaxed")
    whole = read_table(path, lambda name: True)
    assert together.cast({"price": pl.Float64}).equals(whole.cast({"price": pl.Float64}))
    assert together.height == TABLE.height


@pytest.mark.parametrize("group", [500, 1000])
def test_few_texts_come_as_their_distinct_ones(tmp_path: Path, group: int) -> None:
    """Groups of rows end within chunks, or are longer than those that are read again for each chunk."""
    row = pl.int_range(1000, eager=True)
    table = pl.DataFrame(
        {
            "few": (row % 3).cast(pl.String).set(row % 7 == 0, None),
            "number": row % 5,
            "many": row.cast(pl.String),
            "other": (row % 2).cast(pl.String),
        }
    )
    table.write_parquet(tmp_path / "t.parquet", row_group_size=group)
    chunks = [
        chunk.table
        for chunk in read_chunks(tmp_path / "t.parquet", 60, distinct={"few", "number", "many", "absent"})
    ]
    assert {str(chunk.schema["few"])[:4] for chunk in chunks} == {"Enum"}
    together = pl.concat(chunk.cast({"few": pl.String}) for chunk in chunks)
    assert together.equals(table)
    assert together.schema == table.schema
    only = [
        chunk.table for chunk in read_chunks(tmp_path / "t.parquet", 60, columns=["few"], distinct=["few"])
    ]
    assert sum(map(len, only)) == 1000
    assert {*only[0].columns} == {"few"}


def test_files_follow_one_another_and_rows_count_in_each(tmp_path: Path) -> None:
    for name in ("a", "b"):
        TABLE.write_csv(tmp_path / f"{name}.csv")
    last = list(read_chunks(tmp_path / "*.csv", rows=30))[-1]
    assert last.table["id"].to_list() == TABLE["id"][30:].to_list()
    assert str(DataError("wrong", file=last.file, row=2)).startswith(f"{tmp_path / 'b.csv'}, row index 32")


def test_a_faulty_line_far_below_is_named(tmp_path: Path) -> None:
    text = "id,price\n" + "".join(f"{row},1\n" for row in range(50))
    (tmp_path / "t.csv").write_text(text + "50\n")
    with pytest.raises(DataError, match="row index 50: the row has 1 values"):
        list(read_chunks(tmp_path / "t.csv", block=40))
    (tmp_path / "t.jsonl").write_text('{"id": 1}\n' * 50 + "oops\n")
    with pytest.raises(DataError, match="line 51 holds no JSON object"):
        list(read_chunks(tmp_path / "t.jsonl", block=40))


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    for name in ("t.csv", "t.parquet"):
        write = TABLE.head(0).write_csv if name.endswith("csv") else TABLE.head(0).write_parquet
        write(tmp_path / name)
        (chunk,) = read_chunks(tmp_path / name)
        assert chunk.table.columns == TABLE.columns


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_parts_are_written_as_one_table(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    with table_writer(path) as write:
        for start in range(0, TABLE.height, 9):
            write(TABLE[start : start + 9])
    assert read_table(path, lambda name: name != "price").equals(TABLE)


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    def write_both() -> None:
        with table_writer(tmp_path / "t.parquet") as write:
            write(pl.DataFrame({"id": [1]}))
            write(pl.DataFrame({"id": ["a"]}))

    with pytest.raises(DataError, match="column 'id': the first rows hold Int64"):
        write_both()
    with pytest.raises(ConfigError, match=r"Use \.parquet, \.csv, \.jsonl"):
        table_writer(tmp_path / "t.xls").__enter__()
    assert not list(tmp_path.iterdir())
