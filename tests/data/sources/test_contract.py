"""What every data source does: lazy rows with its labels, and clear errors for files not as published."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from ctrkit.data.sources import SOURCES, SourceTables
from ctrkit.errors import DataError
from tests.data.sources.official import MADE

PARQUET = [name for name, made in MADE.items() if made.main.endswith(".parquet")]
TEXT = [name for name in MADE if name not in PARQUET]


def tables(name: str, path: Path) -> SourceTables:
    return SOURCES[name]().tables(path)


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    MADE[name].write(tmp_path)
    return tmp_path


def test_every_source_has_rows_in_its_official_format() -> None:
    assert set(MADE) == set(SOURCES)


@pytest.mark.parametrize("name", MADE)
def test_rows_are_lazy_and_have_the_labels(name: str, folder: Path) -> None:
    found = tables(name, folder)
    assert isinstance(found.rows, pl.LazyFrame)
    labels = found.rows.select(SOURCES[name].labels).collect()
    for label in labels:
        assert set(label.drop_nulls()) <= {0, 1}
        assert label.dtype.is_integer() or label.dtype == pl.Boolean
    rows = found.rows.collect()
    assert rows.height == MADE[name].rows
    assert rows.select(labels.columns).equals(labels)
    assert rows.schema == found.rows.collect_schema()
    assert rows.equals(found.rows.collect(engine="streaming"))
    assert rows.head(2).equals(found.rows.head(2).collect())
    for events in found.events.values():
        assert events.collect().height


@pytest.mark.parametrize("name", MADE)
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    for file in [*folder.rglob(MADE[name].needed)]:
        file.unlink()
    with pytest.raises(DataError) as error:
        tables(name, folder).rows.collect()
    assert MADE[name].said in str(error.value)
    assert str(folder) in str(error.value)
    with pytest.raises(DataError, match="no such file"):
        tables(name, folder / "none").rows.collect()


@pytest.mark.parametrize("name", MADE)
def test_a_truncated_file_is_named(name: str, folder: Path) -> None:
    main = folder / MADE[name].main
    content = main.read_bytes() if name in PARQUET else gzip.compress(main.read_bytes(), mtime=0)
    main.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged") as error:
        tables(name, folder).rows.collect()
    assert Path(error.value.file or "").name == main.name


@pytest.mark.parametrize("name", TEXT)
def test_another_header_is_refused(name: str, folder: Path) -> None:
    main = folder / MADE[name].main
    first, rest = main.read_text(encoding="latin-1").split("\n", 1)
    cut = max(first.rfind(sign) for sign in ",\t")
    main.write_text(f"{first[:cut]}\n{rest}", encoding="latin-1")
    with pytest.raises(DataError) as error:
        tables(name, folder).rows.collect()
    assert Path(error.value.file or "").name == main.name


@pytest.mark.parametrize("name", TEXT)
def test_bytes_that_are_no_text_are_refused(name: str, folder: Path) -> None:
    main = folder / MADE[name].main
    main.write_bytes(main.read_bytes().rstrip(b"\n") + b"\xff\n")
    with pytest.raises(DataError, match=r"(?i)utf-8|JSON"):
        tables(name, folder).rows.collect()
