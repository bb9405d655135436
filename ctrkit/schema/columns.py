"""What the columns of a log mean, and the checks of every value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import polars as pl

from ctrkit.errors import DataError, nearest
from ctrkit.schema.times import clock_seconds, unix_seconds
from ctrkit.tables import IsText, ReadTable, TableLike, read_named
from ctrkit.tables.cells import as_ids, as_integers, inferred, lists_of, values_of, with_values

Kind = Literal["id", "integer", "number", "binary", "probability", "time", "ids", "numbers", "probabilities"]
LISTS = ("ids", "numbers", "probabilities")

# Separates the values of a list in a text file.
SEPARATOR = "|"
# A 32-bit float may exceed by this much a bound that it was meant to equal.
TOLERANCE = 1e-6
_TRUTHS = {"true": "1", "True": "1", "TRUE": "1", "false": "0", "False": "0", "FALSE": "0"}


@dataclass(frozen=True)
class Column:
    """One column of a log: its name, what it may hold and what it is called elsewhere.

    Kinds: `id`, an integer or text; `integer`; `number`, finite; `binary`, 0 or 1; `probability`, in (0, 1];
    `time`, as in `ctrkit.schema.times`; `ids`, `numbers` and `probabilities`, one list in each row (a
    probability in a list may be 0).

    Attributes:
        name: name of the column.
        kind: what its values are.
        meaning: what it holds, for messages.
        aliases: other names under which it is read.
        required: whether every log must have it.
        low: smallest allowed number; None: no bound.
        nullable: whether an id or a number may be missing; a missing number is read as NaN.
        missing: hint about a missing value, if filling it in or dropping the row would be wrong.
    """

    name: str
    kind: Kind
    meaning: str
    aliases: tuple[str, ...] = ()
    required: bool = False
    low: float | None = None
    nullable: bool = False
    missing: str | None = None


@dataclass(frozen=True)
class LogSchema:
    """The columns of one kind of log. Columns outside the schema pass through untouched.

    Attributes:
        name: name of the kind of log, for messages.
        columns: the columns.
        listed: prefix of columns outside the schema that list a value for each of `candidates`.
        same_ids: columns that share their ids, so that they have one type.
    """

    name: str
    columns: tuple[Column, ...]
    listed: str | None = None
    same_ids: tuple[str, ...] = ()

    def renames(self, names: Sequence[str]) -> dict[str, str]:
        """Alias -> name, for those of a table's columns that are an alias of a column it lacks."""
        found: dict[str, str] = {}
        for column in self.columns:
            alias = next((alias for alias in column.aliases if alias in names), None)
            if alias is not None and column.name not in names:
                found[alias] = column.name
        return found

    def is_text(self, name: str) -> bool:
        """Whether a column of this name holds ids or lists, which are text in a text file."""
        if self.listed is not None and name.startswith(self.listed):
            return True
        column = self._column(name)
        return column is not None and column.kind in ("id", *LISTS)

    def text(self, also: IsText | None = None) -> IsText:
        """A function that says which columns are text in a text file: by `is_text` or by `also`."""
        return self.is_text if also is None else lambda name: self.is_text(name) or also(name)

    def _column(self, name: str) -> Column | None:
        """The column of this name or alias; a name goes before an alias."""
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
        table, file = read_named(source, self.text(also_text))
        (typed,) = self.typed((ReadTable(table, file, from_text=True),), also_text)
        return self.apply(typed.table, file, zone), file

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
        return self.listed is not None and name.startswith(self.listed) and "candidates" in columns

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
        renames = self.renames(table.columns)
        for column in self.columns:
            if column.required and column.name not in (*table.columns, *renames.values()):
                article = "an" if self.name[0] in "aeiou" else "a"
                also = f" (or {', '.join(column.aliases)})" if column.aliases else ""
                close = nearest(column.name, table.columns) if table.columns else ""
                raise DataError(
                    f"{article} {self.name} needs this column{also}, which holds {column.meaning}",
                    file=file,
                    column=column.name,
                    hint=f"Add or rename it. {close}" if close.startswith("Did") else "Add or rename it",
                )
        table = table.rename(renames)
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


def check_column(
    values: pl.Series, column: Column, file: str | None = None, called: str | None = None
) -> pl.Series:
    """One column, cast to the type of its kind, with every value checked.

    Args:
        values: the values.
        column: the column of the schema.
        file: the file, for messages.
        called: the column's name in the file, if it is an alias.

    Raises:
        DataError: a value is null, NaN, out of range or of a wrong type; the error names the first such row.
    """
    name = called or column.name

    def refuse(problem: str, row: int | None, hint: str) -> DataError:
        return DataError(problem, file=file, column=name, row=row, hint=hint)

    if column.kind == "id":
        values = _ids(values, file, name)
    if column.kind == "number" and column.nullable:
        return _present_or_nan(values, column, refuse)
    if values.null_count() and not column.nullable:
        hint = column.missing or f"Fill in or drop such rows; the column holds {column.meaning}"
        raise refuse("the value is missing", _first(values.is_null()), hint)
    if column.kind in LISTS:
        return _check_list(values, column, refuse)
    if column.kind == "id":
        return values
    if column.kind == "time":
        return unix_seconds(values, file, name)
    numbers = _numbers(values, column, refuse)
    _check_numbers(numbers, column, refuse)
    if column.kind == "integer":
        return numbers.cast(pl.Int64)
    return numbers.clip(upper_bound=1.0) if column.kind == "probability" else numbers


def _ids(values: pl.Series, file: str | None, name: str) -> pl.Series:
    """Ids as whole numbers or text."""
    if values.dtype.is_integer():
        return values
    ids = as_ids(values, file, name)
    return ids.cast(pl.Int64) if values.dtype.is_float() else ids


