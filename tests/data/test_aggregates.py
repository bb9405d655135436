"""Rows that stand for many impressions, beside the impressions themselves."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.data.aggregates import one_row_an_outcome, same_row
from ctrkit.data.split import SplitConfig, split_rows
from ctrkit.errors import ConfigError, DataError
from ctrkit.schema import FeatureSpec

FEATURES = {
    "categorical": [{"name": "ad", "min_count": 1}, {"name": "place", "min_count": 1}],
    "timestamp": "day",
    "labels": {"click": "clicks", "order": "orders"},
}
SUMS = FeatureSpec.model_validate({**FEATURES, "impressions": "shown"})


def sums() -> pl.DataFrame:
    """Ten days, eight ads in three places, 20 impressions each."""
    rng = np.random.default_rng(0)
    cells = pl.DataFrame({"day": range(1, 11)}).join(pl.DataFrame({"ad": range(8)}), how="cross")
    cells = cells.join(pl.DataFrame({"place": ["a", "b", "c"]}), how="cross")
    rate = 0.1 + 0.03 * cells["ad"].to_numpy()
    clicks = rng.binomial(20, rate)
    return cells.with_columns(shown=20, clicks=clicks, orders=rng.binomial(clicks, 0.3))


def impressions(table: pl.DataFrame) -> pl.DataFrame:
    """The same, one row for each impression."""
    at = np.repeat(np.arange(table.height), table["shown"].to_numpy())
    number = np.arange(at.size) - np.repeat(np.cumsum(table["shown"]) - table["shown"], table["shown"])
    rows = table[at].drop("shown")
    return rows.with_columns(
        clicks=(number < rows["clicks"].to_numpy()) * 1, orders=(number < rows["orders"].to_numpy()) * 1
    )


def test_a_row_becomes_one_row_an_outcome() -> None:
    table = pl.DataFrame({"ad": [7, 8, 9], "place": ["a", "b", "c"], "day": [1, 2, 3]})
    table = table.with_columns(
        shown=pl.Series([9, 4, 0]), clicks=pl.Series([5, 4, 0]), orders=pl.Series([2, 0, 0])
    )
    found = one_row_an_outcome(SUMS, table)
    expected = [(7, 4, 0, 0), (7, 3, 1, 0), (7, 2, 1, 1), (8, 4, 1, 0)]
    assert found.select("ad", "shown", "clicks", "orders").rows() == expected
    assert same_row(SUMS, found).tolist() == [1, 1, 1, 2]


def test_a_random_split_keeps_the_outcomes_of_a_row_together() -> None:
    table = one_row_an_outcome(SUMS, sums())
    split = split_rows(SUMS, SplitConfig(by="random", train=0.5, valid=0.3), table, seed=0)
    rows = same_row(SUMS, table)
    parts = [set(rows[part]) for part in (split.train, split.valid, split.test)]
    assert sum(map(len, parts)) == len(set(rows)) > 200


def test_training_on_sums_is_training_on_the_impressions() -> None:
    table = sums()
    of_sums = ctrkit.train(data=table, features={**FEATURES, "impressions": "shown"}, network="lr")
    of_rows = ctrkit.train(data=impressions(table), features=FEATURES, network="lr")
    for task, values in of_rows.metrics.items():
        for name in ("auc", "log_loss", "pcoc"):
            assert of_sums.metrics[task][name] == pytest.approx(values[name], rel=1e-4), (task, name)
    cells = table.drop("clicks", "orders", "shown")[:24]
    found, expected = (result.trained.predict(cells).to_numpy() for result in (of_sums, of_rows))
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("clicks", 21, "21 'clicks' of 20 'shown'"),
        ("orders", -1, "below 0"),
        ("shown", 20.5, "not a whole number"),
        ("clicks", None, "missing"),
    ],
)
def test_faulty_counts_are_named(column: str, value: float | None, problem: str) -> None:
    table = sums().with_columns(pl.col("orders") * 0)
    table = table.with_columns(
        pl.when(pl.int_range(pl.len()) == 5).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )
    with pytest.raises(DataError, match=problem) as caught:
        one_row_an_outcome(SUMS, table, "sums.csv")
    assert (caught.value.column, caught.value.row) == (column, 5)


def test_rows_of_sums_have_no_other_weight_and_no_value() -> None:
    for wrong in ({"weight": "w"}, {"value": "paid"}):
        with pytest.raises(ConfigError):
            ctrkit.train(data=sums(), features={**FEATURES, "impressions": "shown", **wrong}, network="lr")
