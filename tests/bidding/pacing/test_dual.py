from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ctrkit.bidding import Auctions, DualBidding, DualPacer, hindsight_optimum, simulate
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.pacing.dual import AdditivePacer
from ctrkit.bidding.pacing.spend_plan import SpendPlan
from ctrkit.bidding.simulation.every_auction import replay_paced
from ctrkit.bidding.strategies.base import AuctionHistory
from ctrkit.errors import ConfigError


@pytest.mark.parametrize(("n", "first"), [(30, 0.3), (20, 0.3), (5, 0.15)])
def test_the_logarithm_of_the_multiplier_adds_up_the_errors(n: int, first: float) -> None:
    """With steps of 0.3/√k, and of half of that in ticks of a quarter of twenty."""
    pacer, rng = DualPacer(step=0.3, initial_multiplier=2.0), np.random.default_rng(0)
    pace, value = pacer.start(100.0, 1000), np.full(n, 5.0)
    remaining, left, exponents = 100.0, 1000, []
    for k in range(1, 31):
        spend = float(rng.uniform(0, 0.2 * n))
        exponents.append(first / np.sqrt(k) * (spend / n / (remaining / left) - 1))
        remaining, left = remaining - spend, left - n
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


@pytest.mark.parametrize("n", [1, 7, 40])
def test_a_tick_is_planned_its_share_of_what_the_plan_has_left(n: int) -> None:
    """Whoever spends what is planned follows the plan to the end, and the multiplier stays."""
    plan = SpendPlan(np.array([2.0, 1.0, 5.0]))
    pacer, spent = DualPacer(initial_multiplier=3.0, plan=plan), 0.0
    pace = pacer.start(800.0, 120)
    for gone in range(n, 121, n):
        # By hand: 40 auctions a part, of 200, 100 and 500 units of money.
        planned = sum(
            np.clip(gone - 40 * part, 0, 40) / 40 * money for part, money in enumerate((200, 100, 500))
        )
        pace = pacer.update(pace, np.ones(n), planned - spent)
        spent = planned
        assert pace.multiplier == pytest.approx(3.0, rel=1e-9)
    pace = pacer.update(pacer.start(800.0, 120), np.ones(40), 100.0)
    assert pace.multiplier == pytest.approx(3.0 * np.exp(100 / 200 - 1))
    # 700 are left for parts of 1 to 5; a tick of half a part then gets 700 / 6 / 2.
    assert pacer.update(pace, np.ones(20), 700 / 12).multiplier == pytest.approx(pace.multiplier)


def test_an_even_plan_is_none(market: Callable[..., Auctions]) -> None:
    auctions = market(3000)
    value, price = auctions.click_probability[:, 0], auctions.market_price
    even, none = (
        replay_paced(value, price, pacer, pacer.start(5000.0, 3000))
        for pacer in (DualPacer(plan=SpendPlan(np.ones(24))), DualPacer())
    )
    assert even.wins == none.wins
    assert even.pace.multiplier == pytest.approx(none.pace.multiplier, rel=1e-9)


