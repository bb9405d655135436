"""The columns of a kind of log: found by name, alias or a table's own name, typed and checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import polars as pl

from ctrkit.errors import DataError, nearest
from ctrkit.schema.columns import LISTS, SEPARATOR, Column, check_column
from ctrkit.schema.roles import NO_ROLES, Roles
from ctrkit.schema.times import clock_seconds
from ctrkit.tables import IsText, ReadTable, TableLike, read_named
from ctrkit.tables.cells import as_ids, as_integers, inferred, lists_of, values_of, with_values


@dataclass(frozen=True)
class LogSchema:
    """The columns of one kind of log. Columns outside the schema pass through untouched.

    Attributes:
        name: name of the kind of log, for messages.
        columns: the columns.
        listed: prefix of columns outside the schema that list a value for each of `candidates`.
        same_ids: columns that share their ids, so that they have one type.
        mappable: whether commands take the names that a table has of its own.
        roles: what the user says of these names (see `called`).
    """

    name: str
    columns: tuple[Column, ...]
    listed: str | None = None
    same_ids: tuple[str, ...] = ()
    mappable: bool = False
    roles: Roles = NO_ROLES

    def called(self, names: Mapping[str, str], constants: Mapping[str, float] | None = None) -> Self:
        """The schema for tables in which columns have names of their own.

        A column that is named so goes before one under the schema's name or an alias, which is left out.

        Args:
            names: name or alias of a column of the schema -> the table's name of it.
            constants: name of a column that the table lacks -> its value in every row.

        Raises:
            ConfigError: the schema has no such column, or one is named twice.
        """
        known = {name: column.name for column in self.columns for name in (*column.aliases, column.name)}
        return replace(self, roles=Roles.of(self.name, names, constants or {}, known, self.listed))

    def within(self, columns: Collection[str]) -> Self:
        """The schema for a table of which only these columns are read."""
        return replace(self, roles=self.roles.within(columns))

    def renames(self, names: Collection[str]) -> dict[str, str]:
        """A table's name -> the schema's, for columns with a name of their own or an alias.

        An alias counts only where the table lacks the column.
        """
        found = {own: role for role, own in self.roles.names if own in names}
        for column in self.columns:
            alias = next((alias for alias in column.aliases if alias in names and alias not in found), None)
            there = column.name in found.values() or (column.name in names and column.name not in found)
            if alias is not None and not there:
                found[alias] = column.name
        return found

    def names(self, names: Collection[str]) -> frozenset[str]:
        """The names that a table's columns have under the schema, with those of constants."""
        renames = self.renames(names)
        return frozenset([*(renames.get(name, name) for name in names), *dict(self.roles.constants)])

    def named(self, table: pl.DataFrame, file: str | None = None) -> pl.DataFrame:
        """The table under the schema's names, and with its constants; no value is checked.

        Raises:
            DataError: the table lacks a column that is named, or has one that is given as constant.
        """
        self.roles.check(self.name, table.columns, self.renames(table.columns), file)
        renames = self.renames(table.columns)
        hidden = [name for name in renames.values() if name in table.columns and name not in renames]
        return self.roles.with_constants(table.drop(hidden).rename(renames))

    def is_text(self, name: str) -> bool:
        """Whether a column of this name holds ids or lists, which are text in a text file."""
        if self._is_listed(name):
            return True
        column = self._column(name)
        return column is not None and column.kind in ("id", *LISTS)

    def text(self, also: IsText | None = None) -> IsText:
        """A function that says which columns are text in a text file: by `is_text` or by `also`."""
        return self.is_text if also is None else lambda name: self.is_text(name) or also(name)

    def _column(self, name: str) -> Column | None:
        """The column that a table calls so, by its own name, the schema's or an alias, in this order."""
        if self.roles.hides(name):
            return None
        name = self.roles.role_of(name) or name
        named = next((column for column in self.columns if column.name == name), None)
        return named or next((column for column in self.columns if name in column.aliases), None)

    def read(
        self, source: TableLike, also_text: IsText | None = None, zone: str | None = None
    ) -> tuple[pl.DataFrame, str | None]:
        """A table under the schema's names, with every value checked, and its name for messages.

        Args:
            source: a path, a glob, a list of them or a table in memory.
            also_text: says which other columns hold ids, for example `FeatureSpec.is_text`.
            zone: the time zone; by default that of the time column, else UTC.

        Raises:
            DataError: the source cannot be read (see `ctrkit.tables.read_table`), or a value is refused.
        """
        table, file = self.read_unchecked(source, also_text)
        return self.apply(table, file, zone), file

    def read_unchecked(
        self, source: TableLike, also_text: IsText | None = None
    ) -> tuple[pl.DataFrame, str | None]:
        """A table under its own names, to be checked by `apply`, and its name; the arguments of `read`."""
        table, file = read_named(source, self.text(also_text))
        (typed,) = self.typed((ReadTable(table, file, from_text=True),), also_text)
        return typed.table, file

    def typed(self, tables: Sequence[ReadTable], ids: IsText | None = None) -> tuple[ReadTable, ...]:
        """Tables of one log, where a column of ids or lists has one type in all of them.

        Lists in text cells become lists. Ids of text files are integers if all ids of all files are whole
        numbers in plain form, else text.

        Args:
            tables: the tables.
            ids: says which columns outside the schema hold ids, or lists of ids.
        """
        changed: list[dict[str, pl.Series]] = [{} for _ in tables]
        for names in self._together([name for one in tables for name in one.table.columns]):
            places = [
                (at, name) for at, one in enumerate(tables) for name in names if name in one.table.columns
            ]
            columns = [self._as_lists(tables[at].table, name) for at, name in places]
            loose = [
                column.dtype in (pl.String, pl.List(pl.String))
                and (tables[at].from_text or tables[at].table.schema[name] != column.dtype)
                for (at, name), column in zip(places, columns, strict=True)
            ]
            are_ids = self._are_ids(names[0]) or (ids is not None and ids(names[0]))
            for (at, name), column in zip(places, _typed(columns, loose, ids=are_ids), strict=True):
                changed[at][name] = column
        return tuple(
            replace(one, table=one.table.with_columns(columns.values())) if columns else one
            for one, columns in zip(tables, changed, strict=True)
        )

    def _together(self, names: Sequence[str]) -> list[list[str]]:
        """The text columns among these names, in groups that share their ids."""
        groups: dict[str, list[str]] = {}
        for name in dict.fromkeys(names):
            if self.is_text(name):
                column = self._column(name)
                known = name if column is None else column.name
                groups.setdefault(self.same_ids[0] if known in self.same_ids else known, []).append(name)
        return list(groups.values())

    def _are_ids(self, name: str) -> bool:
        column = self._column(name)
        return column is not None and column.kind in ("id", "ids")

    def _as_lists(self, table: pl.DataFrame, name: str) -> pl.Series:
        """A column of the table; lists in text cells become lists."""
        values = table[name]
        lists = self.holds_lists(name, table.columns) and values.dtype == pl.String
        return lists_of(values, SEPARATOR) if lists else values

    def holds_lists(self, name: str, columns: Sequence[str]) -> bool:
        """Whether a column of this name holds one list in each row, in a table of these columns."""
        column = self._column(name)
        if column is not None:
            return column.kind in LISTS
        return self._is_listed(name) and "candidates" in self.names(columns)

    def _is_listed(self, name: str) -> bool:
        return self.listed is not None and (self.roles.role_of(name) or name).startswith(self.listed)

    def apply(self, table: pl.DataFrame, file: str | None = None, zone: str | None = None) -> pl.DataFrame:
        """The table with aliases renamed, types cast and every value checked.

        Times become seconds on the clock of their zone (`ctrkit.schema.times.clock_seconds`), so that days
        and hours are local ones.

        Args:
            table: the table.
            file: its name, for messages.
            zone: the time zone; by default that of the time column, else UTC.

        Raises:
            DataError: names the file, the column, the first faulty row and what to do.
        """
        called, renames = table.columns, self.renames(table.columns)
        table = self.named(table, file)
        for column in self.columns:
            if column.required and column.name not in table.columns:
                article = "an" if self.name[0] in "aeiou" else "a"
                also = f" (or {', '.join(column.aliases)})" if column.aliases else ""
                close = nearest(column.name, called) if called else ""
                mend = "Add or rename it"
                if self.mappable:
                    mend = f"Add it, or name yours with map {column.name}=YOURS"
                raise DataError(
                    f"{article} {self.name} needs this column{also}, which holds {column.meaning}",
                    file=file,
                    column=column.name,
                    hint=f"{mend}. {close}" if close.startswith("Did") else mend,
                )
        source = {new: old for old, new in renames.items()}
        checked = [
            check_column(table[c.name], c, file, source.get(c.name, c.name))
            if c.kind != "time"
            else _clock(table[c.name], c, file, source.get(c.name, c.name), zone)
            for c in self.columns
            if c.name in table.columns
        ]
        return table.with_columns(checked)


