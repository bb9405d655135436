"""Business metrics against sums by hand and by Polars, on logs of events and on summed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.business import business


def log_of_bids(rows: int = 500) -> pl.DataFrame:
    random = np.random.default_rng(0)
    won = random.random(rows) < 0.4
    click = won & (random.random(rows) < 0.2)
    conversion = click & (random.random(rows) < 0.3)
    return pl.DataFrame(
        {
            "campaign": random.integers(0, 5, rows),
            "win": won,
            "click": click,
            "conversion": conversion,
            "revenue": np.where(conversion, random.exponential(30, rows), 0),
            "cost": np.where(won, random.exponential(0.2, rows), 0),
            "bid": random.exponential(0.4, rows),
        }
    )


def test_figures_by_hand() -> None:
    found = business(
        {
            "impressions": [1000, 3000], "clicks": [10, 30], "conversions": [1, 3], "revenue": [50.0, 150.0],
            "cost": [20.0, 60.0], "bids": [4000, 6000], "wins": [1000, 3000],
        }
    )  # fmt: skip
    assert found.to_dict() == {
        "impressions": 4000, "clicks": 40, "conversions": 4, "revenue": 200, "cost": 80, "bids": 10_000,
        "wins": 4000, "ctr": 0.01, "cvr": 0.1, "roas": 2.5, "ecpm": 20, "ecpc": 2, "cpa": 20, "win_rate": 0.4,
    }  # fmt: skip


def test_a_log_of_events_and_its_sums_say_the_same() -> None:
    log = log_of_bids()
    summed = log.group_by("campaign").agg(
        pl.len().alias("bids"),
        *(pl.col(name).sum() for name in ("click", "conversion", "revenue", "cost")),
        wins=pl.col("win").sum(),
        impressions=pl.col("win").sum(),
    )
    expected = business(summed).to_dict()
    assert business(log, rows="bids").to_dict() == pytest.approx(expected, rel=1e-12)
    shown = log.filter("win").drop("win")
    only = business(shown, rows="impressions").to_dict()
    for name in ("ctr", "cvr", "roas", "ecpm", "ecpc", "cpa"):
        assert only[name] == pytest.approx(expected[name], rel=1e-12)
    assert only["win_rate"] is only["bids"] is None


def test_any_kind_of_table(tmp_path: Path) -> None:
    log = log_of_bids(50)
    expected = business(log, rows="bids")
    log.write_parquet(tmp_path / "log.parquet")
    arrays = {name: log[name].to_numpy() for name in log.columns}
    for table in (log.to_pandas(), log.to_arrow(), arrays, tmp_path / "log.parquet"):
        assert business(table, rows="bids").to_dict() == pytest.approx(expected.to_dict(), rel=1e-12)


def test_none_where_columns_are_absent_or_the_divisor_is_0() -> None:
    found = business({"clicks": [0, 0], "cost": [1.0, 2.0]})
    assert (found.clicks, found.cost) == (0, 3)
    assert all(value is None for name, value in found.to_dict().items() if name not in ("clicks", "cost"))
    # What a row is, is not guessed.
    assert business({"click": [0, 1]}).ctr is None
    assert business({"click": [0, 1]}, rows="impressions").ctr == 0.5


def test_names_of_ones_own_and_refunds() -> None:
    log = {"value": [10.0, -4.0], "market_price": [1.0, 2.0]}
    assert business(log, names={"revenue": "value", "cost": "market_price"}).roas == 2.0
    with pytest.raises(DataError, match=r"'worth': no such column; it should hold the revenue"):
        business(log, names={"revenue": "worth"})
    with pytest.raises(ConfigError, match=r"unknown quantity 'revenu'\. Did you mean 'revenue'"):
        business(log, names={"revenu": "value"})
    with pytest.raises(ConfigError, match=r"unknown kind of row 'bid'.*'bids'"):
        business(log, rows="bid")  # type: ignore[arg-type]


def test_bad_input() -> None:
    with pytest.raises(DataError, match=r"column 'cost', row index 1.*cannot be -1"):
        business({"cost": [1, -1]})
    with pytest.raises(DataError, match=r"column 'clicks', row index 0.*missing"):
        business({"clicks": [np.nan, 1.0]})
    with pytest.raises(DataError, match=r"column 'clicks': there are 3 clicks and only 2 impressions"):
        business({"clicks": [1, 2], "impressions": [1, 1]})
    with pytest.raises(DataError, match="column 'clicks': cost has 2 rows and clicks has 1"):
        business({"clicks": [1], "cost": [1.0, 2.0]})
    with pytest.raises(DataError, match="column 'wins': there are 2 wins and only 1 bids"):
        business({"wins": [2], "bids": [1]})
