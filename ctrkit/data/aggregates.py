"""Rows that stand for many impressions: one row for each outcome, weighted by its impressions."""

from __future__ import annotations

import numpy as np
import polars as pl

from ctrkit.arrays import Integers
from ctrkit.errors import DataError
from ctrkit.schema import Column, FeatureSpec, check_column, require_columns

_PLACE = "_row"


def one_row_an_outcome(spec: FeatureSpec, table: pl.DataFrame, file: str | None = None) -> pl.DataFrame:
    """The table with labels of 0 and 1, in the order of its rows; the same table if rows are impressions.

    A row of n impressions, c clicks and v conversions becomes at most three: v impressions with both labels,
    c - v with a click alone, and n - c with none. The column of impressions then holds these numbers, and is
    the weight of the row.

    Args:
        spec: what the columns mean.
        table: the rows.
        file: name of the table, for messages.

    Raises:
        DataError: a count is missing, negative or no whole number, or above the count before it.
    """
    if spec.impressions is None:
        return table
    names = (spec.impressions, *spec.labels.values())
    require_columns(table, names, file)
    counts = []
    for name in names:
        column = Column(name, "integer", "a number of impressions, clicks or conversions", low=0.0)
        counts.append(check_column(table[name], column, file).to_numpy())
    for name, before, above, count in zip(names[1:], names, counts, counts[1:], strict=False):
        if (more := np.flatnonzero(count > above)).size:
            raise DataError(
                f"the row has {count[more[0]]:,} '{name}' of {above[more[0]]:,} '{before}'",
                file=file,
                column=name,
                row=int(more[0]),
                hint="Fix such rows, or list the labels in funnel order",
            )
    rows = table.with_row_index(_PLACE)
    parts = []
    for reached, (count, further) in enumerate(
        zip(counts, [*counts[1:], np.zeros_like(counts[0])], strict=True)
    ):
        labels = [pl.lit(int(at < reached)).alias(name) for at, name in enumerate(names[1:])]
        weight = pl.Series(spec.impressions, (count - further).astype(np.float64))
        parts.append(rows.with_columns(weight, *labels).filter(pl.col(spec.impressions) > 0))
    return pl.concat(parts).sort(_PLACE, maintain_order=True).drop(_PLACE)


def same_row(spec: FeatureSpec, table: pl.DataFrame) -> Integers:
    """A number for each row of `one_row_an_outcome`, which the outcomes of one row share, [n].

    Outcomes of a row stand side by side, those with fewer labels first. So another row of the table begins
    where a row has no more labels than the one before it. (Two rows of one outcome may be taken for one.)
    """
    reached = table.select(reached=pl.sum_horizontal(*spec.labels.values()))["reached"]
    return np.cumsum(np.diff(reached.to_numpy(), prepend=0) <= 0)
