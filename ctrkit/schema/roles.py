"""What a user says of a log's columns: which column plays which role, and what is the same in every row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import polars as pl

from ctrkit.errors import ConfigError, DataError, nearest


@dataclass(frozen=True)
class Roles:
    """The roles of a table's columns.

    Attributes:
        names: (name in the schema, name in the table).
        constants: (name in the schema, value in every row).
    """

    names: tuple[tuple[str, str], ...] = ()
    constants: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(
        cls,
        what: str,
        names: Mapping[str, str],
        constants: Mapping[str, float],
        known: Mapping[str, str],
        listed: str | None,
    ) -> Roles:
        """The roles that a user gives.

        Args:
            what: the kind of table, for messages.
            names: role -> the table's name of it.
            constants: role -> value.
            known: name or alias of a role -> its name.
            listed: prefix of further roles.

        Raises:
            ConfigError: there is no such role, or a role or a column is named twice.
        """
        found: dict[str, str] = {}
        for role, column in names.items():
            if role not in known and not (listed and role.startswith(listed)):
                article = "an" if what[0] in "aeiou" else "a"
                raise ConfigError(f"map: {article} {what} has no column '{role}'", hint=nearest(role, known))
            name = known.get(role, role)
            if name in found or name in constants:
                raise ConfigError(f"map: '{name}' is given twice", hint="Name one column for it")
            if column in found.values():
                other = next(key for key, value in found.items() if value == column)
                raise ConfigError(
                    f"map: column '{column}' is named for both '{other}' and '{name}'",
                    hint="Name it for one of them; copy the column if it really is both",
                )
            found[name] = column
        return cls(tuple(found.items()), tuple(constants.items()))

    def role_of(self, column: str) -> str | None:
        """The role that a column of the table is named for."""
        return next((role for role, own in self.names if own == column), None)

    def hides(self, column: str) -> bool:
        """Whether another column of the table is named for the role that this one is called like."""
        return column in dict(self.names) and self.role_of(column) is None

    def within(self, columns: Collection[str]) -> Roles:
        """The roles of a table of which only these columns are read."""
        return Roles(tuple((role, own) for role, own in self.names if own in columns), self.constants)

    def check(
        self, what: str, columns: Collection[str], renames: Mapping[str, str], file: str | None
    ) -> None:
        """Check a table's columns against what is said of them.

        Args:
            what: the kind of table, for messages.
            columns: the table's columns.
            renames: table's name -> schema's name, of this table.
            file: the table's name, for messages.

        Raises:
            DataError: a named column is not there, or a constant is there as a column.
        """
        for role, own in self.names:
            if own not in columns:
                problem = f"no such column, and `map` names it for '{role}'"
                raise DataError(problem, file=file, column=own, hint=nearest(own, columns))
        for role, value in self.constants:
            there = [name for name in columns if renames.get(name, name) == role]
            if there:
                raise DataError(
                    f"the {what} has this column, and a {role} of {value:g} is given for all rows",
                    file=file,
                    column=there[0],
                    hint=f"Leave out the {role} that is given, or drop the column",
                )

    def with_constants(self, table: pl.DataFrame) -> pl.DataFrame:
        """The table with the columns that are the same in every row."""
        return table.with_columns(pl.lit(float(value)).alias(role) for role, value in self.constants)


NO_ROLES = Roles()