def test_the_shape_of_an_earlier_day_is_worth_more_than_a_better_controller() -> None:
    """Prices and values that triple for a third of the day, as they did the day before."""

    def day(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng, n = np.random.default_rng(seed), 60_000
        level = np.where(np.arange(n) // 20_000 == 1, 3.0, 1.0)
        quality = rng.normal(0, 0.6, n)
        return level * np.exp(quality - 4.8), level * np.exp(rng.normal(3.5, 1.0, n) + 0.5 * quality)

    value, price = day(0)
    budget = 0.1 * float(price.sum())
    bought = hindsight_optimum(value, price, budget).share * price
    plan = SpendPlan(bought.reshape(12, -1).sum(axis=1))
    value, price = day(1)
    optimum = hindsight_optimum(value, price, budget).value

    def share(pacer: DualPacer) -> float:
        return replay_paced(value, price, pacer, pacer.start(budget, len(value)), keep=False).value / optimum

    assert share(DualPacer(plan=plan)) > 0.99
    assert share(DualPacer()) < 0.98


def test_additive_pacing_takes_no_plan() -> None:
    with pytest.raises(ConfigError, match="evenly"):
        AdditivePacer(plan=SpendPlan(np.ones(2)))


@pytest.mark.parametrize("setting", [{"step": 0.0}, {"step": np.nan}, {"initial_multiplier": -1.0}])
def test_settings_out_of_range(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        DualPacer(**setting)


def test_a_strategy_spends_along_its_plan() -> None:
    """Prices are four times as high in the second half: an even spend buys there what is dear."""
    rng = np.random.default_rng(5)
    n = 20_000
    price = rng.lognormal(2, 0.5, n) * np.repeat([1.0, 4.0], n // 2)
    auctions = Auctions(price, rng.uniform(0.005, 0.02, (n, 1)), np.ones((n, 1)))
    budget = 0.05 * float(price.sum())
    plan = SpendPlan(np.array([0.95, 0.05]))
    even, planned = (simulate(auctions, [one], budget) for one in (DualBidding(), DualBidding(plan=plan)))
    half = planned.events["spend"][: n // 2].sum()
    assert half == pytest.approx(0.95 * budget, rel=0.05)
    assert planned.strategies[0].value > 1.1 * even.strategies[0].value


def test_ticks_in_which_nothing_can_be_learnt_change_neither_step_nor_multiplier() -> None:
    pacer = DualPacer(step=0.5, initial_multiplier=2.0)
    pace = pacer.start(100.0, 1000)
    for _ in range(30):
        pace = pacer.update(pace, np.zeros(20), 0.0)
    assert (pace.ticks, pace.multiplier, pace.auctions_left) == (0, 2.0, 400)
    # Half of the next tick is worth nothing: the step is that of ten auctions.
    after = pacer.update(pace, np.repeat([0.0, 1.0], 10), 10.0)
    assert after.multiplier == pytest.approx(2.0 * np.exp(0.5 * np.sqrt(0.5) * (10.0 / (100 / 400 * 20) - 1)))


def test_the_next_episode_begins_with_the_geometric_mean_of_the_second_half() -> None:
    pacer, rng = DualPacer(initial_multiplier=3.0), np.random.default_rng(1)
    pace, path = pacer.start(50.0, 400), []
    for _ in range(20):
        pace = pacer.update(pace, np.ones(20), float(rng.uniform(0, 5)))
        path.append(pace.multiplier)
    again = pacer.restart(pace, 25.0, 200)
    assert again.multiplier == pytest.approx(np.exp(np.mean(np.log(np.array(path[11:], np.float64)))))
    assert (again.remaining, again.auctions_left, again.ticks, again.flat) == (25.0, 200, 0, 0.125)
    # It counts for 50 ticks, so the first step is that of the 51st.
    moved = pacer.update(again, np.ones(20), 5.0)
    assert moved.multiplier == pytest.approx((again.multiplier or 0) * np.exp(1 / np.sqrt(51)))
    # Of another budget an auction it tells less, whichever of the two is the smaller.
    for budget in (25.0 * 3, 25.0 / 3):
        other = pacer.restart(pace, budget, 200)
        assert other.multiplier == again.multiplier
        assert other.prior == pytest.approx(1 / (1 / 50 + (0.2 * np.log(3)) ** 2))


def test_a_multiplier_of_a_history_counts_less_for_another_budget_an_auction() -> None:
    history = AuctionHistory(np.full(1000, 1.0), np.full(1000, 0.1), np.full(1000, 0.1))
    tuned = DualBidding().tuned(history, CampaignTerms(100.0), 500)
    assert [tuned.start(budget, 500).prior for budget in (100.0, 200.0, 50.0)] == pytest.approx(
        [50.0, *[1 / (1 / 50 + (0.2 * np.log(2)) ** 2)] * 2]
    )


def test_an_episode_that_taught_nothing_leaves_nothing() -> None:
    pacer = DualPacer()
    pace = pacer.update(pacer.start(50.0, 400), np.zeros(400), 0.0)
    assert pacer.restart(pace, 80.0, 200) == pacer.start(80.0, 200)


def test_what_an_episode_has_taught_is_worth_something_in_the_next(market: Callable[..., Auctions]) -> None:
    auctions = market(30_000, seed=6)
    budget = 0.05 * float(auctions.market_price.mean()) * 1000
    parts = [simulate(auctions[a : a + 1000], ["dual"], budget) for a in range(0, 30_000, 1000)]
    whole = simulate(auctions, ["dual"], budget, episode_length=1000)
    assert whole.strategies[0].value > 1.01 * sum(one.strategies[0].value for one in parts)


@pytest.mark.parametrize("value", [5e-324, 1e-160, 1e150])
@pytest.mark.parametrize("money", [5e-324, 1.0, 1e150])
def test_no_value_or_budget_takes_bids_or_multipliers_to_0_or_infinity(value: float, money: float) -> None:
    for pacer in (DualPacer(), AdditivePacer()):
        pace, values = pacer.start(money, 1000), np.array([value, 0.0, value / 3])
        for tick in range(40):
            bids = pacer.bid(pace, values)
            assert np.isfinite(bids).all()
            assert (bids >= 0).all()
            pace = pacer.update(pace, values, float(tick % 2) * 0.01 * money)
            assert pace.multiplier is None or 0 < pace.multiplier < np.inf
