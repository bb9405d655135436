"""Names next to that of a known column: an optional column that is misspelt must not pass as absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import polars as pl

from ctrkit.errors import DataError, nearest
from ctrkit.schema.columns import Column, LogSchema

# Names this alike, but for case and signs, are taken for one another's misspelling.
_NEXT_TO = 0.85


@dataclass(frozen=True)
class ClosedSchema(LogSchema):
    """The columns of a table that nothing else reads, so that any other column is an error."""

    def apply(self, table: pl.DataFrame, file: str | None = None, zone: str | None = None) -> pl.DataFrame:
        """As `LogSchema.apply`.

        Raises:
            DataError: also for a column outside the schema, or one that is there under two names.
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
                    f"'{twice[1]}' is the same, so that one of both would not be read",
                    file=file,
                    column=twice[0],
                    hint="Leave one of them out",
                )
        return super().apply(table, file, zone)


def near_misses(schema: LogSchema, names: Sequence[str]) -> dict[str, Column]:
    """Of a table's columns, those outside the schema that are next to a column which the table lacks.

    In an open log a column of any name may be a model's feature, so that these are told of and not refused.
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