def _clock(values: pl.Series, column: Column, file: str | None, called: str, zone: str | None) -> pl.Series:
    """Checked times on the clock of their zone."""
    check_column(values, column, file, called)
    return clock_seconds(values, zone, file, called)


def _typed(columns: Sequence[pl.Series], loose: Sequence[bool], *, ids: bool) -> list[pl.Series]:
    """Columns that share their values, in one type.

    Args:
        columns: columns of single values or of lists.
        loose: whether each column was text cells, whose type is inferred.
        ids: whether the columns hold ids.
    """
    flat = [values_of(one) if isinstance(one.dtype, pl.List) else one for one in columns]
    if ids:
        flat = [as_ids(one) if told else one for one, told in zip(flat, loose, strict=True)]
    cells = [one.alias("") for one, told in zip(flat, loose, strict=True) if told]
    if not cells:
        return list(columns)
    together = pl.concat(cells)
    numbers = as_integers(together) if ids else inferred(together)
    dtype = pl.String if numbers is None else numbers.dtype
    others = [one.dtype for one, told in zip(flat, loose, strict=True) if not told]
    text = ids and any(one.is_integer() != dtype.is_integer() for one in others if one != pl.Null)
    found, start = [], 0
    for column, values, told in zip(columns, flat, loose, strict=True):
        end = start + (values.len() if told else 0)
        if text:
            values = as_ids(values)
        elif told and numbers is not None:
            values = numbers[start:end]
        start = end
        if not isinstance(column.dtype, pl.List):
            found.append(values.alias(column.name) if told or text else column)
        elif told or text:
            found.append(with_values(column, values))
        else:
            found.append(column)
    return found
