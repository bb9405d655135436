"""Parquet files part by part; few texts come as places among the distinct ones, as the file holds them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import FileMetaData

# Groups of rows up to this number of parts are read once for each of them.
_GROUPS = 16
# Texts are few if those of a group of rows take at most a byte, compressed, for so many rows.
_FEW = 4


def parquet_parts(
    file: Path, rows: int, schema: pl.Schema, distinct: Collection[str] = ()
) -> Iterator[pl.DataFrame]:
    """The rows of a parquet file in order, at most so many at a time.

    Args:
        file: the file.
        rows: largest number of rows of a part.
        schema: the columns, with their types in the file.
        distinct: columns whose texts come as `pl.Enum` where they are few.
    """
    from pyarrow.parquet import ParquetFile, read_metadata

    known = read_metadata(file)
    few = _of_few_texts(known, {name for name in distinct if schema.get(name) == pl.String})
    rest = pl.Schema({name: schema[name] for name in schema if name not in few})
    groups = [known.row_group(place).num_rows for place in range(known.num_row_groups)]
    # Polars reads faster, but a group again for each part of it.
    lazy, again = (
        pl.scan_parquet(file, glob=False).select(list(rest)),
        max(groups, default=0) <= _GROUPS * rows,
    )
    if again and not few:
        for start in range(0, known.num_rows, rows):
            yield lazy.slice(start, rows).collect()
        return
    start = 0
    with ParquetFile(file, metadata=known, read_dictionary=sorted(few)) as opened:
        for batch in opened.iter_batches(rows, columns=sorted(few) if again else list(schema)):
            texts = pl.DataFrame([_enum(batch[name]).alias(name) for name in few])
            if again:
                others = lazy.slice(start, batch.num_rows).collect()
            else:
                others = pl.DataFrame(batch.select(list(rest))).cast(rest)
            yield pl.concat([others, texts], how="horizontal").select(list(schema))
            start += batch.num_rows


def _of_few_texts(known: FileMetaData, names: Collection[str]) -> set[str]:
    """Those of the columns that hold few distinct texts in every group of rows."""
    few = set(names)
    for place in range(known.num_row_groups):
        group = known.row_group(place)
        columns = (group.column(at) for at in range(group.num_columns))
        few &= {
            column.path_in_schema
            for column in columns
            if column.has_dictionary_page
            and column.data_page_offset - (column.dictionary_page_offset or 0) <= group.num_rows // _FEW
        }
    return few


def _enum(texts: pa.DictionaryArray) -> pl.Series:
    """Texts by their places among the distinct ones; plain texts where these are repeated or missing."""
    try:
        kind = pl.Enum(pl.Series(texts.dictionary))
    except (TypeError, ValueError):
        return pl.Series(texts.dictionary_decode())
    size = len(texts.dictionary)
    places = pl.UInt8 if size <= 255 else pl.UInt16 if size <= 65_535 else pl.UInt32
    return pl.Series(texts.indices).cast(places).cat.to(kind)
