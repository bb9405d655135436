"""Which columns of a table are outcomes: labels, and the number of impressions where rows are sums."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import polars as pl

from ctrkit.errors import DataError

# Names in the order in which they are looked for.
CLICKS = (
    "click", "clicked", "is_click", "clicks", "clk", "label", "target", "y", "liked", "visit", "response",
)  # fmt: skip
LATER = (
    "conversion", "conversions", "converted", "is_conversion", "purchase", "purchases", "purchased", "bought",
    "buy", "order", "orders", "install", "installs", "sale", "sales",
)  # fmt: skip
IMPRESSIONS = ("impressions", "impression_count", "impression", "imps", "imp", "shown", "shows", "views")
_NAMED = "it holds 0 and 1, and has the name of an outcome"


def outcome_roles(
    table: pl.DataFrame, binary: Sequence[str], label: str | None, file: str | None
) -> dict[str, tuple[str, str]]:
    """Column -> its role, and why: "label 1", "label 2", "impressions", or "left out" of another outcome.

    Args:
        table: some rows, spread over the whole table.
        binary: the columns of 0 and 1.
        label: the column of the first label, if it is known.
        file: name of the table, for messages.

    Raises:
        DataError: no column can be the first label, or it is missing in some rows.
    """
    if counts := _counts(table):
        for name in counts:
            _check_there(table[name], file)
        told = "it holds numbers, and no row has more clicks than impressions"
        return {name: (f"label {at}" if at else "impressions", told) for at, name in enumerate(counts)}
    first, why = _first_label(table, binary, label, file)
    _check_there(table[first], file)
    roles = {first: ("label 1", why)}
    for name in binary:
        if name != first and name.lower() in (*CLICKS, *LATER):
            roles[name] = _later_label(table, first, name)
    named = first_named([name for name, (role, _) in roles.items() if role == "label 2"], LATER)
    return {
        name: (role, why) if role != "label 2" or name == named else ("left out", "it is another outcome")
        for name, (role, why) in roles.items()
    }


def _check_there(values: pl.Series, file: str | None) -> None:
    if missing := values.null_count():
        raise DataError(
            f"the label is missing in {missing:,} of {values.len():,} rows",
            file=file,
            column=values.name,
            hint="Write 0 where it did not happen, and remove a row only where this is not known",
        )


def first_named(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column whose name comes first among the names."""
    lower = {column.lower(): column for column in columns}
    return next((lower[name] for name in names if name in lower), None)


def _counts(table: pl.DataFrame) -> tuple[str, ...]:
    """The columns of impressions and of counted labels, where rows are sums; else none."""
    numbers = [name for name, dtype in table.schema.items() if dtype.is_numeric()]
    found = [name for of in (IMPRESSIONS, CLICKS, LATER) if (name := first_named(numbers, of)) is not None]
    if len(found) < 2 or found[0].lower() not in IMPRESSIONS:
        return ()
    whole = all(bool((table[name] == table[name].round()).all()) for name in found)
    falls = all(bool((table[one] <= table[before]).all()) for before, one in pairwise(found))
    return tuple(found) if whole and falls and bool((table[found[0]] > 1).any()) else ()


def _first_label(
    table: pl.DataFrame, binary: Sequence[str], label: str | None, file: str | None
) -> tuple[str, str]:
    """The first label, and why it is this column."""
    if label is not None:
        if label not in binary:
            there = label in table.columns
            problem = "a label holds 0 and 1, or true and false" if there else "the table lacks this column"
            raise DataError(problem, file=file, column=label, hint="Name the column of clicks")
        return label, "it was named as the label"
    if (named := first_named(binary, CLICKS)) is not None:
        return named, _NAMED
    if (named := first_named(table.columns, CLICKS)) is not None:
        # Whatever else could be the label, this column would be read as a feature of it.
        some = ", ".join(map(repr, table[named].drop_nulls().unique().sort().head(3).to_list()))
        raise DataError(
            f"the column has the name of a label, and holds {some}",
            file=file,
            column=named,
            hint="Write 1 where it happened, else 0; or name another label with `ctrkit inspect --label`",
        )
    if (named := first_named(binary, LATER)) is not None:
        return named, _NAMED
    if len(binary) == 1:
        return binary[0], "it is the only column of 0 and 1"
    seen = f"columns of 0 and 1: {', '.join(binary)}" if binary else "no column holds 0 and 1"
    raise DataError(
        f"no column is known to be the label ({seen})",
        file=file,
        hint="Name the column of clicks with `ctrkit inspect --label`; it holds 0 and 1. Public data sets"
        " have configs of their own: see `ctrkit sources`",
    )


def _later_label(table: pl.DataFrame, first: str, name: str) -> tuple[str, str]:
    """The role of another outcome beside the first label."""
    if name.lower() in CLICKS:
        return "left out", "it is another outcome"
    if missing := table[name].null_count():
        return "left out", f"it is an outcome, missing in {missing:,} rows: write 0 where it did not happen"
    later, before = (table[one].cast(pl.Int8) for one in (name, first))  # which may be true and false
    if broken := int((later > before).sum()):
        return "left out", f"it is an outcome, and {broken:,} rows have it without '{first}'"
    return "label 2", _NAMED
