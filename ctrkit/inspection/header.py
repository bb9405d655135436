"""Tables without a header, whose first row was taken for the names of the columns."""

from __future__ import annotations

import polars as pl

from ctrkit.errors import DataError

# Share of the columns whose names must be values of theirs, and the least number of them.
_SHARE, _LEAST = 0.5, 2


def check_header(table: pl.DataFrame, file: str | None = None) -> None:
    """Check that the names of the columns are not the values of a row.

    The names of a table without a header are values of its first row. Values such as a country or a hash
    occur again in later rows, where the name of a column does not.

    Args:
        table: some rows, spread over the whole table.
        file: name of the table, for messages.

    Raises:
        DataError: half of the names or more are values of their own columns.
    """
    names = table.columns
    if names == [str(place) for place in range(len(names))]:  # as pandas counts columns
        return
    held = [name for name in names if _is_value(name, table[name])]
    if len(held) >= max(_LEAST, _SHARE * len(names)):
        raise DataError(
            f"the first line holds values ({', '.join(held[:3])}) instead of column names: later rows have "
            "the same",
            file=file,
            hint="Add a header line with a name for each column",
        )


def _is_value(name: str, column: pl.Series) -> bool:
    """Whether a name is one of the values of its column."""
    if column.dtype.is_numeric():
        value = pl.Series([name]).cast(pl.Float64, strict=False).item()
        return value is not None and bool((column == value).any())
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        return bool((column.cast(pl.String) == name).any())
    return False
