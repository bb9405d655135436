from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.bidding import hindsight_optimum
from ctrkit.bidding.market.clearing import clear
from ctrkit.bidding.simulation.sweep import OPTIMUM, BudgetRun, sweep_table
from ctrkit.errors import ConfigError, DataError

BUDGETS = (50.0, 10.0, 400.0, 100.0, 4000.0)


@pytest.fixture
def auctions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.lognormal(0, 1, 500), rng.lognormal(0, 1, 500)


def run_of(value: np.ndarray, price: np.ndarray, budget: float) -> BudgetRun:
    """Bidders of two fixed multipliers."""
    found: dict[str, dict[str, float | None]] = {}
    for multiplier in (1.0, 3.0):
        cleared = clear(value / multiplier, price, budget, 0.0)
        bought, clicks = float(value[cleared.won].sum()), int(cleared.won.sum())
        found[f"mu {multiplier:g}"] = {"value": bought, "spend": cleared.spent, "clicks": clicks}
    return BudgetRun(budget, found, hindsight_optimum(value, price, budget).value)


def test_values_and_slopes_in_order_of_the_budget(auctions: tuple[np.ndarray, np.ndarray]) -> None:
    runs = {budget: run_of(*auctions, budget) for budget in BUDGETS}
    table = sweep_table(list(runs.values()))
    ordered = sorted(BUDGETS)
    assert table.columns == [
        "strategy", "budget", "value", "share_of_optimum", "marginal_value", "spend", "clicks",
    ]  # fmt: skip
    assert table["strategy"].unique(maintain_order=True).to_list() == ["mu 1", "mu 3", OPTIMUM]
    for name in ("mu 1", "mu 3", OPTIMUM):
        rows = table.filter(strategy=name).to_dicts()
        assert [row["budget"] for row in rows] == ordered
        before = None
        for row in rows:
            run = runs[row["budget"]]
            kpis = {"value": run.optimum} if name == OPTIMUM else run.strategies[name]
            assert row["value"] == kpis["value"]
            assert row["share_of_optimum"] == pytest.approx(row["value"] / run.optimum)
            assert (row["spend"], row["clicks"]) == (kpis.get("spend"), kpis.get("clicks"))
            if before is None:
                assert row["marginal_value"] is None
            else:
                more, money = row["value"] - before["value"], row["budget"] - before["budget"]
                assert row["marginal_value"] == pytest.approx(more / money)
            before = row


def test_the_optimum_s_slope_lies_between_its_multipliers(auctions: tuple[np.ndarray, np.ndarray]) -> None:
    table = sweep_table([run_of(*auctions, budget) for budget in BUDGETS]).filter(strategy=OPTIMUM)
    multiplier = np.array([hindsight_optimum(*auctions, budget).multiplier for budget in table["budget"]])
    slope = table["marginal_value"].to_numpy()[1:]
    assert (slope <= multiplier[:-1] * (1 + 1e-12)).all()
    assert (slope >= multiplier[1:] * (1 - 1e-12)).all()
    # The largest budget buys all there is.
    assert multiplier[-1] == 0.0


def test_one_budget_no_kpi_and_nothing_to_buy() -> None:
    table = sweep_table([BudgetRun(10.0, {"dual": {"value": 0.0}}, 0.0)], kpis=())
    assert table.rows() == [("dual", 10.0, 0.0, None, None), (OPTIMUM, 10.0, 0.0, None, None)]


def test_kpis_that_a_log_does_not_know_are_null() -> None:
    table = sweep_table([BudgetRun(10.0, {"dual": {"value": 1.0, "clicks": None}}, 2.0)], ("clicks", "bids"))
    assert table["clicks"].to_list() == table["bids"].to_list() == [None, None]
    assert table.schema["clicks"] == pl.Float64


@pytest.mark.parametrize("budgets", [(), (0.0, 1.0), (-1.0,), (5.0, 1.0, 5.0), (float("nan"),)])
def test_budgets_that_make_no_sweep(budgets: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="different budgets above 0"):
        sweep_table([BudgetRun(budget, {"dual": {"value": 1.0}}, 2.0) for budget in budgets])


def test_budgets_of_other_strategies() -> None:
    runs = [BudgetRun(1.0, {"dual": {"value": 1.0}}, 2.0), BudgetRun(2.0, {"pid": {"value": 1.0}}, 2.0)]
    with pytest.raises(DataError, match="not run with the same strategies"):
        sweep_table(runs)
