from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ctrkit.bidding import AuctionRule, Auctions, CampaignTerms, DualBidding, DualPacer, simulate
from ctrkit.bidding.market.clearing import clear
from ctrkit.bidding.pacing.dual import AdditivePacer, Pace
from ctrkit.bidding.pacing.spend_plan import SpendPlan
from ctrkit.bidding.simulation.every_auction import replay_paced
from ctrkit.errors import ConfigError
from ctrkit.settings import checked

Floats = NDArray[np.float64]


def plan(share: list[float], traffic: list[float] | None = None) -> SpendPlan:
    return SpendPlan(np.array(share), None if traffic is None else np.array(traffic))


def one_by_one(
    value: Floats, price: Floats, pacer: DualPacer, pace: Pace, budget: float, max_bid: float, integer: bool,
    rule: AuctionRule,
) -> tuple[Pace, Floats, NDArray[np.bool_], Floats, Floats]:  # fmt: skip
    """`DualPacer` and `clear`, each called for every auction: pace, bids, wins, payments, multipliers."""
    spent, bids, won, paid, multipliers = 0.0, [], [], [], []
    for i in range(len(value)):
        now = value[i : i + 1]
        multiplier = pacer.multiplier(pace, now)
        cleared = clear(pacer.bid(pace, now), price[i : i + 1], budget, spent, max_bid, integer, rule)
        pace, spent = pacer.update(pace, now, float(cleared.paid[0])), cleared.spent
        bids.append(cleared.bid[0])
        won.append(cleared.won[0])
        paid.append(cleared.paid[0])
        multipliers.append(np.nan if multiplier is None else multiplier)
    return pace, np.array(bids), np.array(won, np.bool_), np.array(paid), np.array(multipliers)


