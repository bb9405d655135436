"""How a column cuts the rows of a log into segments: by value, by bins of numbers, or by parts of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from ctrkit.arrays import Integers
from ctrkit.errors import DataError, nearest

MISSING = "missing"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_HOURS = tuple(f"{hour:02}:00" for hour in range(24))


@dataclass(frozen=True)
class SegmentColumn:
    """How one column cuts rows into segments: by its values, by bins of numbers, or by a part of its times.

    Attributes:
        column: the name of the column in the log.
        edges: the rising edges between bins of numbers; empty: each value is a segment.
        part: the part of times that makes a segment, in UTC. The column has datetimes or unix seconds.
    """

    column: str
    edges: tuple[float, ...] = ()
    part: Literal["weekday", "hour"] | None = None

    @property
    def name(self) -> str:
        """The name in headings."""
        return self.column if self.part is None else f"{self.part} of {self.column}"

    @property
    def order(self) -> tuple[str, ...] | None:
        """All segments in their natural order; None where they are ordered by frequency."""
        if self.part is not None:
            return (*(_DAYS if self.part == "weekday" else _HOURS), MISSING)
        if not self.edges:
            return None
        inner = [f"{low:g} to below {high:g}" for low, high in zip(self.edges, self.edges[1:], strict=False)]
        return (f"below {self.edges[0]:g}", *inner, f"from {self.edges[-1]:g}", MISSING)

    def groups(self, table: pl.DataFrame) -> list[tuple[str, Integers]]:
        """The segments of a table's rows: the label and the rising row indices of each.

        Raises:
            DataError: the column is missing, or its values cannot be cut in this way.
        """
        if self.column not in table.columns:
            raise DataError("no such column", column=self.column, hint=nearest(self.column, table.columns))
        values = table[self.column]
        if self.order is not None:
            kind = "times" if self.part is not None else "numbers"
            try:
                values = pl.Series(self._codes(values))
            except pl.exceptions.PolarsError as error:
                raise DataError(
                    f"the values are not {kind}", column=self.column, hint=f"Name a column of {kind}"
                ) from error
        elif values.dtype.is_nested():
            raise DataError(
                "the values are lists, which cannot be segments",
                column=self.column,
                hint="Name a column of single values",
            )
        found = pl.DataFrame({"value": values}).with_row_index("row").group_by("value").agg("row")
        if self.order is not None:
            labels = [self.order[code] for code in found["value"]]
        else:
            labels = found["value"].cast(pl.String).fill_null(MISSING).to_list()
        return [
            (label, rows.to_numpy().astype(np.int64))
            for label, rows in zip(labels, found["row"], strict=True)
        ]

    def _codes(self, values: pl.Series) -> Integers:
        """Indices into `order`, -1 where a value is missing."""
        if self.part is not None:
            times = values if values.dtype.is_temporal() else pl.from_epoch(values.cast(pl.Int64), "s")
            codes = times.dt.weekday() - 1 if self.part == "weekday" else times.dt.hour()
            return codes.cast(pl.Int64).fill_null(-1).to_numpy()
        numbers = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
        found = np.searchsorted(np.asarray(self.edges), numbers, side="right")
        return np.where(np.isnan(numbers), -1, found).astype(np.int64)
