"""Tables in text files: what is read, and what others are told."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.tables import read_named, read_table, read_tables

ROWS = [(1, "é", 2.5), (2, "y", 3.0)]
CSV = "a,b,c\n1,é,2.5\n2,y,3\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", CSV.encode()),
        ("t.CSV", b"\xef\xbb\xbf" + CSV.encode()),
        ("t.csv", CSV.encode("utf-16")),
        ("t.csv", CSV.replace("é", "e").encode("utf-16-le")),
        ("t.csv", CSV.replace(",", ";").replace("\n", "\r\n").encode()),
        ("t.tsv", CSV.replace(",", "\t").encode()),
        ("t.csv", CSV.replace("\n", "\r").encode()),
        ("t.txt", CSV.replace(",", "|").encode()),
        ("t.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("t.csv", gzip.compress(CSV.encode(), mtime=0)),
        ("t.csv", ("# made on Monday\n#\n" + CSV).encode()),
        ("t.csv", ("# " + CSV).replace("# a,b,c", "# 7,8,9\n# a,b,c").replace("1,é", "1,é").encode()),
        ("t.json", '[{"a":1,"b":"é","c":2.5},{"a":2,"b":"y","c":3}]'.encode()),
        ("t.txt", '{"a":1,"b":"é","c":2.5}\n\n{"a":2,"b":"y","c":3}\n'.encode()),
    ],
)
def test_text_tables_of_every_kind_are_read(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert [(a, b.replace("e", "é"), c) for a, b, c in read_table(path).rows()] == ROWS


@pytest.mark.parametrize(
    ("name", "content", "said", "column", "row"),
    [
        ("t.csv", "a,b\né,2\n".encode("latin-1"), "line 2 holds the byte 0xE9", None, None),
        ("t.csv", b"PAR1\0\0", "it is a parquet table", None, None),
        ("t.csv", b"1,0.5,x\n2,0.5,y\n", "the first line holds values", None, None),
        ("t.tsv", b"0\tx\t0\ty\tz\n1\tx\t2\ty\tz\n", "the first line holds values", None, None),
        ("t.csv", b"a,b,a\n1,2,3\n", "names this column twice", "a", None),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "has 3 values and the header has 2 names", None, 1),
        ("t.csv", b'a,b,c\n1,"x,\n\ny",3\n\n2,"z"\n', "has 2 values and the header has 3 names", None, 1),
        ("t.json", b'{"a":{"0":1,"1":2},"b":{"0":3,"1":4}}', "one JSON object of columns", None, None),
        ("t.json", b'{"columns":["a"],"index":[0],"data":[[1]]}', "one JSON object of columns", None, None),
        ("t.csv", b"a,b\n1,2\n3\n", "has 1 values and the header has 2 names", None, 1),
        ("t.json", b'{\n"a": [1, 2]\n}\n', "one JSON object over several lines", None, None),
        ("t.jsonl", b'{"a": 1}\n{"a": \n{"a": 3}\n', "line 2 holds no JSON object", None, None),
        ("t.json", b"[1, 2]", "values that are not objects", None, None),
    ],
)  # fmt: skip
def test_what_is_no_table_is_called_what_it_is(
    tmp_path: Path, name: str, content: bytes, said: str, column: str | None, row: int | None
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_table(path)
    assert (caught.value.file, caught.value.column, caught.value.row) == (str(path), column, row)
    assert caught.value.hint


def test_broken_lines_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n{"a": \n[3]\n{"a": NaN}\n')
    (table,) = read_tables(path, skip_bad_lines=True)
    assert table.table["a"][0] == 1.0
    assert table.table.height == 2
    assert table.notes == (f"Broken lines left out: 2 of {path} (the first is line 2).",)


def test_types_are_those_of_all_files_and_ids_stay_text(tmp_path: Path) -> None:
    for number, (user, price) in enumerate([("7", "1"), ("007a", "2.5"), ("8", "3")]):
        (tmp_path / f"day{number}.csv").write_text(f"user,price,ok\n{user},{price},true\n")
    table = read_table(tmp_path / "*.csv", lambda name: name == "user")
    assert table.schema == {"user": pl.String, "price": pl.Float64, "ok": pl.Boolean}
    assert table["user"].to_list() == ["7", "007a", "8"]
    pl.DataFrame({"user": [7], "price": [1.0], "ok": [True]}).write_parquet(tmp_path / "day3.parquet")
    assert read_table(tmp_path / "*", lambda name: name == "user")["user"].to_list()[-1] == "7"


def test_a_row_of_many_files_is_named_by_its_own(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text("a\n1\n2\n")
    _, name = read_named(sorted(tmp_path.iterdir()))
    error = DataError("x", file=name, row=3)
    assert (error.file, error.row) == (str(tmp_path / "1.csv"), 1)
    assert str(tmp_path / "0.csv") in str(DataError("x", file=name))


def test_frames_that_hold_a_column_twice_or_of_several_types_are_told_which() -> None:
    with pytest.raises(DataError, match="column 'a': the table has this column twice"):
        read_table(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    mixed = pd.DataFrame({"a": [1, None, "x"]})
    with pytest.raises(DataError, match=r"several types \(int, str\)") as caught:
        read_table(mixed)
    assert (caught.value.column, caught.value.row) == ("a", 2)
    assert read_table(mixed, lambda name: True)["a"].to_list() == ["1", None, "x"]
