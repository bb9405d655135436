"""The schema's own format: parquet, CSV or JSON lines with the columns of `ctrkit.schema.BANDIT_LOG`.

A CSV has no lists. There `candidates`, `logging_probabilities` and `candidate_*` are text with `|` between
the values (`3|7|9`), or JSON lists (`[3, 7, 9]`).
"""

from __future__ import annotations

import polars as pl

from ctrkit.ope.formats.base import Format, LogTable
from ctrkit.schema import BANDIT_LOG, CANDIDATE_PREFIX
from ctrkit.tables import TableLike, name_of, read_table

_LISTS = {
    name: column.kind
    for column in BANDIT_LOG.columns
    if column.kind in ("ids", "numbers", "probabilities")
    for name in (column.name, *column.aliases)
}


def read(source: TableLike) -> LogTable:
    """Read one file, or take a table in memory.

    Raises:
        DataError: see `ctrkit.tables.read_table`.
    """
    return LogTable(_with_lists(read_table(source)), name_of(source))


def _with_lists(table: pl.DataFrame) -> pl.DataFrame:
    """Lists in place of the text that a CSV holds for them."""
    if table.schema.get("candidates") != pl.String:
        # Without lists of candidates, a text column `candidate_x` is just a column of that name.
        named = [name for name in _LISTS if table.schema.get(name) == pl.String]
    else:
        named = [
            name
            for name, dtype in table.schema.items()
            if dtype == pl.String and (name in _LISTS or name.startswith(CANDIDATE_PREFIX))
        ]
    return table.with_columns(_split(table[name]) for name in named)


def _split(values: pl.Series) -> pl.Series:
    """Text to lists: of whole numbers, else of numbers, else of text, whichever all values are."""
    bare = values.str.strip_chars().str.strip_prefix("[").str.strip_suffix("]")
    separator = "," if values.str.contains(r"^\s*\[", strict=False).all() else "|"
    parts = bare.str.split(separator).list.eval(pl.element().str.strip_chars().str.strip_chars('"'))
    flat = parts.explode()
    for dtype in (pl.Int64, pl.Float64):
        if flat.cast(dtype, strict=False).null_count() == flat.null_count():
            return parts.cast(pl.List(dtype))
    return parts


TABLE = Format("table", "the schema's own columns, as parquet, CSV or JSON lines", read)
