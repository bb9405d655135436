from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from ctrkit.bidding import AuctionRule, Auctions, CampaignTerms, Slots, TickResult, simulate
from ctrkit.bidding.landscapes import Gamma, LogLogistic, LogNormal, PriceBounds, SmoothLandscape
from ctrkit.bidding.strategies import AuctionHistory, Bids, DualBidding, ShadedBidding
from ctrkit.bidding.strategies.shaded import WINDOW, ShadedState, spending_multiplier
from ctrkit.errors import ConfigError

FIRST = AuctionRule("first")
AUCTIONS = 20_000
MARKETS = [LogNormal.of(30.0, 0.8), LogNormal.of(30.0, 0.3), LogLogistic.of(30.0, 0.4), Gamma.of(40.0, 2.0)]
# The slow suite takes those between the first and the last as well.
every_market = pytest.mark.parametrize(
    "landscape",
    [
        pytest.param(
            one,
            id=f"{one.name}-{one.log_shape:.1f}",
            marks=() if one in (MARKETS[0], MARKETS[-1]) else pytest.mark.slow,
        )
        for one in MARKETS
    ],
)


def best_bid(landscape: SmoothLandscape, worth: np.ndarray) -> np.ndarray:
    """argmax over b of (worth - b) F(b) in a market without prices of 0: bisection of log b."""
    low, high = np.log(worth) - 60.0, np.log(worth)
    for _ in range(80):
        middle = (low + high) / 2
        above = landscape.worth_of(np.exp(middle)) > worth
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.exp(low)


@cache
def market(landscape: SmoothLandscape, seed: int = 0, n: int = AUCTIONS) -> Auctions:
    """Stationary, with prices that tell nothing of the values."""
    rng = np.random.default_rng(seed)
    pctr = np.minimum(np.exp(-4.8 + 0.8 * rng.normal(size=n)), 1.0)
    return Auctions(landscape.sample(rng, n), pctr[:, None], np.ones((n, 1)))


def budget_of(auctions: Auctions, share: float = 0.1) -> float:
    return share * float(auctions.market_price.sum())


def bought(strategy: Any, auctions: Auctions, budget: float, **settings: Any) -> float:
    return simulate(auctions, [strategy], CampaignTerms(budget, rule=FIRST, **settings)).strategies[0].value


def oracle(landscape: SmoothLandscape, auctions: Auctions, budget: float) -> float:
    """What the best bids of one multiplier buy, by one who knows the landscape and all values; they may spend
    a little more or less than the budget, which is made good at the marginal value of money."""
    value = auctions.click_probability[:, 0]
    multiplier = spending_multiplier(landscape, value, budget / len(auctions))
    bid = best_bid(landscape, value / multiplier)
    won = bid >= auctions.market_price
    return float(value[won].sum() + multiplier * (budget - bid[won].sum()))


@every_market
def test_learns_to_buy_what_the_knowing_bidder_buys(landscape: SmoothLandscape) -> None:
    auctions = market(landscape)
    budget = budget_of(auctions)
    value = bought("shaded", auctions, budget)
    assert value >= 0.98 * oracle(landscape, auctions, budget)
    assert value >= 1.01 * bought("dual", auctions, budget)


@every_market
def test_the_spending_multiplier_is_the_best_one(landscape: SmoothLandscape) -> None:
    value = market(landscape).click_probability[:, 0]
    budget = 2.0

    def expected(multiplier: float) -> tuple[float, float]:
        bid = best_bid(landscape, value / multiplier)
        chance = landscape.win_probability(bid)
        return float((value * chance).mean()), float((bid * chance).mean())

    best = spending_multiplier(landscape, value, budget)
    most, spend = expected(best)
    assert spend == pytest.approx(budget, rel=0.002)  # found from quantiles
    # Of bids c·v^p that spend as much, none is expected to buy more.
    for power in (0.3, 0.6, 0.9, 1.2):
        scales = np.geomspace(1, 1e8, 4000)
        shape = value**power
        low, high = 0, len(scales) - 1
        while high - low > 1:
            middle = (low + high) // 2
            bid = scales[middle] * shape
            low, high = (
                (middle, high) if (bid * landscape.win_probability(bid)).mean() <= spend else (low, middle)
            )
        assert (value * landscape.win_probability(scales[low] * shape)).mean() <= most


