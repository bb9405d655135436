"""Spend plans against sums over single auctions, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.bidding import Auctions, CampaignTerms, DualBidding, DualPacer, SpendPlan, simulate
from ctrkit.bidding.simulation.every_auction import replay_paced
from ctrkit.errors import ConfigError, DataError

HOUR = 3600.0
parts = st.lists(st.tuples(st.floats(0, 9), st.integers(0, 12)), min_size=1, max_size=8).filter(
    lambda rows: any(share > 1e-3 and traffic for share, traffic in rows)
)


def by_auction(rows: list[tuple[float, int]]) -> np.ndarray:
    """The part of the budget of each single auction: a part's share, split among its auctions."""
    each = [share / traffic for share, traffic in rows for _ in range(traffic)]
    return np.array(each) / sum(each)


@given(rows=parts)
def test_what_is_to_be_spent_is_the_sum_over_auctions(rows: list[tuple[float, int]]) -> None:
    each = by_auction(rows)
    plan = SpendPlan(*(np.array(column, float) for column in zip(*rows, strict=True)))
    gone = np.arange(len(each) + 1) / len(each)
    spent = np.append(0.0, np.cumsum(each))
    np.testing.assert_allclose([plan.spent(one) for one in gone], spent, rtol=1e-9, atol=1e-12)
    # Half an auction spends half.
    middle = (gone[1:] + gone[:-1]) / 2
    np.testing.assert_allclose([plan.spent(one) for one in middle], (spent[1:] + spent[:-1]) / 2, atol=1e-9)
    assert plan.share.sum() == pytest.approx(1)
    assert (plan.spent(0.0), plan.spent(1.0)) == (0.0, 1.0)


@given(rows=parts, n=st.integers(1, 9), start=st.integers(0, 90))
def test_what_is_left_over_what_comes_next(rows: list[tuple[float, int]], n: int, start: int) -> None:
    each = by_auction(rows)
    plan = SpendPlan(*(np.array(column, float) for column in zip(*rows, strict=True)))
    start = start % len(each)
    left, next_ = each[start:].sum(), each[start : start + n].sum()
    found = plan.left_over_next(start / len(each), (start + n) / len(each))
    if next_ > 1e-6:
        assert found == pytest.approx(left / next_, rel=1e-6)
    elif next_ == 0:
        assert found == np.inf
    assert found >= 1


@pytest.mark.parametrize("n", [1, 3, 8])
def test_whoever_spends_each_tick_as_planned_has_spent_all_in_the_end(n: int) -> None:
    rows = [(2.0, 5), (0.0, 4), (1.0, 3), (9.0, 0), (4.0, 12), (0.0, 7)]
    plan = SpendPlan(*(np.array(column, float) for column in zip(*rows, strict=True)))
    each, remaining = by_auction(rows), 1.0
    for start in range(0, 31, n):
        over = plan.left_over_next(start / 31, (start + n) / 31)
        tick = each[start : start + n].sum()
        assert remaining / over == pytest.approx(tick, abs=1e-12)
        remaining -= tick
    assert remaining == pytest.approx(0, abs=1e-12)


