"""What sources share: official files are found under any of their names, and side tables join their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

import polars as pl

from ctrkit.errors import DataError
from ctrkit.tables import TextFile, TextFormat, is_archive, members_of, scan_text

Int8, Int16, Int32, Int64, Float64, String = pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Float64, pl.String


def official(path: Path, *names: str, beside: bool = False) -> list[TextFile]:
    """The files of one official table, in the order of their names; there is at least one.

    Args:
        path: the file itself, under any name, an archive with it, or a folder with it or with archives of it,
            at any depth.
        names: names of the file without the ending of a compression; `*` stands for any signs.
        beside: whether the path is that of the rows, and this is a table of what they mention, such as their
            items: it stands in the folder of a path that is a file.

    Raises:
        DataError: there is no such file.
    """
    if found := optional(path, *names, beside=beside):
        return found
    if not path.exists():
        raise DataError("no such file or folder", file=path, hint=f"Give the folder of {_either(names)}")
    raise DataError(
        f"there is no file {_either(names)}",
        file=path,
        hint="Give the folder of the files as downloaded: plain, .gz, .bz2, or in a .zip or .tar archive",
    )


def optional(path: Path, *names: str, beside: bool = False) -> list[TextFile]:
    """The files of a table that a data set may lack (see `official`)."""
    if not path.exists():
        return []
    if path.is_file() and is_archive(path):
        return _matching(members_of(path), names)
    if path.is_file():
        others = sorted(file for file in path.parent.iterdir() if file.is_file() and file != path)
        return _matching(map(TextFile, others), names) if beside else [TextFile(path)]
    below = sorted(file for file in path.rglob("*") if file.is_file())
    if plain := _matching(map(TextFile, below), names):
        return plain
    return _matching([member for file in below if is_archive(file) for member in members_of(file)], names)


def in_parts(
    path: Path, names: Mapping[str, str], read: Callable[[list[TextFile]], pl.LazyFrame]
) -> pl.LazyFrame:
    """The rows of a table that its owner divided, with the column `split`; one part is enough.

    Args:
        path: the folder, or the file of one part (see `official`).
        names: part, such as "train" -> name of its file. A file with none of these names is of no part.
        read: makes rows of the files of a part.

    Raises:
        DataError: there is no part.
    """
    found: dict[str | None, list[TextFile]] = {}
    for part, name in names.items():
        if files := _matching(optional(path, name), (name,)):
            found[part] = files
    found = found or {None: official(path, *names.values())}
    return pl.concat(
        [read(files).with_columns(split=pl.lit(part, String)) for part, files in found.items()],
        how="diagonal",
    )


def with_side_table(
    rows: pl.LazyFrame, files: Sequence[TextFile], form: TextFormat, on: str, key: str | None = None
) -> pl.LazyFrame:
    """The rows, each with what a side table holds of its user or item; missing where it holds nothing.

    Args:
        rows: the rows.
        files: the files of the side table; the rows stay as they are where there is none.
        form: their format.
        on: the column of the rows.
        key: the column of the side table; by default of the same name.

    Raises:
        DataError: a key is twice in the side table, when the rows are read.
    """
    return joined(rows, scan_text(files, form), files[0], on, key) if files else rows


def joined(
    rows: pl.LazyFrame, side: pl.LazyFrame, file: TextFile, on: str, key: str | None = None
) -> pl.LazyFrame:
    """The rows with the columns of a side table, as `with_side_table` joins them."""
    key = key or on

    def once(table: pl.DataFrame) -> pl.DataFrame:
        if (twice := table[key].is_duplicated()).any():
            first = table[key][int(twice.arg_max() or 0)]
            raise DataError(
                f"the id {first} is there twice, so it is unknown which row belongs to it",
                file=file,
                column=key,
                hint="Keep one row of each id",
            )
        return table

    side = side.map_batches(once, schema=side.collect_schema())
    return rows.join(side, left_on=on, right_on=key, how="left", maintain_order="left")


def _matching(files: Iterable[TextFile], names: Sequence[str]) -> list[TextFile]:
    """The files of the first of the names that any of them has."""
    given = list(files)
    found = ([file for file in given if fnmatch(file.name, name)] for name in names)
    return next(filter(None, found), [])


def _either(names: Sequence[str]) -> str:
    return " or ".join(names)
