"""Tables of values, for reports and data frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctrkit.names import visible
from ctrkit.reports.cells import Interval, Value, cell

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    """Rows of values; `ctrkit.reports.cells` makes them text. The first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    def __post_init__(self) -> None:
        # Texts may come from the data: they are made visible here, once for screens and pages.
        object.__setattr__(self, "title", visible(self.title))
        object.__setattr__(self, "header", tuple(map(visible, self.header)))
        object.__setattr__(self, "rows", tuple(tuple(map(cell, row)) for row in self.rows))

    def to_pandas(self) -> pd.DataFrame:
        """The values as a data frame: a column of intervals `x` becomes `x`, `x_low` and `x_high`.

        Counts are int64 (Int64 if one is missing). Other numbers are float64, with NaN for undefined values.
        Shares are fractions of 1, not percentages.
        """
        import pandas as pd

        columns = []
        for place, name in enumerate(self.header):
            cells = [row[place] for row in self.rows]
            columns.append(_column(name, [one.value if isinstance(one, Interval) else one for one in cells]))
            if any(isinstance(one, Interval) for one in cells):
                ends = [one[1:] if isinstance(one, Interval) else (None, None) for one in cells]
                columns += [
                    _column(f"{name}_{end}", [pair[index] for pair in ends])
                    for index, end in enumerate(("low", "high"))
                ]
        return pd.concat(columns, axis=1)  # column names may repeat


def _column(name: str, values: list[Value]) -> pd.Series:
    import pandas as pd

    known = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in known):
        return pd.Series(values, name=name)
    if known and all(isinstance(value, int) for value in known):
        return pd.Series(values, name=name, dtype="int64" if len(known) == len(values) else "Int64")
    return pd.Series(values, name=name, dtype="float64")