def test_a_known_landscape_is_used_from_the_start() -> None:
    landscape = MARKETS[0]
    auctions = market(landscape, seed=1)
    budget = budget_of(auctions)
    value = auctions.click_probability[:, 0]
    multiplier = spending_multiplier(landscape, value, budget / AUCTIONS)
    knowing = ShadedBidding(initial_multiplier=multiplier, exploration=0.0, landscape=landscape)
    state = knowing.start(budget, AUCTIONS)
    bids = knowing.bid(state, auctions[:500].slots, np.random.default_rng(0)).amount
    np.testing.assert_allclose(bids, best_bid(landscape, value[:500] / multiplier), rtol=1e-5)
    assert bought(knowing, auctions, budget) >= 0.99 * oracle(landscape, auctions, budget)


def test_tuned_on_market_prices_it_starts_as_one_who_knows() -> None:
    landscape = MARKETS[0]
    past, auctions = market(landscape, seed=2), market(landscape, seed=3)
    budget = budget_of(auctions)
    tuned = ShadedBidding(exploration=0.0).tuned(
        AuctionHistory.from_auctions(past), CampaignTerms(budget, rule=FIRST), AUCTIONS
    )
    assert tuned.landscape is not None
    # Within four standard errors of the truth.
    assert tuned.landscape.location == pytest.approx(np.log(30.0), abs=4 * 0.8 / np.sqrt(AUCTIONS))
    assert isinstance(tuned.landscape, LogNormal)
    assert bought(tuned, auctions, budget) >= 0.99 * oracle(landscape, auctions, budget)


def test_its_fit_is_that_of_all_win_notices() -> None:
    """After the last fit, its bids are those of a landscape fitted to the events of the whole log."""
    auctions = market(MARKETS[2], seed=4, n=3000)
    budget, strategy = budget_of(auctions), ShadedBidding(exploration=0.5)
    slots, rng = auctions.slots, np.random.default_rng(0)
    state = strategy.start(budget, len(auctions))
    amounts, wins = [], []
    for first in range(0, 3000, 100):
        part = Slots(slots.click_probability[first : first + 100], slots.value_of_click[first : first + 100])
        bids = strategy.bid(state, part, rng)
        won = bids.amount >= auctions.market_price[first : first + 100]
        was = state.table
        result = TickResult(part, bids, won, np.where(won, bids.amount, 0.0))
        state = strategy.update(state, result)
        amounts.append(bids.amount)
        wins.append(won)
        if state.table is not None and state.table is not was:
            notices = PriceBounds.win_notice(np.concatenate(amounts), np.concatenate(wins).astype(float))
            fits = [family.fit(notices) for family in (LogNormal, LogLogistic)]
            direct = max(fits, key=lambda one: one.log_likelihood(notices))
            worth = np.geomspace(5.0, 200.0, 20)
            np.testing.assert_allclose(state.table.bid(worth), best_bid(direct, worth), rtol=0.01)
    assert state.table is not None


def test_where_winners_pay_less_than_they_bid_it_is_dual() -> None:
    auctions = market(MARKETS[0], seed=5)
    budget = budget_of(auctions)
    result = simulate(auctions, ["shaded", "dual"], budget)
    shaded, dual = (one.value for one in result.strategies)
    assert shaded == pytest.approx(dual, rel=0.005)
    bids = [result.events.filter(result.events["strategy"] == name) for name in ("shaded", "dual")]
    late = [frame["bid"].to_numpy()[1000:] * frame["multiplier"].to_numpy()[1000:] for frame in bids]
    value = auctions.click_probability[1000:, 0]
    for one in late:  # v/μ but for bids that the rest of the budget cut off
        assert np.isclose(one, value, rtol=1e-9).mean() > 0.99


@pytest.mark.parametrize("settings", [{"integer_bids": True}, {"max_bid": 45.0}], ids=str)
def test_shades_what_the_exchange_rounds_and_caps(settings: dict[str, Any]) -> None:
    auctions = market(MARKETS[0], seed=6)
    budget = budget_of(auctions)
    value = bought("shaded", auctions, budget, **settings)
    assert value >= 0.995 * bought("dual", auctions, budget, **settings)
    unlimited = 0.95 * oracle(MARKETS[0], auctions, budget)
    assert value >= unlimited


