"""Any table: parquet, CSV, JSON lines, Delta or Iceberg, read by Polars' own scanners."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.errors import DataError
from ctrkit.extras import require
from ctrkit.tables import (
    DELIMITED,
    PARQUET,
    check_same_columns,
    columns_of,
    delimiter_of,
    files_of,
    kind_of,
    scan_files,
)

_JSON = (".jsonl", ".ndjson")


class Table(Source):
    """A table of yours: a file, a folder or a glob of files of one kind, or a Delta or Iceberg table.

    The types of CSV and of JSON lines are those of the first 10,000 rows. All files have the same columns.
    """

    name = "table"
    rows = "any"
    columns = None
    labels = ()
    publisher = "https://docs.pola.rs/user-guide/io/"
    terms = "yours"

    def tables(self, path: Path) -> SourceTables:
        if (path / "_delta_log").is_dir():
            require("deltalake", "a Delta table", "lake")
            return SourceTables(scan_files(_opened(pl.scan_delta, os.fspath(path)), path))
        if (path / "metadata").is_dir():
            require("pyiceberg", "an Iceberg table", "lake")
            newest = max((path / "metadata").glob("*.metadata.json"), default=path)
            return SourceTables(scan_files(_opened(pl.scan_iceberg, os.fspath(newest)), path))
        return SourceTables(_of_files(_files(path)))


def _opened(scan: Any, place: str) -> pl.LazyFrame:
    try:
        frame: pl.LazyFrame = scan(place)
        return frame
    except Exception as error:  # errors of the package of the format
        raise DataError(f"the table is damaged ({error})", file=place, hint="Write it again") from error


def _files(path: Path) -> list[Path]:
    """The files of a path, all of one kind."""
    if not path.is_dir():
        files = files_of(path) or []
    else:
        files = sorted(file for file in path.rglob("*") if kind_of(file) in (*PARQUET, *DELIMITED, *_JSON))
    if not files:
        raise DataError("no table is there", file=path, hint="Give .parquet, .csv, .tsv or .jsonl files")
    for file in files:
        if not file.is_file():
            raise DataError("no such file or folder", file=file, hint="Check the path")
        if kind_of(file) != kind_of(files[0]):
            raise DataError(
                f"this is another kind of file than {files[0].name}",
                file=file,
                hint="Give files of one kind, such as '*.parquet'",
            )
    return files


def _of_files(files: list[Path]) -> pl.LazyFrame:
    kind = kind_of(files[0])
    if kind in _JSON:
        return scan_files(pl.scan_ndjson(files, infer_schema_length=10_000), files[0])
    if kind not in (*PARQUET, *DELIMITED):
        raise DataError(f"tables of kind '{kind}' are not scanned", file=files[0], hint="Use .parquet")
    names = _columns(files[0])
    for file in files[1:]:
        check_same_columns(_columns(file), names, file)
    if kind in PARQUET:
        return scan_files(pl.scan_parquet(files, glob=False), files[0])
    return pl.concat(
        [
            scan_files(
                pl.scan_csv(file, separator=delimiter_of(file), infer_schema_length=10_000, glob=False), file
            ).select(names)
            for file in files
        ],
        how="vertical_relaxed",
    )


def _columns(file: Path) -> list[str]:
    if kind_of(file) in PARQUET:
        return scan_files(pl.scan_parquet(file, glob=False), file).collect_schema().names()
    return columns_of(file)
