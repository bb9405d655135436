"""Rows spread over a whole table, in bounded memory."""

from __future__ import annotations

import polars as pl

from ctrkit.tables import TableLike
from ctrkit.tables.cells import inferred
from ctrkit.tables.chunks import read_chunks

# Largest number of rows that are kept.
MOST = 200_000


def spread_rows(source: TableLike | pl.LazyFrame, most: int = MOST) -> tuple[pl.DataFrame, int]:
    """At most `most` rows, equally far from each other, and the number of all rows.

    Text of files that holds numbers in all kept rows becomes numbers.

    Args:
        source: as `ctrkit.tables.read_table` takes it, or a lazy frame.
        most: largest number of rows to keep.

    Raises:
        DataError: the table cannot be read.
    """
    kept: list[pl.DataFrame] = []
    step, rows = 1, 0
    lazy = isinstance(source, pl.LazyFrame)
    tables = (
        source.collect_batches(maintain_order=True) if lazy else (one.table for one in read_chunks(source))
    )
    for part in tables:
        kept.append(part.slice(-rows % step).gather_every(step))
        rows += part.height
        while sum(table.height for table in kept) > most:
            step *= 2
            kept = [pl.concat(kept, how="diagonal_relaxed").gather_every(2)]
    table = pl.concat(kept, how="diagonal_relaxed")
    texts = [inferred(column) for column in table if column.dtype == pl.String and not lazy]
    return table.with_columns(texts), rows
