"""What a table's columns look like, kept small: the shares that drift is measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl

from ctrkit.errors import DataError

Kind: TypeAlias = Literal["numeric", "categorical", "length"]
OTHER, MISSING = "other", "missing"


@dataclass(frozen=True)
class FeatureProfile:
    """How the rows of one column fall into bins.

    Attributes:
        kind: `numeric` is binned at quantiles, `categorical` by value, `length` is a list's length, binned
            as numbers are.
        rows: how many were counted.
        edges: inner ends of the bins of numbers, rising; a number equal to an edge lies above it.
        values: the most frequent values of a categorical column, as text, most frequent first.
        shares: of the rows by bin, adding up to 1; the last bin holds what is missing, and the one before
            it, of a categorical column, all other values.
    """

    kind: Kind
    rows: int
    shares: tuple[float, ...]
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """The bins, as a person would call them."""
        if self.kind == "categorical":
            return (*self.values, OTHER, MISSING)
        ends = [f"{edge:.4g}" for edge in self.edges]
        if not ends:
            return ("any", MISSING)
        between = (f"{low} to {high}" for low, high in pairwise(ends))
        return (f"below {ends[0]}", *between, f"from {ends[-1]}", MISSING)

    def counts(self, column: pl.Series) -> np.ndarray[Any, np.dtype[np.int64]]:
        """How many rows of a column fall into each of these bins.

        Raises:
            DataError: the column is of another type than the one that was profiled.
        """
        if self.kind == "categorical":
            return _by_value(column, self.values)
        return _by_edge(_numbers(column, self.kind), self.edges)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for the artifact."""
        lists = {name: list(getattr(self, name)) for name in ("shares", "edges", "values")}
        return {"kind": self.kind, "rows": self.rows, **lists}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FeatureProfile:
        """The inverse of `to_dict`."""
        lists = {name: tuple(content[name]) for name in ("shares", "edges", "values")}
        return cls(content["kind"], content["rows"], **lists)


def profile(
    table: pl.DataFrame,
    *,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    lists: Sequence[str] = (),
    bins: int = 10,
    top: int = 20,
) -> dict[str, FeatureProfile]:
    """Profile the columns of a table, usually its training rows.

    Args:
        categorical, numeric, lists: names of columns; of a list its length is profiled.
        bins: quantile bins of a number, fewer where values repeat. top: values of a categorical column that
            get a bin of their own.

    Raises:
        DataError: no rows, or a column that is absent or of the wrong type.
    """
    if table.height == 0:
        raise DataError("there are no rows to profile")
    for name in (*categorical, *numeric, *lists):
        if name not in table.columns:
            raise DataError("the column is missing", column=name)
    found: dict[str, FeatureProfile] = {}
    for name in categorical:
        text = as_text(table[name]).drop_nulls().rename("value").to_frame()
        counts = text.group_by("value").len().sort(["len", "value"], descending=[True, False])
        values = tuple(counts["value"].head(top).to_list())
        found[name] = _counted("categorical", _by_value(table[name], values), values=values)
    kinds: dict[str, Kind] = {**dict.fromkeys(numeric, "numeric"), **dict.fromkeys(lists, "length")}
    for name, kind in kinds.items():
        numbers = _numbers(table[name], kind)
        held = numbers[np.isfinite(numbers)]
        inner = np.quantile(held, np.linspace(0, 1, bins + 1)[1:-1]) if held.size else np.empty(0)
        # An edge at the least value would leave an empty bin below it.
        edges = tuple(float(edge) for edge in np.unique(inner) if edge > held.min())
        found[name] = _counted(kind, _by_edge(numbers, edges), edges=edges)
    return found


def as_text(column: pl.Series) -> pl.Series:
    """Values as text, so that 7 and "7" are the same, and so are 1 and true."""
    return (column.cast(pl.Int8) if column.dtype == pl.Boolean else column).cast(pl.String)


def _counted(
    kind: Kind,
    counts: np.ndarray[Any, np.dtype[np.int64]],
    edges: tuple[float, ...] = (),
    values: tuple[str, ...] = (),
) -> FeatureProfile:
    rows = int(counts.sum())
    return FeatureProfile(kind, rows, tuple(float(n) / rows for n in counts), edges, values)


def _by_value(column: pl.Series, values: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    text = as_text(column)
    missing = text.null_count()
    named = dict(text.drop_nulls().rename("value").to_frame().group_by("value").len().iter_rows())
    own = [named.get(value, 0) for value in values]
    return np.array([*own, len(text) - missing - sum(own), missing], dtype=np.int64)


def _by_edge(
    numbers: np.ndarray[Any, np.dtype[np.float64]], edges: Sequence[float]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    held = ~np.isnan(numbers)
    bins = np.searchsorted(np.asarray(edges, dtype=np.float64), numbers[held], side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return np.append(counts, numbers.size - int(held.sum())).astype(np.int64)


def _numbers(column: pl.Series, kind: Kind) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The numbers that are binned, float64 with NaN for what is missing; a missing list has length 0."""
    if kind == "length":
        if isinstance(column.dtype, pl.Array):
            column = column.cast(pl.List(column.dtype.inner))
        if isinstance(column.dtype, pl.List):
            return column.list.len().fill_null(0).to_numpy().astype(np.float64)
        raise DataError(f"a list a row is needed, not {column.dtype}", column=column.name)
    try:
        numbers = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"numbers are needed, not {column.dtype}", column=column.name) from error
    return np.asarray(numbers, dtype=np.float64)