def _present_or_nan(values: pl.Series, column: Column, refuse: _Refuse) -> pl.Series:
    """Numbers, NaN where one is missing; the others are checked."""
    numbers = _numbers(values, column, refuse).fill_null(float("nan"))
    # Any number in the allowed range passes the checks.
    _check_numbers(numbers.fill_nan(column.low or 0.0), column, refuse)
    return numbers


def _numbers(values: pl.Series, column: Column, refuse: _Refuse) -> pl.Series:
    """Numbers, or text that holds numbers, as Float64."""
    if values.dtype in (pl.Boolean, pl.Null) or not values.len():
        values = values.cast(pl.Int8, strict=False)
    if values.dtype.is_numeric():
        return values.cast(pl.Float64)
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        text = values.cast(pl.String).str.strip_chars()
        if column.kind == "binary":
            text = text.replace(_TRUTHS)
        numbers = text.cast(pl.Float64, strict=False)
        if (row := _first(numbers.is_null() & values.is_not_null())) is None:
            return numbers
    else:
        raise refuse(f"numbers are needed, not {values.dtype}", None, "Cast the column to numbers")
    hint = "Cast the column to numbers"
    if isinstance(values[row], str) and "," in values[row]:
        hint = "Write numbers with a decimal point and without thousands separators"
    raise refuse(f"{values[row]!r} is not a number (the column is {values.dtype})", row, hint)


def _check_numbers(numbers: pl.Series, column: Column, refuse: _Refuse) -> None:
    """Range checks on a flat Float64 series."""
    if (row := _first(~numbers.is_finite())) is not None:
        raise refuse(
            f"{numbers[row]} is not a finite number", row, column.missing or "Fill in or drop such rows"
        )
    if column.kind == "binary" and (row := _first((numbers != 0) & (numbers != 1))) is not None:
        raise refuse(f"{shown(numbers[row])} is neither 0 nor 1", row, f"The column holds {column.meaning}")
    if (
        column.kind == "probability"
        and (row := _first((numbers <= 0) | (numbers > 1 + TOLERANCE))) is not None
    ):
        raise refuse(
            f"{shown(numbers[row])} is not in (0, 1]",
            row,
            "Log the probability with which the action was chosen",
        )
    if column.kind == "integer" and (row := _first(numbers != numbers.round())) is not None:
        raise refuse(
            f"{shown(numbers[row])} is not a whole number", row, f"The column holds {column.meaning}"
        )
    if column.low is not None and (row := _first(numbers < column.low)) is not None:
        raise refuse(
            f"{shown(numbers[row])} is below {column.low:g}", row, f"The column holds {column.meaning}"
        )


def shown(number: float) -> str:
    """A number in a message, with enough digits to differ from the bound that it breaks."""
    return f"{number:.9g}"


def _check_list(values: pl.Series, column: Column, refuse: _Refuse) -> pl.Series:
    """List columns: types of the inner values, no empty list, ranges of probabilities."""
    if values.dtype == pl.String:
        values = lists_of(values, SEPARATOR)
        if (row := _first(values.is_null())) is not None:
            raise refuse("the list is empty", row, "Drop such rows")
    dtype = values.dtype
    if not isinstance(dtype, (pl.List, pl.Array)):
        raise refuse(
            f"the column needs one list in each row, not {dtype}",
            None,
            "Store it as a list column, or as text such as 3|7|9 or [3, 7, 9]",
        )
    lists = values.cast(pl.List(dtype.inner)) if isinstance(dtype, pl.Array) else values
    if (row := _first(lists.list.len() == 0)) is not None:
        raise refuse("the list is empty", row, "Drop such rows")
    rows = pl.int_range(lists.len(), eager=True).repeat_by(lists.list.len()).explode()
    inner = lists.explode()
    if inner.null_count():
        raise refuse("the list holds a missing value", int(rows[_first(inner.is_null()) or 0]), "Fill it in")
    if column.kind == "ids":
        if inner.dtype.is_integer():
            return lists
        ids = as_ids(inner, None, column.name)
        if (at := _first(ids.is_null())) is not None:
            raise refuse("the list holds a missing value", int(rows[at]), "Fill it in")
        return with_values(lists, ids.cast(pl.Int64) if inner.dtype.is_float() else ids)
    if inner.dtype == pl.String:
        numbers = inner.str.strip_chars().cast(pl.Float64, strict=False)
        if (at := _first(numbers.is_null())) is not None:
            raise refuse(
                f"the list holds {inner[at]!r}, which is not a number",
                int(rows[at]),
                "Write lists as 0.5|0.5 or [0.5, 0.5], with decimal points",
            )
    elif inner.dtype.is_numeric():
        numbers = inner.cast(pl.Float64)
    else:
        raise refuse(f"numbers are needed, not {inner.dtype}", None, "Cast the column")
    bad = ~numbers.is_finite()
    if column.kind == "probabilities":
        bad = bad | (numbers < -TOLERANCE) | (numbers > 1 + TOLERANCE)
    if (at := _first(bad)) is not None:
        wanted = "a probability" if column.kind == "probabilities" else "a finite number"
        raise refuse(
            f"the list holds {shown(numbers[at])}, which is not {wanted}", int(rows[at]), "Fix such rows"
        )
    return with_values(lists, numbers.clip(0.0, 1.0) if column.kind == "probabilities" else numbers)


def _first(mask: pl.Series) -> int | None:
    """Index of the first True, or None."""
    index = mask.arg_max() if mask.any() else None
    return int(index) if index is not None else None


class _Refuse(Protocol):
    """The callback that builds the error for one column."""

    def __call__(self, problem: str, row: int | None, hint: str) -> DataError: ...