def test_values_that_are_all_equal_are_learnt_from_too() -> None:
    prices = market(MARKETS[0], seed=7).market_price
    auctions = Auctions(prices, np.full((AUCTIONS, 1), 0.01), np.ones((AUCTIONS, 1)))
    budget = budget_of(auctions)
    assert bought("shaded", auctions, budget) >= 0.97 * oracle(MARKETS[0], auctions, budget)


def test_no_explored_bid_is_above_what_a_win_is_worth() -> None:
    strategy = ShadedBidding(landscape=MARKETS[0], exploration=1.0)
    state = strategy.start(100.0, 1000)
    slots = market(MARKETS[0], seed=8, n=1000).slots
    bids = strategy.bid(state, slots, np.random.default_rng(0))
    plain = DualBidding().bid(state.pace, slots, np.random.default_rng(0))
    assert (bids.amount <= plain.amount).all()
    assert (bids.amount > 0).all()


def test_keeps_what_it_learnt_and_forgets_what_is_old() -> None:
    auctions = market(MARKETS[0], seed=9, n=70_000)
    strategy = ShadedBidding()
    budget = budget_of(auctions)
    state, rng = strategy.start(budget, len(auctions)), np.random.default_rng(0)
    for first in range(0, len(auctions), 500):
        now = auctions[first : first + 500]
        bids = strategy.bid(state, now.slots, rng)
        won = bids.amount >= now.market_price
        state = strategy.update(state, TickResult(now.slots, bids, won, np.where(won, bids.amount, 0.0)))
    assert sum(map(len, state.notices)) == WINDOW
    again = strategy.restart(state, 1.0, 10)
    assert again.table is state.table
    assert again.notices is state.notices
    assert (again.pace.remaining, again.pace.multiplier) == (1.0, state.pace.typical)


def test_units_of_money_and_value_do_not_matter() -> None:
    auctions = market(MARKETS[2], seed=10, n=3000)
    budget = budget_of(auctions)
    first = simulate(auctions, ["shaded"], CampaignTerms(budget, rule=FIRST)).events
    for money, value in ((8.0, 1.0), (1.0, 0.25), (2.0**-7, 2.0**5)):
        scaled = Auctions(
            auctions.market_price * money, auctions.click_probability, auctions.value_of_click * value
        )
        again = simulate(scaled, ["shaded"], CampaignTerms(budget * money, rule=FIRST)).events
        np.testing.assert_allclose(again["bid"], first["bid"] * money, rtol=1e-4)


def test_before_a_fit_a_share_of_bids_is_scaled_down_by_up_to_four() -> None:
    slots = market(MARKETS[0], seed=11, n=2000).slots

    def scale(strategy: ShadedBidding, first: int) -> np.ndarray:
        state = replace(strategy.start(1e6, 2000), seen=first)
        bids = strategy.bid(state, slots, np.random.default_rng(0))
        assert bids.multiplier is not None
        return bids.amount / (bids.value / bids.multiplier)

    np.testing.assert_allclose(scale(ShadedBidding(exploration=0.0), 0), 1.0)
    for share in (0.2, 1.0):
        scaled = scale(ShadedBidding(exploration=share), 0)
        down = scaled[scaled < 1 - 1e-12]
        assert len(down) / 2000 == pytest.approx(share, abs=0.005)
        # Even on the log scale from 1/4 to 1.
        even = np.histogram(np.log(down), bins=4, range=(np.log(0.25), 0.0))[0]
        np.testing.assert_allclose(even, len(down) / 4, rtol=0.03)
        # Later auctions go on where the earlier ones were.
        later = scale(ShadedBidding(exploration=share), 700)
        np.testing.assert_allclose(later[:1300], scaled[700:], rtol=1e-9)


def learnt(
    amount: list[float], won: list[bool], paid: list[float], minimum: list[float] | None = None
) -> ShadedState:
    """The state after one tick."""
    n, strategy = len(amount), ShadedBidding()
    slots = Slots(np.full((n, 1), 0.01), np.ones((n, 1)))
    bids = Bids(np.zeros(n, np.intp), np.array(amount), np.full(n, 0.01))
    result = TickResult(
        slots, bids, np.array(won), np.array(paid), None if minimum is None else np.array(minimum)
    )
    return strategy.update(strategy.start(1000.0, 100), result)