def test_a_plan_by_hour_has_spent_each_share_when_its_hour_is_over() -> None:
    rng = np.random.default_rng(0)
    share = rng.uniform(0, 1, 24)
    share[[3, 17]] = 0.0
    # Two days that begin at half past nine, with no auction from eleven to twelve.
    time = np.sort(1.6e9 // 86_400 * 86_400 + rng.uniform(9.5 * HOUR, 57.5 * HOUR, 5000))
    hour = (time // HOUR).astype(int)
    time, hour = time[hour % 24 != 11], hour[hour % 24 != 11]
    plan = SpendPlan.by_hour(share, time)
    seen = sorted(set(hour.tolist()))
    whole = sum(share[one % 24] for one in seen)
    for one in seen:
        gone, spent = (hour <= one).mean(), sum(share[k % 24] for k in seen if k <= one) / whole
        assert plan.spent(float(gone)) == pytest.approx(spent)
        # Within an hour evenly by auction.
        half = float((hour < one).mean() + (hour == one).mean() / 2)
        assert plan.spent(half) == pytest.approx(spent - share[one % 24] / whole / 2)


def test_hours_may_be_named() -> None:
    time = np.arange(24.0) * HOUR
    named, whole = SpendPlan.by_hour({5: 1.0, 6: 3.0}, time), np.zeros(24)
    whole[[5, 6]] = 1.0, 3.0
    np.testing.assert_array_equal(named.share, SpendPlan.by_hour(whole, time).share)
    assert [named.spent(hour / 24) for hour in (5, 6, 7)] == [0.0, 0.25, 1.0]


def test_spends_by_the_hour_in_a_market_of_uneven_traffic() -> None:
    rng, hour = np.random.default_rng(3), np.arange(24)
    traffic = np.round(2000 - 1000 * np.cos(hour / 24 * 2 * np.pi)).astype(int)
    share = 1.0 + 0.5 * np.sin(hour / 24 * 2 * np.pi)
    share[[4, 5]] = 0.0
    of_auction = np.repeat(hour, traffic)
    n = len(of_auction)
    time = np.sort(of_auction * HOUR + rng.uniform(0, HOUR, n))
    auctions = Auctions(
        rng.lognormal(3, 0.8, n), rng.uniform(0.005, 0.02, (n, 1)), np.ones((n, 1)), timestamp=time
    )
    budget = 0.1 * float(auctions.market_price.sum())
    strategy = DualBidding(plan=SpendPlan.by_hour(share, time))
    for tick in (1, 50):
        events = simulate(auctions, [strategy], CampaignTerms(budget), tick=tick).events
        spend = np.bincount(of_auction, events["spend"].to_numpy())
        np.testing.assert_allclose(np.cumsum(spend) / budget, np.cumsum(share) / share.sum(), atol=0.02)
        idle = events.filter(np.isin(of_auction, [4, 5]))[tick:]
        assert idle["multiplier"].null_count() >= len(idle) - tick
    # By ticks of one not a single bid is made where nothing is to be spent.
    alone = simulate(auctions, [strategy], CampaignTerms(budget), tick=1).events.filter(
        np.isin(of_auction, [4, 5])
    )
    assert alone["bid"].max() == 0


def test_as_soon_as_possible_is_all_at_once() -> None:
    plan = SpendPlan.asap()
    assert (plan.spent(0.0), plan.spent(1e-9), plan.spent(1.0)) == (0.0, 1.0, 1.0)
    assert plan.left_over_next(0.3, 0.4) == 1.0
    # The bids of the first tick may add up to all of the budget.
    pacer, value = DualPacer(plan=plan), np.random.default_rng(0).lognormal(0, 1, 50)
    assert pacer.bid(pacer.start(80.0, 1000), value).sum() == pytest.approx(80.0)


@pytest.mark.parametrize("tick", [1, 100])
def test_as_soon_as_possible_wins_all_until_the_money_is_gone(
    tick: int, market: Callable[..., Auctions]
) -> None:
    auctions = market(20_000, seed=2)
    budget = 0.1 * float(auctions.market_price.sum())
    events = simulate(auctions, [DualBidding(plan=SpendPlan.asap())], CampaignTerms(budget), tick=tick).events
    gone = int(np.argmax(events["spend"].cum_sum().to_numpy() > 0.99 * budget))
    # Whoever wins all from the first auction on has spent as much after a tenth of them.
    assert gone < 1.5 * int(np.argmax(np.cumsum(auctions.market_price) > 0.99 * budget))
    assert events["won"][tick:gone].mean() > 0.6


def test_as_soon_as_possible_raises_bids_until_all_is_won(market: Callable[..., Auctions]) -> None:
    """Where the budget does not bind, and the first bids are far too low."""
    auctions = market(5000, seed=2)
    price = auctions.market_price
    budget = 2.0 * float(price.sum())
    strategy = DualBidding(plan=SpendPlan.asap(), initial_multiplier=1.0)
    won = simulate(auctions, [strategy], CampaignTerms(budget), tick=20).events["won"][2500:]
    assert won.mean() > 0.999


def test_parts_of_uneven_traffic_cost_what_the_best_bidder_pays() -> None:
    """A plan of hours as they come buys as much as the same plan in equal parts."""
    rng, n = np.random.default_rng(4), 24_000
    value, price = rng.lognormal(-5, 0.6, n), rng.lognormal(3, 1, n)
    budget = 0.1 * float(price.sum())
    uneven = SpendPlan(np.array([1.0, 2.0, 3.0]), np.array([4000.0, 8000.0, 12_000.0]))
    equal = SpendPlan(np.ones(6))
    found = [
        replay_paced(value, price, DualPacer(plan=plan), DualPacer().start(budget, n))
        for plan in (uneven, equal)
    ]
    assert found[0].wins == found[1].wins
    assert found[0].value == pytest.approx(found[1].value)


@pytest.mark.parametrize(
    ("share", "traffic", "says"),
    [
        ([], None, "no part"),
        ([[1.0]], None, "shape"),
        ([1.0, 2.0], [1.0], "shape"),
        ([0.0, 0.0], None, "no part"),
        ([1.0, np.nan], None, "at least 0"),
        ([-1.0], None, "at least 0"),
        ([1.0], [np.inf], "at least 0"),
        ([1.0, 0.0], [0.0, 1.0], "that has auctions"),
    ],
)
def test_plans_that_are_none(share: list[Any], traffic: list[float] | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        SpendPlan(np.array(share), None if traffic is None else np.array(traffic))
    assert error.value.hint


@pytest.mark.parametrize(
    ("share", "says"),
    [
        ({24: 1.0}, "no hour 24"),
        ({"noon": 1.0}, "no hour noon"),
        ([1.0] * 7, "24 hours"),
        ([-1.0] + [1.0] * 23, "at least 0"),
        ({3: 1.0}, "that has auctions"),
    ],
)
def test_hours_that_are_none(share: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        SpendPlan.by_hour(share, np.arange(10.0))
    assert says in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize("time", [[0.0, 2.0, 1.0], [0.0, 1.0, np.nan], [0.0, 1.0, np.inf]])
def test_times_that_are_none(time: list[float]) -> None:
    with pytest.raises(DataError) as error:
        SpendPlan.by_hour(np.ones(24), time)
    assert error.value.row == 2


def test_a_plan_of_days_has_their_hours_and_the_traffic_of_all() -> None:
    """Two days of 24 hours: hour 9 has one auction and then three, hour 20 two and none."""
    day = 86_400
    timestamps = [9 * 3600, *[20 * 3600] * 2, *[day + 9 * 3600 + 60] * 3]
    plan = SpendPlan.of_day({9: 1.0, 20: 3.0, 3: 9.0}, timestamps)
    # Four auctions of six are in hour 9, which has a quarter of what hours with auctions share.
    assert plan.spent(4 / 6) == pytest.approx(0.25)
    assert plan.spent(1.0) == pytest.approx(1.0)
    assert plan.spent(5 / 6) == pytest.approx(0.625)
    with pytest.raises(ConfigError, match="no hour 24"):
        SpendPlan.of_day({24: 1.0}, timestamps)


def test_a_plan_of_days_goes_by_the_clock_of_each_day() -> None:
    """Half of the traffic of the first day comes late, and of the second early: by rank an hour would get
    what is another's."""
    rng = np.random.default_rng(7)
    even = rng.uniform(0, 24, (2, 10_000))
    late, early = (
        np.sort(np.r_[even[0], rng.uniform(14, 24, 6000)]),
        np.sort(np.r_[even[1], rng.uniform(0, 10, 6000)]),
    )
    time = np.concatenate([late, 24 + early]) * HOUR
    auctions = Auctions(rng.lognormal(3, 0.5, 32_000), rng.uniform(0.005, 0.02, (32_000, 1)),
        np.ones((32_000, 1)), timestamp=time)  # fmt: skip
    share = np.zeros(24)
    share[[4, 12, 20]] = 0.3, 0.2, 0.5
    budget = 0.005 * float(auctions.market_price.sum())
    strategy = DualBidding(plan=SpendPlan.of_day(share, time))
    for tick in (1, 20):
        events = simulate(
            auctions, [strategy], CampaignTerms(budget), episode_length=16_000, tick=tick
        ).events
        spend, hour = events["spend"].to_numpy(), (time // HOUR).astype(int)
        for first in (0, 24):
            found = np.array([spend[hour == first + h].sum() for h in (4, 12, 20)])
            np.testing.assert_allclose(found / budget, [0.3, 0.2, 0.5], atol=0.08)
        assert spend[~np.isin(hour % 24, [4, 12, 20])].max() == 0


def test_a_day_that_begins_late_has_all_its_money_for_what_is_left_of_it() -> None:
    share = np.ones(24)
    plan = SpendPlan.of_day(share, np.arange(0.0, 48.0, 0.25) * HOUR)
    # From 18:00 on four auctions an hour are left, 24 in all.
    time = np.arange(18.0, 24.0, 0.25) * HOUR
    np.testing.assert_allclose(plan.given(0, 4, 96, time[:4]), np.full(4, 1 / 24))
    np.testing.assert_allclose(plan.given(23, 1, 96, time[-1:]), [1.0])
    # By how many are over, the day would be young.
    np.testing.assert_allclose(plan.given(0, 4, 96), np.full(4, 1 / 96))


def test_a_plan_of_a_few_hours_spends_all_in_them() -> None:
    """Four hours of a day, late in it: steps are as long as if the day began there."""
    rng, n = np.random.default_rng(8), 24_000
    time = np.sort(rng.uniform(0, 24 * HOUR, n))
    auctions = Auctions(rng.lognormal(3, 0.8, n), rng.uniform(0.005, 0.02, (n, 1)), np.ones((n, 1)),
        timestamp=time)  # fmt: skip
    budget = 0.3 * float(auctions.market_price[time >= 20 * HOUR].sum())
    plan = SpendPlan.of_day(dict.fromkeys(range(20, 24), 1.0), time)
    for tick in (1, None):
        (found,) = simulate(auctions, [DualBidding(plan=plan)], CampaignTerms(budget), tick=tick).strategies
        assert 0.97 < (found.budget_used or 0) <= 1
