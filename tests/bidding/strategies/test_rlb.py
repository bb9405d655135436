from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np
import pytest

from ctrkit.bidding import Auctions, CampaignTerms, Slots, simulate
from ctrkit.bidding.strategies import AuctionHistory, RlbBidding, SsMdpBidding, TickResult
from ctrkit.bidding.strategies.rlb import ValueTable, price_chances

RNG = np.random.default_rng(0)


def history(prices: list[float], value: float = 1.0) -> AuctionHistory:
    price = np.array(prices, np.float64)
    return AuctionHistory(price, np.full(len(price), 0.1), np.full(len(price), value))


def test_the_table_is_that_of_the_best_bids_by_enumeration() -> None:
    past = history([0, 1, 1, 2, 3, 3, 3, 5], value=0.7)
    table = ValueTable.solve(past, budget=9.0, auctions=5, unit=1.0, highest=5.0)
    chance = price_chances(past, 1.0, 5)
    assert chance[0] == pytest.approx(2 / 14)

    @cache
    def best(auctions: int, money: int) -> float:
        """Over every bid, the expected value of the auction and of what comes after it."""
        if not auctions:
            return 0.0
        if not money:  # one of the eight auctions was free
            return auctions * 0.7 / 8
        later = best(auctions - 1, money)
        return max(
            later
            + sum(chance[z] * (0.7 + best(auctions - 1, money - z) - later) for z in range(min(bid, 5) + 1))
            for bid in range(money + 1)
        )

    expected = [[best(t, b) for b in range(10)] for t in range(6)]
    np.testing.assert_allclose(table.value, expected, rtol=1e-12)


def test_its_bids_are_the_best_of_all_plans_by_enumeration() -> None:
    """Every plan of fixed answers to (auctions left, money left) is played out; none brings more."""
    past = history([1, 2, 2, 3] * 5000, value=1.0)
    table = ValueTable.solve(past, budget=3.0, auctions=2, unit=1.0, highest=3.0)
    chance = np.array([0.0, 0.25, 0.5, 0.25])
    values = (0.2, 0.9, 1.9)  # the impression's own, equally likely and 1 on average

    def last(money: int) -> float:
        """The last auction takes all that it can pay."""
        return float(chance[: money + 1].sum())

    def brought(plan: tuple[int, ...]) -> float:
        total = 0.0
        for value, bid in zip(values, plan, strict=True):
            won = sum(chance[z] * (value + last(3 - z)) for z in range(bid + 1))
            total += won + (1.0 - chance[: bid + 1].sum()) * last(3)
        return total / 3

    best = max(product(range(4), repeat=3), key=brought)
    bids = table.bids(np.array([1.0]).repeat(3), 3.0, np.array(values))
    assert brought(tuple(int(bid) for bid in bids)) == pytest.approx(brought(best), abs=1e-12)
    assert bids.tolist() == [0.0, 2.0, 3.0]


def test_the_value_of_money_and_time_rises_and_that_of_more_money_falls() -> None:
    rng = np.random.default_rng(1)
    past = history(list(np.ceil(rng.lognormal(2, 1, 5000))))
    value = ValueTable.solve(past, 500.0, 200, 1.0, 60.0).value
    assert value.shape == (201, 501)
    assert (np.diff(value, axis=0) >= 0).all()
    assert (np.diff(value, axis=1) >= -1e-12).all()
    assert (np.diff(value[:, 1:], 2, axis=1) <= 1e-9)[150:, 100:].all()


def test_prices_that_were_never_seen_are_made_up_for_by_lost_bids() -> None:
    rng = np.random.default_rng(2)
    price, bid = rng.integers(1, 30, 200_000).astype(float), rng.integers(1, 40, 200_000).astype(float)
    won = bid >= price
    censored = AuctionHistory(np.where(won, price, bid), np.ones(len(bid)), np.ones(len(bid)), won)
    full = price_chances(history(list(price)), 1.0, 30)
    np.testing.assert_allclose(price_chances(censored, 1.0, 30), full, atol=0.002)
    # By won prices alone, which are the cheap ones, they would come out wrong.
    naive = price_chances(history(list(price[won])), 1.0, 30)
    assert np.abs(naive - full).max() > 0.01


def test_prices_between_two_steps_are_won_at_the_upper() -> None:
    chance = price_chances(history([0.1, 0.25, 0.26] * 10_000), unit=0.25, levels=3)
    np.testing.assert_allclose(chance, [0, 2 / 3, 1 / 3, 0], atol=1e-4)


def test_a_long_episode_is_bid_on_as_a_shorter_one_with_as_much_money_an_auction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(3)
    past = history(list(np.ceil(rng.lognormal(2, 1, 5000))))
    exact = ValueTable.solve(past, 1000.0, 800, 1.0, 60.0)
    monkeypatch.setattr("ctrkit.bidding.strategies.rlb._MOST_CELLS", 200_000)
    coarse = ValueTable.solve(past, 1000.0, 800, 1.0, 60.0)
    assert coarse.value.size < 210_000 < exact.value.size
    value = rng.lognormal(0, 0.5, 100)
    left = np.full(100, 600.0)
    for money in (200.0, 600.0, 900.0):
        near = coarse.bids(left, money, value)
        np.testing.assert_allclose(near, exact.bids(left, money, value), atol=1, rtol=0.12)


def test_within_a_tick_time_runs_on() -> None:
    strategy = RlbBidding(unit=1.0, highest_bid=20.0, history=history([1, 2, 4, 8, 16] * 50))
    state = strategy.start(40.0, 10)
    slots = Slots(np.full((10, 1), 1.0), np.ones((10, 1)))
    together = strategy.bid(state, slots, RNG)
    lost = np.zeros(1, np.bool_)
    for k in range(10):
        one = Slots(slots.click_probability[:1], slots.value_of_click[:1])
        alone = strategy.bid(state, one, RNG)
        assert alone.amount[0] == together.amount[k]
        state = strategy.update(state, TickResult(one, alone, lost, np.zeros(1)))
    assert (np.diff(together.amount) >= 0).all()
    assert together.amount[-1] == 20.0


def test_ss_mdp_bids_alike_for_all_impressions() -> None:
    past = history([1, 2, 4, 8, 16] * 50, value=0.1)
    slots = Slots(np.array([[0.01], [0.1], [0.5]]), np.ones((3, 1)))
    settings = {"unit": 1.0, "highest_bid": 20.0, "history": past}
    own, mean = RlbBidding(**settings), SsMdpBidding(**settings)
    start = own.start(400.0, 100)
    assert (np.diff(own.bid(start, slots, RNG).amount) > 0).all()
    equal = mean.bid(mean.start(400.0, 100), slots, RNG).amount
    assert equal.min() == equal.max() == own.bid(start, slots, RNG).amount[1]


def test_is_near_the_optimum_of_an_identically_distributed_market(market: Callable[..., Auctions]) -> None:
    past, now = market(20_000, seed=5), market(10_000, seed=6)
    budget = 0.1 * float(now.market_price.sum())
    known = RlbBidding().tuned(AuctionHistory.from_auctions(past), CampaignTerms(budget), len(now))
    for strategy, least in ((known, 0.97), (RlbBidding(), 0.94)):
        share = simulate(now, [strategy], budget).strategies[0].share_of_optimum or 0.0
        assert least < share <= 1.0
