"""Tables as steps read them: columns of ids that compare alike, and times as unix seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from ctrkit.data.derive.part import SECONDS
from ctrkit.errors import DataError, nearest
from ctrkit.schema.times import reader_between, unix_seconds
from ctrkit.tables.cells import as_ids


def staged(
    table: pl.LazyFrame,
    columns: Iterable[str],
    times: Iterable[str],
    text: Mapping[str, bool],
    file: str | None,
) -> pl.LazyFrame:
    """The columns of a table that steps read.

    Args:
        table: the table.
        columns: names of the columns.
        times: names of columns of times, which come as unix seconds, under `SECONDS` and their name.
        text: column of ids -> whether it is compared as text (see `ids_as_text`).
        file: name of the table, for messages.

    Raises:
        DataError: a column is missing, or holds other values.
    """
    schema, columns, times = table.collect_schema(), dict.fromkeys(columns), dict.fromkeys(times)
    for name in (*columns, *times):
        if name not in schema:
            raise DataError(
                "the column is missing, from which others are derived",
                file=file,
                column=name,
                hint=nearest(name, schema.names()),
            )
    chosen = [_comparable(name, schema[name], text.get(name), file) for name in columns]
    apart = []
    for name in times:
        seconds = _seconds(table, name, schema[name], file)
        if isinstance(seconds, pl.Expr):
            chosen.append(seconds.alias(f"{SECONDS}{name}"))
        else:
            apart.append(seconds.alias(f"{SECONDS}{name}"))
    read = table.select(chosen)
    return pl.concat([read, pl.LazyFrame(apart)], how="horizontal") if apart else read


def ids_as_text(ids: Iterable[str], schemas: Iterable[Mapping[str, pl.DataType]]) -> dict[str, bool]:
    """Whether columns of ids are compared as text: those that are no whole numbers in some table."""
    schemas = [*schemas]
    return {name: not all(_is_whole(schema.get(name)) for schema in schemas) for name in ids}


def comparable(columns: Iterable[pl.Series], text: Mapping[str, bool]) -> list[pl.Series]:
    """New columns as later steps read them."""
    frame = pl.DataFrame(columns)
    chosen = (_comparable(name, dtype, text.get(name), None) for name, dtype in frame.schema.items())
    return frame.select(chosen).get_columns()


def _is_whole(dtype: pl.DataType | None) -> bool:
    """Whether a column is absent or holds numbers that 64 bits hold with their sign."""
    return dtype is None or (dtype.is_integer() and dtype not in (pl.UInt64, pl.UInt128, pl.Int128))


def _comparable(name: str, dtype: pl.DataType, text: bool | None, file: str | None) -> pl.Expr:
    """A column whose ids are whole numbers or text; `text` is None for a column of other values."""
    if text is not None and (text or not _is_whole(dtype)):
        return pl.col(name).map_batches(
            lambda values: as_ids(values, file, name), pl.String, is_elementwise=True
        )
    if text is not None:
        return pl.col(name).cast(pl.Int64)
    return pl.col(name).cast(pl.String) if isinstance(dtype, pl.Categorical | pl.Enum) else pl.col(name)


def _seconds(table: pl.LazyFrame, name: str, dtype: pl.DataType, file: str | None) -> pl.Expr | pl.Series:
    """A column of times as unix seconds, read whole only where the whole must be known to read it."""
    if dtype.is_temporal():
        return pl.col(name).map_batches(
            lambda values: unix_seconds(values, file, name), pl.Float64, is_elementwise=True
        )
    if dtype.is_integer():
        ends = table.select(pl.col(name).min().alias("low"), pl.col(name).max().alias("high")).collect()
        read = reader_between(ends["low"].append(ends["high"]))
        if read is not None:
            return pl.col(name).map_batches(read, pl.Float64, is_elementwise=True)
    return unix_seconds(table.select(name).collect().to_series(), file, name)
