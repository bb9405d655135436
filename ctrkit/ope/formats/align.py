"""Gives all files of a log the same columns, where a file has only the columns that its rows use."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from ctrkit.ope.formats.base import LogTable
from ctrkit.schema import BANDIT_LOG, CANDIDATE_PREFIX

_KNOWN = {column.name for column in BANDIT_LOG.columns}


def aligned(tables: tuple[LogTable, ...]) -> tuple[LogTable, ...]:
    """The tables of one log with the same columns in all of them.

    A column of single values that a file lacks is missing (null) in its rows. A list about the candidates, or
    a column of the schema, is left out unless all files have it. A column that is text in one file becomes
    text in all.
    """
    if len(tables) < 2:
        return tables
    names = list(dict.fromkeys(name for one in tables for name in one.table.columns))
    kept: list[str] = []
    gone: list[str] = []
    for name in names:
        everywhere = all(name in one.table.columns for one in tables)
        fixed = name in _KNOWN - {"p_drop"} or name.startswith(CANDIDATE_PREFIX)
        (kept if everywhere or not fixed else gone).append(name)
    text = {name for name in kept if len({_kind(one.table, name) for one in tables} - {None}) > 1}
    note = (f"Columns left out, because some files lack them: {', '.join(gone)}.",) if gone else ()
    return tuple(
        replace(one, table=one.table.select(_column(one.table, name, text) for name in kept),
                notes=(*one.notes, *note))
        for one in tables
    )  # fmt: skip


def _kind(table: pl.DataFrame, name: str) -> str | None:
    """Whether a column holds text or numbers; None where the table has none."""
    dtype = table.schema.get(name)
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    if inner is None or inner == pl.Null:
        return None
    return "text" if inner == pl.String else "number"


def _column(table: pl.DataFrame, name: str, text: set[str]) -> pl.Expr:
    if name not in table.columns:
        return pl.lit(0.0 if name == "p_drop" else None).alias(name)
    if name not in text:
        return pl.col(name)
    return pl.col(name).cast(pl.List(pl.String) if isinstance(table.schema[name], pl.List) else pl.String)
