from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ctrkit.errors import DataError
from ctrkit.tables import atomic_path, read_table, write_json, write_table

FRAME = pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_files_of_every_kind_read_back(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    {"parquet": FRAME.write_parquet, "csv": FRAME.write_csv, "jsonl": FRAME.write_ndjson}[kind](path)
    assert read_table(path).equals(FRAME)


@pytest.mark.parametrize(
    "frame",
    [FRAME, FRAME.lazy(), FRAME.to_pandas(), FRAME.to_arrow(), {"a": [1, 2, 3], "b": ["x", "y", "z"]}],
)
def test_frames_of_every_kind_are_taken(frame: object) -> None:
    assert isinstance(frame, (pl.DataFrame, pl.LazyFrame, pd.DataFrame, pa.Table, dict))
    assert read_table(frame).equals(FRAME)


def test_broken_files_are_refused_by_name(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    write_table(FRAME, whole)
    cases = {
        "none.parquet": (None, "no such file"),
        "empty.parquet": (b"", "the file is empty"),
        "cut.parquet": (whole.read_bytes()[:-20], "damaged"),
        "text.parquet": (b"a,b\n1,2\n", "damaged"),
        "rows.csv": (b"a,b\n", "no rows"),
        "t.xlsx": (b"PK", "not read"),
    }
    for name, (content, said) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=said) as caught:
            read_table(path)
        assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="folder"):
        read_table(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(3)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_json({"a": 1}, tmp_path / "m.json")

    def fail_halfway() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_nan_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": float("nan")}, tmp_path / "m.json")
    assert not list(tmp_path.iterdir())


def test_the_same_frame_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_table(FRAME, tmp_path / name).read_bytes() for name in ("1.parquet", "2.parquet"))
    assert first == second


def test_globs_and_lists_of_files_are_one_table(tmp_path: Path) -> None:
    FRAME[:1].write_csv(tmp_path / "1.csv")
    FRAME[1:].with_columns(pl.col("a").cast(pl.Float64)).select("b", "a").write_parquet(
        tmp_path / "2.parquet"
    )
    whole = FRAME.with_columns(pl.col("a").cast(pl.Float64))
    for source in (str(tmp_path / "*"), tmp_path / "*", [tmp_path / "1.csv", str(tmp_path / "2.*")]):
        assert read_table(source).equals(whole)
    odd = tmp_path / "[1].csv"
    FRAME[:2].write_csv(odd)
    assert read_table(odd).equals(FRAME[:2])  # a name that exists is no pattern
    with pytest.raises(DataError, match="no file matches"):
        read_table(tmp_path / "*.txt")
    FRAME.drop("b").write_csv(tmp_path / "3.csv")
    with pytest.raises(DataError, match="the file lacks this column") as caught:
        read_table([tmp_path / "1.csv", tmp_path / "3.csv"])
    assert (caught.value.file, caught.value.column) == (str(tmp_path / "3.csv"), "b")
