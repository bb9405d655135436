"""Finds missing columns and misspelt names, so that a misspelt optional column does not count as absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import polars as pl

from ctrkit.errors import DataError, nearest
from ctrkit.schema.columns import Column
from ctrkit.schema.log_schema import LogSchema

# Names with at least this similarity, without case and signs, count as misspellings of each other.
_NEXT_TO = 0.85


@dataclass(frozen=True)
class ClosedSchema(LogSchema):
    """A schema in which any other column is an error, because nothing else reads the table."""

    def apply(self, table: pl.DataFrame, file: str | None = None, zone: str | None = None) -> pl.DataFrame:
        """The table with aliases renamed, types cast and every value checked (see `LogSchema.apply`).

        Raises:
            DataError: also if a column is outside the schema, or is there under two names.
        """
        known = _names(self)
        if unknown := [name for name in table.columns if name not in known]:
            raise DataError(
                f"a {self.name} has no such column",
                file=file,
                column=unknown[0],
                hint=f"{nearest(unknown[0], known)}; rename it, or leave it out",
            )
        for column in self.columns:
            if len(twice := [name for name in (column.name, *column.aliases) if name in table.columns]) > 1:
                raise DataError(
                    f"'{twice[1]}' is another name of this column, so only one of the two would be read",
                    file=file,
                    column=twice[0],
                    hint="Leave one of them out",
                )
        return super().apply(table, file, zone)


def near_misses(schema: LogSchema, names: Sequence[str]) -> dict[str, Column]:
    """A table's columns outside the schema whose names are similar to a column that the table lacks.

    In an open log any column may be a feature of a model, so such columns are reported and not refused.
    """
    known, present = _names(schema), {*names}
    lacking = {
        _plain(name): column
        for column in schema.columns
        if not present & {column.name, *column.aliases}
        for name in (column.name, *column.aliases)
    }
    found = {}
    for name in names:
        if name not in known and (close := get_close_matches(_plain(name), lacking, n=1, cutoff=_NEXT_TO)):
            found[name] = lacking[close[0]]
    return found


def _names(schema: LogSchema) -> set[str]:
    return {name for column in schema.columns for name in (column.name, *column.aliases)}


def _plain(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def require_columns(table: pl.DataFrame, names: Sequence[str], file: str | None = None) -> None:
    """Raise a DataError for the first missing column; its hint names the most similar column."""
    for name in names:
        if name not in table.columns:
            raise DataError(
                "the column is missing", file=file, column=name, hint=nearest(name, table.columns)
            )
