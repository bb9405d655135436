"""Tables as steps read them: columns of ids that compare alike, and times as unix seconds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import polars as pl

from ctrkit.data.derive.part import SECONDS
from ctrkit.errors import DataError, nearest
from ctrkit.schema.times import reader_between, unix_seconds
from ctrkit.tables.cells import as_ids


def staged(
    table: pl.LazyFrame,
    columns: Iterable[str],
    times: Iterable[str],
    text: Collection[str],
    file: str | None,
) -> pl.LazyFrame:
    """The columns of a table that steps read.

    Args:
        table: the table.
        columns: names of the columns; those that are both ids and not in `text` are whole numbers.
        times: names of columns of times, which also come as unix seconds, under `SECONDS` and their name.
        text: ids that are compared as text.
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
    chosen = [_column(name, schema[name], name in text, file) for name in columns]
    seconds = []
    for name in times:
        made = f"{SECONDS}{name}"
        whole = _seconds(table, name, schema[name], file)
        if isinstance(whole, pl.Expr):
            chosen.append(whole.alias(made))
        else:
            seconds.append(whole.alias(made))
    read = table.select(chosen)
    return pl.concat([read, pl.LazyFrame(seconds)], how="horizontal") if seconds else read


def ids_as_text(ids: Iterable[str], schemas: Iterable[Mapping[str, pl.DataType]]) -> set[str]:
    """The columns of ids that are text in some table, and are compared as text in all."""
    return {name for name in ids for schema in schemas if name in schema and not schema[name].is_integer()}


def _column(name: str, dtype: pl.DataType, text: bool, file: str | None) -> pl.Expr:
    if text:
        return pl.col(name).map_batches(
            lambda values: as_ids(values, file, name), pl.String, is_elementwise=True
        )
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
