"""within: a row beside the others of its list."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import fsum

import numpy as np
import polars as pl
from pydantic import Field

from ctrkit.data.derive.base import Names, SomeNames, Step, measures
from ctrkit.data.derive.part import Part
from ctrkit.errors import ConfigError, DataError
from ctrkit.settings import Number, Positive, checked, title

_VALUE = pl.col("value")
# What a row is compared with. Those of the second mapping go by the order of the list.
_OF_LIST: Mapping[str, pl.Expr] = {
    "highest": _VALUE.max(),
    "lowest": _VALUE.min(),
    "mean": pl.col("mean").first(),
    "median": _VALUE.median(),
}
_BESIDE: Mapping[str, pl.Expr] = {
    "above": _VALUE.shift(1),
    "below": _VALUE.shift(-1),
    "highest_above": _VALUE.cum_max().shift(1),
    "lowest_above": _VALUE.cum_min().shift(1),
    "positive_above": (_VALUE > 0).fill_null(False).cast(pl.Int32).cum_sum().shift(1, fill_value=0),
}
_COUNTS: Mapping[str, pl.Expr] = {
    "size": pl.len().cast(pl.Int32),
    "rank": _VALUE.rank("average"),
    "higher": _VALUE.rank("min", descending=True).cast(pl.Int32) - 1,
}
_COMPARED = tuple(name for name in (*_OF_LIST, *_BESIDE) if name != "positive_above")
_MEASURES = (
    *_COUNTS, *_OF_LIST, *_BESIDE,
    *(f"{how}_{name}" for how in ("to", "from") for name in _COMPARED),
)  # fmt: skip


@checked
class Within(Step):
    """A number of a row beside those of the other rows of its list, such as its price beside their prices.

    `size` is the number of rows; `rank` the share of the other rows with a lower number, from 0 to 1, ties
    counting half; `higher` how many rows have a higher number. `highest`, `lowest`, `mean` and `median` are
    those of the list; `above` and `below` are the numbers of the rows just above and below, `highest_above`
    and `lowest_above` those of all rows above, and `positive_above` is how many of them have a number above
    0. `to_X` is the ratio to X, and `from_X` the difference; without a row above or below they are 1 and 0.

    Raises:
        ConfigError: a measure of rows above or below without the order of the list.
    """

    name = "within"
    by: SomeNames = Field(description="columns whose values the rows of a list share")
    of: str = Field(description="column of the number")
    makes: measures(*_MEASURES) = Field(  # type: ignore[valid-type]
        description="new column -> size, rank, higher, highest, to_highest, from_highest, ..."
    )
    order: str | None = Field(default=None, description="column of the position in the list, unique in it")
    least: Number | None = Field(default=None, description="lower numbers count as this one")
    most: Positive | None = Field(default=None, description="ratios are cut off here")

    def __post_init__(self) -> None:
        ordered = [one for one in self.makes.values() if _other(one) in _BESIDE]
        if ordered and self.order is None:
            raise ConfigError(
                f"{title(self)}: '{ordered[0]}' goes by the order of the list", hint="Give order, a column"
            )

    @property
    def new_columns(self) -> Names:
        return tuple(self.makes)

    @property
    def keys(self) -> Names:
        return self.by

    @property
    def reads(self) -> Names:
        return (self.of, *filter(None, (self.order,)))

    def derive(self, part: Part) -> list[pl.Series]:
        value = pl.col(self.of)
        lists = part.rows.select(
            value=value if self.least is None else value.clip(self.least),
            list=pl.struct(self.by).rank("dense"),
            order=pl.col(self.order or self.of),
        ).with_row_index("row")
        lists = lists.sort("list", "order", "value", maintain_order=True)
        if self.order is not None and lists.select(pl.struct("list", "order").is_duplicated().any()).item():
            raise DataError(
                "two rows of a list have the same position",
                column=self.order,
                hint="Give columns that tell lists apart in `by`, or another `order`",
            )
        if any(_other(what) == "mean" for what in self.makes.values()):
            lists = lists.join(_means(lists), on="list", how="left", maintain_order="left")
        made = lists.select("row", *(self._measure(what).alias(name) for name, what in self.makes.items()))
        return made.sort("row").drop("row").get_columns()

    def _measure(self, what: str) -> pl.Expr:
        other = _other(what)
        found = {**_COUNTS, **_OF_LIST, **_BESIDE}[other].over("list")
        if what.startswith("to_"):
            ratio = (_VALUE / found).fill_null(1) if other in _BESIDE else _VALUE / found
            return ratio if self.most is None else ratio.clip(0, self.most)
        if what.startswith("from_"):
            return (_VALUE - found).fill_null(0) if other in _BESIDE else _VALUE - found
        if what == "rank":
            return (found - 1) / (_VALUE.count().over("list").cast(pl.Int64) - 1).clip(1)
        return found


def _other(measure: str) -> str:
    """What a row is compared with."""
    return measure.removeprefix("to_").removeprefix("from_")


def _means(lists: pl.DataFrame) -> pl.DataFrame:
    """The mean of each list, from the exact sum of its values, which does not depend on their order."""
    held = lists.select("list", pl.col("value").cast(pl.Float64)).drop_nulls()
    ends = np.cumsum(held.group_by("list", maintain_order=True).len()["len"].to_numpy()).tolist()
    values = held["value"].to_list()
    means = [fsum(values[a:b]) / (b - a) for a, b in pairwise([0, *ends])]
    return pl.DataFrame(
        {"list": held["list"].unique(maintain_order=True), "mean": means},
        schema_overrides={"mean": pl.Float64},
    )