def check_bounds(state: ShadedState, low: list[float], high: list[float]) -> None:
    """Up to the rounding to 128 levels an octave."""
    np.testing.assert_allclose(state.notices[0].low, low, rtol=2 ** (0.5 / 128) - 1 + 1e-9)
    np.testing.assert_allclose(state.notices[0].high, high, rtol=2 ** (0.5 / 128) - 1 + 1e-9)


def test_takes_from_a_tick_what_it_tells_of_prices() -> None:
    inf = np.inf
    plain = learnt([3.5, 2.5, 7.5], [True, False, True], [3.5, 0.0, 7.5])
    assert plain.first_price
    check_bounds(plain, [-inf, 2.5, -inf], [3.5, inf, 7.5])
    rounded = learnt([3.5, 2.5, 7.5], [True, False, True], [3.0, 0.0, 7.0])
    assert rounded.first_price
    check_bounds(rounded, [-inf, 2.5, -inf], [3.0, inf, 7.0])
    # Bids cut off at 6.25: the lost one of 9 was no higher either.
    cut = learnt([3.5, 9.0, 7.5], [True, False, True], [3.5, 0.0, 6.25])
    assert cut.first_price
    check_bounds(cut, [-inf, 6.25, -inf], [3.5, inf, 6.25])
    second = learnt([3.5, 2.5, 7.5], [True, False, True], [1.25, 0.0, 2.75])
    assert not second.first_price
    assert second.notices == ()
    assert not plain.told


def test_takes_the_prices_that_the_exchange_tells_for_what_they_are() -> None:
    told = learnt([3.5, 2.5, 0.0], [True, False, False], [3.5, 0.0, 0.0], [1.25, 2.75, 0.0])
    assert told.told
    check_bounds(told, [1.25, 2.75, 0.0], [1.25, 2.75, 0.0])
    # Where it tells nothing, a bid of 0 that lost tells nothing either.
    some = learnt([3.5, 2.5, 0.0], [True, False, False], [3.5, 0.0, 0.0], [np.nan, 2.75, np.nan])
    assert not some.told
    check_bounds(some, [-np.inf, 2.75], [3.5, 2.75])


def first_fit(landscape: SmoothLandscape, seed: int, told: bool) -> tuple[int, float, float]:
    """Auctions until bids are first shaded, and how far from the best bids they then and at 3000 are, as the
    largest error of the log of a bid."""
    auctions, strategy = market(landscape, seed, 3000), ShadedBidding()
    state, rng = strategy.start(budget_of(auctions), 3000), np.random.default_rng(0)
    worth = np.geomspace(20.0, 100.0, 9)
    best, errors, first = best_bid(landscape, worth), [], 0
    for start in range(0, 3000, 50):
        now = auctions[start : start + 50]
        bids = strategy.bid(state, now.slots, rng)
        won = bids.amount >= now.market_price
        paid = np.where(won, bids.amount, 0.0)
        state = strategy.update(
            state, TickResult(now.slots, bids, won, paid, now.market_price if told else None)
        )
        if state.table is not None:
            first = first or start + 50
            errors.append(float(np.abs(np.log(state.table.bid(worth) / best)).max()))
    return first, errors[0], errors[-1]


@every_market
def test_prices_that_are_told_are_learnt_from_sooner_and_better(landscape: SmoothLandscape) -> None:
    alone, told = (np.array([first_fit(landscape, seed, t) for seed in range(2)]) for t in (False, True))
    assert (told[:, 0] == 100).all()
    assert (told[:, 0] <= alone[:, 0]).all()
    assert told[:, 2].mean() < 0.7 * alone[:, 2].mean()


@pytest.mark.slow
def test_prices_that_are_told_buy_more() -> None:
    """In short runs, of which learning takes a part, and where exploring is not free."""
    value = np.zeros(2)
    for seed in range(40, 43):
        auctions = market(MARKETS[0], seed, 2000)
        budget = budget_of(auctions)
        value += [bought("shaded", auctions, budget, tells_minimum_bid=told) for told in (False, True)]
    assert value[1] > 1.003 * value[0]


def test_a_share_of_bids_is_at_most_one() -> None:
    with pytest.raises(ConfigError, match=r"exploration is 1\.5 and must be at most 1"):
        ShadedBidding(exploration=1.5)
