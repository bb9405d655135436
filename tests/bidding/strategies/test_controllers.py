"""Strategies that steer their bids or their share of auctions by how the spend compares with a plan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ctrkit.bidding import Auctions, Slots, SpendPlan, TickResult, simulate
from ctrkit.bidding.strategies import PidBidding, ThrottlingBidding, TrafficPidBidding

RNG = np.random.default_rng(0)


def test_pid_is_its_discrete_form() -> None:
    strategy = PidBidding(proportional=0.4, integral=0.1, derivative=0.05, initial_multiplier=2.0)
    rng, state = np.random.default_rng(0), strategy.start(100.0, 1000)
    slots = Slots(np.full((10, 1), 0.5), np.ones((10, 1)))
    remaining, errors = 100.0, [0.0]
    for k in range(30):
        spend = float(rng.uniform(0, 2.5))
        errors.append(max(1 - spend / (remaining * 10 / (1000 - 10 * k)), -1.0))
        remaining -= spend
        bids = strategy.bid(state, slots, rng)
        paid = np.array([spend, *[0.0] * 9])
        state = strategy.update(state, TickResult(slots, bids, paid > 0, paid))
        signal = 0.4 * errors[-1] + 0.1 * sum(errors) + 0.05 * (errors[-1] - errors[-2])
        amount = strategy.bid(state, slots, rng).amount
        np.testing.assert_allclose(amount, 0.5 / 2.0 * np.exp(signal), rtol=1e-12)


@pytest.mark.parametrize("name", ["pid", "traffic-pid"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_pid_spends_evenly_and_well(name: str, share: float, market: Callable[..., Auctions]) -> None:
    auctions = market(50_000, seed=3)
    budget = share * float(auctions.market_price.sum())
    result = simulate(auctions, [name], budget)
    assert result.strategies[0].budget_used > 0.97
    assert (result.strategies[0].share_of_optimum or 0) > 0.92
    path = result.trajectory
    gap = path["spend"].to_numpy() / budget - path["auctions"].to_numpy() / 50_000
    assert np.abs(gap).max() < 0.1


def test_traffic_pid_spends_along_its_plan(market: Callable[..., Auctions]) -> None:
    auctions = market(50_000, seed=3)
    budget = 0.1 * float(auctions.market_price.sum())
    plan = np.array([1.0, 3.0, 2.0, 0.0, 4.0])
    path = simulate(auctions, [TrafficPidBidding(plan=SpendPlan(plan))], budget).trajectory
    reached = np.interp(np.arange(1, 6) * 10_000, path["auctions"], path["spend"]) / budget
    np.testing.assert_allclose(reached, np.cumsum(plan) / 10, atol=0.05)


def test_a_traffic_plan_is_worth_more_than_the_controller(market: Callable[..., Auctions]) -> None:
    """Values and prices are three times as high in the second half, as in a prime time."""
    base = market(40_000, seed=6)
    level = np.repeat([1.0, 3.0], 20_000)
    auctions = Auctions(base.market_price * level, base.click_probability, level[:, None])
    budget = 0.1 * float(auctions.market_price.sum())
    even, planned = (
        simulate(auctions, [TrafficPidBidding(plan=plan)], budget).strategies[0].share_of_optimum or 0.0
        for plan in (None, SpendPlan(np.array([1.0, 3.0])))
    )
    assert planned > even + 0.02


def test_throttling_moves_its_rate_by_tenths_and_leaves_bids_alone() -> None:
    strategy = ThrottlingBidding(value_per_click=100.0, initial_rate=0.5)
    slots = Slots(np.full((20_000, 1), 0.2), np.ones((20_000, 1)))
    state = strategy.start(100.0, 100_000)
    amount = strategy.bid(state, slots, np.random.default_rng(0)).amount
    assert set(amount.tolist()) == {0.0, 20.0}
    assert (amount > 0).mean() == pytest.approx(0.5, abs=0.02)
    bids, paid = strategy.bid(state, slots, RNG), np.zeros(20_000)
    rates, spends = [], (0.0, 50.0, 0.0, 20.0, 0.0)  # against 20, 40, 60, 80 and 100 by plan
    for spend in spends:
        paid[0] = spend
        state = strategy.update(state, TickResult(slots, bids, paid > 0, paid))
        rates.append(state.rate)
    np.testing.assert_allclose(rates, 0.5 * np.cumprod([1.1, 0.9, 1.1, 1.1, 1.1]))


def test_throttling_paces_evenly_and_buys_as_dear_as_ever(market: Callable[..., Auctions]) -> None:
    auctions = market(50_000, seed=3)
    budget = 0.05 * float(auctions.market_price.sum())
    result = simulate(auctions, ["throttling:value_per_click=10000", "dual"], budget)
    throttled, dual = result.strategies
    assert throttled.budget_used > 0.97
    assert throttled.value < 0.7 * dual.value
    path = result.trajectory.filter(strategy="throttling")
    assert np.abs(path["spend"] / budget - path["auctions"] / 50_000).max() < 0.06