def same_pace(found: Pace, expected: Pace) -> None:
    assert (found.auctions_left, found.ticks) == (expected.auctions_left, expected.ticks)
    for name in ("remaining", "multiplier", "first", "flat", "auctions"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        assert other is None or one == pytest.approx(other, rel=1e-9), name


@given(
    n=st.integers(1, 300),
    seed=st.integers(0, 10_000),
    free=st.sampled_from([0.0, 0.2]),
    worthless=st.sampled_from([0.0, 0.3, 1.0]),
    # No whole numbers: where the planned bid is one, rounding decides what it is rounded down to.
    budget=st.sampled_from([0.7, 30.3, 1000.7, 1e6 + 0.3]),
    expected=st.sampled_from([0.5, 1.0, 3.0]),
    pacer=st.builds(
        DualPacer,
        st.sampled_from([0.01, 0.3, 1.0, 5.0]),
        st.sampled_from([None, 1e-5, 1e-3, 0.1]),
        st.sampled_from([
            None, SpendPlan.asap(), plan([1.0]), plan([1.0, 5.0, 0.2]),
            plan([3.0, 1.0, 1.0, 1.0, 2.0, 7.0, 0.5]), plan([0.0, 1.0, 0.0, 0.0, 2.0, 0.0]),
            plan([2.0, 1.0, 5.0], [1.0, 7.0, 3.0]),
            plan([1.0, 0.0, 3.0, 0.0, 1.0], [2.0, 1.0, 0.0, 9.0, 0.5]),
        ]),
    ),
    rule=st.sampled_from([
        AuctionRule(), AuctionRule(wins_ties=False), AuctionRule("first"), AuctionRule("first", 5.0),
        AuctionRule("second", 5.0), AuctionRule("second", 5.0, 40.0),
    ]),
    max_bid=st.sampled_from([np.inf, 37.0]),
    integer=st.booleans(),
    cuts=st.lists(st.integers(0, 300), max_size=3),
)  # fmt: skip
def test_equals_the_pacer_and_the_clearing_called_for_every_auction(
    n: int, seed: int, free: float, worthless: float, budget: float, expected: float, pacer: DualPacer,
    rule: AuctionRule, max_bid: float, integer: bool, cuts: list[int],
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    quality = rng.normal(0, 0.6, n)
    value = np.exp(quality - 4.8) * (rng.random(n) >= worthless)
    price = np.exp(rng.normal(3.5, 1.0, n) + 0.5 * quality) * (rng.random(n) >= free)
    start = pacer.start(budget, max(int(expected * n), 1))
    pace, bid, won, paid, multiplier = one_by_one(value, price, pacer, start, budget, max_bid, integer, rule)

    edges = [0, *sorted(cut for cut in cuts if cut <= n), n]
    now, spent, found = start, 0.0, []
    for a, b in pairwise(edges):
        one = replay_paced(
            value[a:b], price[a:b], pacer, now,
            budget=budget, spent=spent, max_bid=max_bid, integer_bids=integer, rule=rule,
        )  # fmt: skip
        assert one.cleared is not None
        now, spent = one.pace, one.cleared.spent
        found.append(one)
    cleared = [one.cleared for one in found if one.cleared is not None]
    assert spent <= budget
    assert sum(one.spend for one in found) == pytest.approx(spent)
    # Of a bid of all that is left rounding decides whether it can be paid; and once all is spent, what
    # rounding left of the budget decides over what is next to free.
    left = budget - np.cumsum(paid) + paid
    over = bid >= left * (1 - 1e-9)
    end = int(np.argmax(over)) if over.any() else n
    np.testing.assert_array_equal(np.concatenate([one.won for one in cleared])[:end], won[:end])
    np.testing.assert_allclose(np.concatenate([one.bid for one in cleared])[:end], bid[:end], rtol=1e-9)
    np.testing.assert_allclose(np.concatenate([one.paid for one in cleared])[:end], paid[:end], rtol=1e-9)
    multipliers = np.concatenate([one.multiplier for one in found if one.multiplier is not None])
    np.testing.assert_allclose(multipliers[:end], multiplier[:end], rtol=1e-9)
    if not over.any():
        assert spent == pytest.approx(paid.sum(), rel=1e-9)
        same_pace(now, pace)
        assert sum(one.wins for one in found) == won.sum()
        assert sum(one.value for one in found) == pytest.approx(value[won].sum())


def test_without_what_happened_the_sums_are_the_same() -> None:
    rng = np.random.default_rng(0)
    value, price, pacer = rng.lognormal(-5, 1, 5000), rng.lognormal(3, 1, 5000), DualPacer()
    start = pacer.start(4000.0, 5000)
    kept, sums = (replay_paced(value, price, pacer, start, keep=keep) for keep in (True, False))
    assert (kept.pace, kept.wins, kept.value, kept.spend) == (sums.pace, sums.wins, sums.value, sums.spend)
    assert sums.cleared is None
    assert 100 < sums.wins < 5000
    assert 3900 < sums.spend <= 4000


@checked
class TickByTick(DualBidding):
    """Dual pacing of another type, which the simulator plays tick by tick."""

    name = "dual"


@pytest.mark.parametrize(
    ("given", "length", "spend"),
    [
        ({}, 900, None),
        ({"max_bid": 40.0, "integer_bids": True}, 350, None),
        ({"rule": AuctionRule("first", 3.0)}, 900, plan([1.0, 4.0], [5.0, 6.0])),
        ({"rule": AuctionRule("second", 3.0, 30.0)}, 800, None),
        ({}, 350, plan([1.0, 0.0, 2.0], [50.0, 125.0, 175.0])),
        ({}, 900, SpendPlan.asap()),
    ],
)
@pytest.mark.parametrize("share", [0.02, 5.0])
def test_the_simulator_finds_the_same_as_tick_by_tick(
    market: Callable[..., Auctions], given: dict[str, Any], length: int, spend: SpendPlan | None, share: float
) -> None:
    auctions = market(900, seed=1)
    auctions.click_probability[100:120] = 0.0
    budget = share * float(auctions.market_price.mean()) * length
    quick, slow = (
        simulate(auctions, [one], CampaignTerms(budget, **given), episode_length=length, tick=1)
        for one in (DualBidding(plan=spend), TickByTick(plan=spend))
    )
    for found, expected in ((quick.events, slow.events), (quick.trajectory, slow.trajectory)):
        assert found.schema == expected.schema
        for column in expected.columns:
            if expected[column].dtype.is_float():
                np.testing.assert_allclose(found[column].to_numpy(), expected[column].to_numpy(), rtol=1e-9)
            else:
                assert found[column].equals(expected[column]), column
    assert quick.strategies[0].wins == slow.strategies[0].wins > 0
    assert quick.strategies[0].clicks == slow.strategies[0].clicks
    assert quick.strategies[0].spend == pytest.approx(slow.strategies[0].spend, rel=1e-9)


def test_the_simulator_does_the_same_for_any_chunks(market: Callable[..., Auctions]) -> None:
    auctions = market(4500)
    budget = 0.05 * float(auctions.market_price.sum())
    parts = [auctions[a:b] for a, b in pairwise([0, 1, 1700, 4099, 4500])]
    whole, cut = (simulate(one, ["dual", "linear"], budget, tick=1) for one in (auctions, parts))
    assert whole.events.equals(cut.events)
    assert whole.trajectory.equals(cut.trajectory)


def test_another_rule_of_pacing_is_not_taken_for_this_one() -> None:
    pacer = AdditivePacer()
    with pytest.raises(ConfigError, match="AdditivePacer"):
        replay_paced(np.ones(1), np.ones(1), pacer, pacer.start(1.0, 1))
