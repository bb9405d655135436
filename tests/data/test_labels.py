"""Values are read where the last label is 1, and their faults are said with column, row and hint."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.config import build
from ctrkit.data.encoder import Encoder
from ctrkit.errors import ConfigError, DataError
from ctrkit.schema import FeatureSpec

LABELS = {"click": "click", "conversion": "sale"}
SPEC: dict[str, Any] = {"categorical": [{"name": "ad"}], "labels": LABELS, "value": "revenue"}


def encoded(revenue: list[Any]) -> Any:
    table = pl.DataFrame({"ad": [1, 2, 1, 2], "click": [1, 1, 1, 0], "sale": [0, 1, 1, 0]})
    table = table.with_columns(pl.Series("revenue", revenue, strict=False))
    spec = build(FeatureSpec, SPEC)
    read, file = spec.read(table)
    return Encoder.fit(spec, read, file).encode(read, "log.csv")


@pytest.mark.parametrize(
    "revenue",
    [
        [None, 2.5, 0.0, None],
        [-4.0, 2.5, 0.0, float("nan")],
        ["n/a", "2.5", "0", ""],
        [float("inf"), 2.5, 0.0, 1e300],
    ],
)
def test_rows_without_a_conversion_may_hold_anything(revenue: list[Any]) -> None:
    found = encoded(revenue)
    assert found.value.tolist() == [0.0, 2.5, 0.0, 0.0]
    assert found.value.dtype == np.float32


@pytest.mark.parametrize(
    ("amount", "says"),
    [
        (None, "log.csv, column 'revenue', row index 2: the value is missing. Give the value of every row"
         " where 'sale' is 1: 0 if it brought nothing."),
        (float("nan"), "row index 2: nan is not a finite number. Give the value of every row"),
        (float("inf"), "row index 2: inf is not a finite number"),
        (-1.0, "row index 2: -1 is "),
        (1e31, "row index 2: a value is above 1e[+]30. Divide all values"),
    ],
)  # fmt: skip
def test_faulty_values_are_named(amount: float | None, says: str) -> None:
    with pytest.raises(DataError, match=says):
        encoded([1.0, 2.5, amount, 1.0])


def test_a_missing_column_is_named_and_is_not_needed_to_predict() -> None:
    spec = build(FeatureSpec, SPEC)
    table = pl.DataFrame({"ad": [1, 2], "click": [1, 0], "sale": [1, 0], "revenu": [1.0, 0.0]})
    encoder = Encoder.fit(spec, table)
    with pytest.raises(DataError, match=r"column 'revenue': the column is missing. Did you mean 'revenu'"):
        encoder.encode(table)
    assert encoder.encode(table, labels=False).value is None
    assert encoder.feature_map().value
    assert Encoder.from_state(encoder.state()).spec.value == "revenue"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"value": "ad"}, "'ad' is a feature and cannot be the value as well"),
        ({"value": "sale"}, "'sale' is a label and cannot be the value as well"),
        ({"weight": "revenue"}, "'revenue' is the row weight and cannot be the value as well"),
        ({"group": "revenue"}, "'revenue' is the group and cannot be the value as well"),
        ({"labels": {"value": "sale"}}, "a task cannot be called 'value'"),
        ({"numeric": [{"name": "revenue"}]}, "'revenue' is a feature and cannot be the value as well"),
    ],
)
def test_the_column_of_values_has_no_other_role(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build(FeatureSpec, {**SPEC, **change})
