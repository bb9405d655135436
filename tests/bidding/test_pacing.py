from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ctrkit.bidding import Auctions, DualPacer, hindsight_optimum, simulate
from ctrkit.bidding.pacing import AdditivePacer
from ctrkit.errors import ConfigError


def test_the_logarithm_of_the_multiplier_adds_up_the_errors() -> None:
    pacer, rng = DualPacer(step=0.3, initial_multiplier=2.0), np.random.default_rng(0)
    pace, value = pacer.start(100.0, 1000), np.full(10, 5.0)
    remaining, left, exponents = 100.0, 1000, []
    for k in range(1, 31):
        spend = float(rng.uniform(0, 3))
        exponents.append(0.3 / np.sqrt(k) * (spend / 10 / (remaining / left) - 1))
        remaining, left = remaining - spend, left - 10
        pace = pacer.update(pace, value, spend)
    assert pace.multiplier == pytest.approx(2.0 * np.exp(sum(exponents)), rel=1e-12)
    assert pace.remaining == pytest.approx(remaining)
    assert pace.auctions_left == left


def test_the_first_tick_cannot_cost_more_than_planned() -> None:
    value = np.random.default_rng(0).lognormal(0, 2, 500)
    pacer = DualPacer()
    bids = pacer.bid(pacer.start(100.0, 10_000), value)
    assert bids.sum() == pytest.approx(100.0 * 500 / 10_000)


def test_spending_to_plan_keeps_the_multiplier() -> None:
    pacer = DualPacer(initial_multiplier=3.0)
    pace = pacer.update(pacer.start(50.0, 100), np.ones(10), 5.0)
    assert pace.multiplier == 3.0
    assert pacer.update(pace, np.ones(10), 6.0).multiplier > 3.0
    assert pacer.update(pace, np.ones(10), 4.0).multiplier < 3.0


def test_slots_without_value_are_not_bid_on() -> None:
    pacer = DualPacer()
    pace = pacer.start(10.0, 100)
    assert pacer.bid(pace, np.zeros(5)).tolist() == [0.0] * 5
    pace = pacer.update(pace, np.zeros(5), 0.0)
    assert pacer.bid(pace, np.ones(5)).sum() == pytest.approx(5 * 10.0 / 95)


def test_a_market_that_is_never_won_does_not_wind_the_bid_up_for_good() -> None:
    pacer, value = DualPacer(), np.array([1.0, 2.0])
    pace = pacer.start(10.0, 1000)
    for _ in range(10_000):
        pace = pacer.update(pace, value, 0.0)
    assert pacer.bid(pace, value).min() == pytest.approx(10.0)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.6])
def test_reaches_98_percent_of_the_optimum_on_a_stationary_market(
    market: Callable[..., Auctions], share: float
) -> None:
    auctions = market(100_000, seed=3)
    result = simulate(auctions, ["dual"], share * auctions.market_price.sum())
    assert 0.98 <= (result.strategies[0].share_of_optimum or 0.0) <= 1.0
    assert result.strategies[0].budget_used > 0.98


def test_the_multiplier_comes_near_that_of_the_optimum(market: Callable[..., Auctions]) -> None:
    auctions = market(100_000, seed=4)
    budget = 0.1 * float(auctions.market_price.sum())
    path = simulate(auctions, ["dual"], budget).trajectory["multiplier"].to_numpy()
    optimum = hindsight_optimum(auctions.click_probability[:, 0], auctions.market_price, budget)
    assert path[100:].mean() == pytest.approx(optimum.multiplier, rel=0.05)


@pytest.mark.parametrize("money", [2.0**-20, 2.0**20])
@pytest.mark.parametrize("worth", [2.0**-10, 2.0**10])
def test_units_of_money_and_of_value_do_not_matter(
    market: Callable[..., Auctions], money: float, worth: float
) -> None:
    base = market(5000)
    scaled = Auctions(
        base.market_price * money, base.click_probability, base.value_of_click * worth, click=base.click
    )
    budget = 0.1 * float(base.market_price.sum())
    first, second = simulate(base, ["dual"], budget), simulate(scaled, ["dual"], budget * money)
    assert first.events["won"].equals(second.events["won"])
    assert second.strategies[0].spend == first.strategies[0].spend * money
    assert second.strategies[0].share_of_optimum == pytest.approx(first.strategies[0].share_of_optimum)


def test_additive_pacing_telescopes_to_what_was_spent() -> None:
    pacer, rng = AdditivePacer(step=0.02, initial_multiplier=2.0), np.random.default_rng(0)
    pace, value, spends = pacer.start(1000.0, 500), np.full(10, 5.0), rng.uniform(0, 30, 40)
    for spend in spends:
        pace = pacer.update(pace, value, float(spend))
    # A tick of 10 auctions is planned to cost 1000 · 10 / 500 = 20.
    assert pace.multiplier == pytest.approx(2.0 + 0.02 * 2.0 * (spends.sum() / 20.0 - 40), rel=1e-12)


def test_additive_pacing_stays_above_0_and_comes_back() -> None:
    pacer, value = AdditivePacer(step=0.3, initial_multiplier=1.0), np.ones(10)
    pace = pacer.start(1000.0, 1000)
    for _ in range(8):
        pace = pacer.update(pace, value, 0.0)
    low = pace.multiplier
    assert low is not None
    assert 0 < low < 0.1
    assert (pacer.update(pace, value, 20.0).multiplier or 0) == pytest.approx(low + 0.3)


def test_additive_pacing_from_a_good_start_is_near_the_optimum(market: Callable[..., Auctions]) -> None:
    auctions = market(100_000, seed=3)
    budget = 0.1 * float(auctions.market_price.sum())
    known = hindsight_optimum(auctions.click_probability[:, 0], auctions.market_price, budget).multiplier
    result = simulate(auctions, [f"dual-additive:initial_multiplier={1.5 * known}", "dual-additive"], budget)
    near, far = (one.share_of_optimum or 0 for one in result.strategies)
    assert 0.98 < near <= 1
    assert 0.9 < far < near


@pytest.mark.parametrize("setting", [{"step": 0.0}, {"step": np.nan}, {"initial_multiplier": -1.0}])
def test_settings_out_of_range(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        DualPacer(**setting)
