"""Profiles of a table's columns: the share of rows in each bin, against which drift is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.errors import DataError
from ctrkit.metrics.checks import independent_units
from ctrkit.tables.cells import ids_as_text

ColumnKind: TypeAlias = Literal["numeric", "categorical", "length"]
OTHER, MISSING = "other", "missing"


@dataclass(frozen=True)
class FeatureProfile:
    """How the rows of one column fall into bins.

    Attributes:
        kind: `numeric` columns are binned at quantiles and `categorical` ones by value; `length` is the
            length of a list, binned as a number.
        rows: the number of rows; with weights, their effective number.
        shares: the share of (the weight of) rows in each bin; they add up to 1. The last bin holds missing
            values. The bin before it, in a categorical column, holds all other values.
        edges: the inner edges of the bins of numbers, rising; a number equal to an edge is in the bin above.
        values: the most frequent values of a categorical column, as text, most frequent first.
    """

    kind: ColumnKind
    rows: float
    shares: tuple[float, ...]
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """The names of the bins, for people."""
        if self.kind == "categorical":
            return (*self.values, OTHER, MISSING)
        ends = [f"{edge:.4g}" for edge in self.edges]
        if not ends:
            return ("any", MISSING)
        between = (f"{low} to {high}" for low, high in pairwise(ends))
        return (f"below {ends[0]}", *between, f"from {ends[-1]}", MISSING)

    def counts(self, column: pl.Series, weight: ArrayLike | None = None) -> Floats:
        """The number of rows of a column in each bin; a row of weight 2 counts as two.

        Raises:
            DataError: the column has another type than the profiled one.
        """
        if self.kind == "categorical":
            return _by_value(_mass_of_values(column, _mass(weight, len(column))), self.values)
        return _by_edge(_numbers(column, self.kind), self.edges, _mass(weight, len(column)))

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
    weight: ArrayLike | None = None,
) -> dict[str, FeatureProfile]:
    """Profile the columns of a table, usually its training rows.

    Args:
        table: the rows to profile.
        categorical: names of categorical columns.
        numeric: names of numeric columns.
        lists: names of list columns, whose length is profiled.
        bins: the number of quantile bins of a number; fewer if values repeat.
        top: the number of values of a categorical column that get a bin of their own.
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        DataError: no rows, or a column that is absent or of the wrong type.
    """
    if table.height == 0:
        raise DataError("there are no rows to profile")
    for name in (*categorical, *numeric, *lists):
        if name not in table.columns:
            raise DataError("the column is missing", column=name)
    found: dict[str, FeatureProfile] = {}
    w = _mass(weight, table.height)
    rows = independent_units(w, np.arange(table.height))
    for name in categorical:
        masses = _mass_of_values(table[name], w).sort(["mass", "value"], descending=[True, False])
        values = tuple(masses["value"].drop_nulls().head(top).to_list())
        found[name] = _counted("categorical", rows, _by_value(masses, values), values=values)
    kinds: dict[str, ColumnKind] = {**dict.fromkeys(numeric, "numeric"), **dict.fromkeys(lists, "length")}
    for name, kind in kinds.items():
        numbers = _numbers(table[name], kind)
        counted = np.isfinite(numbers) & (w > 0)
        held, at = numbers[counted], np.linspace(0, 1, bins + 1)[1:-1]
        inner = np.quantile(held, at, weights=w[counted], method="inverted_cdf") if held.size else np.empty(0)
        # An edge at the lowest value would leave an empty bin below it.
        edges = tuple(float(edge) for edge in np.unique(inner) if edge > held.min())
        found[name] = _counted(kind, rows, _by_edge(numbers, edges, w), edges=edges)
    return found


def values_as_text(column: pl.Series) -> pl.Series:
    """Values as text: ids as `ids_as_text` writes them, other numbers as they are."""
    try:
        return ids_as_text(column)
    except DataError:
        return column.cast(pl.String)


def _counted(
    kind: ColumnKind, rows: float, mass: Floats, edges: tuple[float, ...] = (), values: tuple[str, ...] = ()
) -> FeatureProfile:
    return FeatureProfile(kind, rows, tuple(float(share) for share in mass / mass.sum()), edges, values)


def _mass(weight: ArrayLike | None, rows: int) -> Floats:
    return np.ones(rows) if weight is None else np.asarray(weight, np.float64)


def _mass_of_values(column: pl.Series, weight: Floats) -> pl.DataFrame:
    """The weight of each value as text, and of missing values."""
    rows = pl.DataFrame([column.alias("value"), pl.Series("mass", weight)]).group_by("value").sum()
    # Distinct values that are written in several ways may be one text.
    return rows.with_columns(values_as_text(rows["value"])).group_by("value").sum()


def _by_value(masses: pl.DataFrame, values: Sequence[str]) -> Floats:
    named: dict[str | None, float] = dict(masses.iter_rows())
    missing = named.pop(None, 0.0)
    own = [named.get(value, 0.0) for value in values]
    return np.array([*own, sum(named.values()) - sum(own), missing])


def _by_edge(numbers: Floats, edges: Sequence[float], weight: Floats) -> Floats:
    held = ~np.isnan(numbers)
    bins = np.searchsorted(np.asarray(edges, dtype=np.float64), numbers[held], side="right")
    mass = np.bincount(bins, weight[held], minlength=len(edges) + 1)
    return np.append(mass, weight[~held].sum())


def _numbers(column: pl.Series, kind: ColumnKind) -> Floats:
    """The numbers to bin, float64, NaN if missing; a missing list has length 0."""
    if kind == "length":
        if isinstance(column.dtype, pl.Array):
            column = column.cast(pl.List(column.dtype.inner))
        if isinstance(column.dtype, pl.List):
            return column.list.len().fill_null(0).to_numpy().astype(np.float64)
        raise DataError(f"every row needs a list, and the type is {column.dtype}", column=column.name)
    try:
        numbers = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"numbers are needed, and the type is {column.dtype}", column=column.name) from error
    return np.asarray(numbers, dtype=np.float64)
