"""Several agents in one market, against a plain loop and against each alone with what it met."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.bidding.market.clearing import Cleared, Floats, clear
from ctrkit.bidding.market.competition import clear_together
from ctrkit.bidding.market.rules import AuctionRule
from ctrkit.errors import ConfigError

# Quarters are exact in floating point; few of them, so that many bids tie.
quarters = st.integers(0, 24).map(lambda q: q / 4)
rules = st.builds(
    lambda price, hard, more, ties: AuctionRule(price, hard, hard + more if more else 0.0, ties),
    st.sampled_from(["second", "first", "gsp"]),
    st.sampled_from([0.0, 1.5]),
    st.sampled_from([0.0, 1.25, 20.0]),
    st.booleans(),
)


@st.composite
def markets(draw: st.DrawFn, most: int = 4) -> tuple[Floats, Floats, Floats, Floats]:
    """Amounts [A, n], market prices [n], budgets [A], largest bids [A]."""
    agents, n = draw(st.integers(1, most)), draw(st.integers(1, 25))
    cells = draw(st.lists(quarters, min_size=(agents + 1) * n, max_size=(agents + 1) * n))
    table = np.array(cells).reshape(agents + 1, n)
    budgets = draw(st.lists(quarters.map(lambda q: 5 * q), min_size=agents, max_size=agents))
    largest = draw(st.lists(st.one_of(st.just(np.inf), quarters), min_size=agents, max_size=agents))
    return table[1:], table[0], np.array(budgets), np.array(largest)


def one_by_one(
    amounts: Floats,
    price: Floats,
    budgets: Floats,
    max_bid: Floats,
    integer: bool,
    rule: AuctionRule,
    first: int,
) -> list[list[tuple[float, bool, float, float]]]:
    """Of each auction and agent: bid, won, paid, met. All bidders sorted, as it reads."""
    left, sales = budgets.tolist(), []
    for i, outside in enumerate(price.tolist()):
        bids = [min(a, cap, rest) for a, cap, rest in zip(amounts[:, i].tolist(), max_bid, left, strict=True)]
        bids = [float(np.floor(bid)) for bid in bids] if integer else bids
        met = [max([outside, *bids[:a], *bids[a + 1 :]]) for a in range(len(bids))]
        best = [a for a, bid in enumerate(bids) if bid == max(bids)]
        winner = best[(first + i) % len(best)]
        top = bids[winner]
        sold = top > 0 and top >= rule.hard_floor and (top >= outside if rule.wins_ties else top > outside)
        cost = max(met[winner], rule.hard_floor, rule.soft_floor)
        if rule.price == "first" or top < rule.soft_floor:
            cost = top
        won = [sold and a == winner for a in range(len(bids))]
        paid = [cost if w else 0.0 for w in won]
        left = [rest - p for rest, p in zip(left, paid, strict=True)]
        sales.append(list(zip(bids, won, paid, met, strict=True)))
    return sales


@given(market=markets(), integer=st.booleans(), rule=rules, first=st.integers(0, 1000))
def test_equals_a_loop_over_auctions(
    market: tuple[Floats, Floats, Floats, Floats], integer: bool, rule: AuctionRule, first: int
) -> None:
    amounts, price, budgets, largest = market
    found = clear_together(amounts, price, budgets, 0.0, largest, integer, rule, first=first)
    expected = np.array(one_by_one(amounts, price, budgets, largest, integer, rule, first), np.float64)
    for agent, cleared in enumerate(found.cleared):
        bid, won, paid, met = expected[:, agent].T
        np.testing.assert_array_equal(cleared.bid, bid)
        np.testing.assert_array_equal(cleared.won, won.astype(bool))
        np.testing.assert_array_equal(cleared.paid, paid)
        np.testing.assert_array_equal(found.met[agent], met)
        assert cleared.spent == paid.sum() <= budgets[agent]
        assert cleared.slot is None


def same(found: Cleared, expected: Cleared) -> None:
    np.testing.assert_array_equal(found.bid, expected.bid)
    np.testing.assert_array_equal(found.won, expected.won)
    np.testing.assert_array_equal(found.paid, expected.paid)
    assert found.spent == expected.spent


@given(
    n=st.integers(1, 60),
    seed=st.integers(0, 1000),
    budget=st.floats(0.01, 200),
    spent=st.floats(0, 1),
    max_bid=st.one_of(st.just(np.inf), st.floats(0, 20)),
    integer=st.booleans(),
    rule=rules,
)
def test_one_agent_is_cleared_as_if_alone(
    n: int, seed: int, budget: float, spent: float, max_bid: float, integer: bool, rule: AuctionRule
) -> None:
    rng = np.random.default_rng(seed)
    amount, price = rng.lognormal(1, 1, n), rng.lognormal(1, 1, n)
    price[rng.random(n) < 0.2] = 0.0
    before = spent * budget
    found = clear_together(amount[None], price, budget, before, max_bid, integer, rule)
    same(found.cleared[0], clear(amount, price, budget, before, max_bid, integer, rule))
    np.testing.assert_array_equal(found.met, [price])


@given(
    agents=st.integers(2, 5),
    seed=st.integers(0, 1000),
    part=st.sampled_from([0.01, 0.1, 3.0]),
    rule=rules,
)
def test_each_is_cleared_as_if_alone_against_what_it_met(
    agents: int, seed: int, part: float, rule: AuctionRule
) -> None:
    rng = np.random.default_rng(seed)
    amounts, price = rng.lognormal(1, 1, (agents, 50)), rng.lognormal(1, 1, 50)
    budgets = part * rng.random(agents) * price.sum()
    found = clear_together(amounts, price, budgets, 0.0, rule=rule)
    wins = np.sum([cleared.won for cleared in found.cleared], axis=0)
    assert wins.max() <= 1
    for amount, budget, cleared, met in zip(amounts, budgets, found.cleared, found.met, strict=True):
        assert (met >= price).all()
        assert cleared.spent <= budget
        same(cleared, clear(amount, met, budget, 0.0, rule=rule))


@pytest.mark.parametrize("cut", [1, 3, 8])
def test_chunks_give_what_the_whole_gives(cut: int) -> None:
    rng = np.random.default_rng(2)
    amounts, price = rng.integers(0, 4, (3, 20)) / 1.0, rng.integers(0, 3, 20) / 1.0
    budgets = np.array([12.0, 9.0, 30.0])
    whole = clear_together(amounts, price, budgets, 0.0)
    spent, won = np.zeros(3), []
    for start in range(0, 20, cut):
        rows = slice(start, start + cut)
        part = clear_together(amounts[:, rows], price[rows], budgets, spent, first=start)
        spent = np.array([cleared.spent for cleared in part.cleared])
        won.append([cleared.won for cleared in part.cleared])
    np.testing.assert_array_equal(np.concatenate(won, axis=1), [cleared.won for cleared in whole.cleared])
    assert spent.tolist() == [cleared.spent for cleared in whole.cleared]


def test_ties_are_shared_equally_among_those_who_tie() -> None:
    amounts = np.array([[2.0], [1.0], [2.0], [2.0]]).repeat(12, axis=1)
    found = clear_together(amounts, np.ones(12), 100.0, 0.0)
    assert [int(cleared.won.sum()) for cleared in found.cleared] == [4, 0, 4, 4]
    assert [cleared.spent for cleared in found.cleared] == [8.0, 0.0, 8.0, 8.0]  # each pays the other's bid


def test_a_poorer_agent_gives_way_when_its_money_is_gone() -> None:
    found = clear_together(np.array([[5.0] * 4, [4.0] * 4]), np.ones(4), [9.0, 100.0], 0.0)
    assert found.cleared[0].bid.tolist() == [5.0, 5.0, 1.0, 1.0]
    assert found.cleared[0].won.tolist() == [True, True, False, False]
    assert found.cleared[1].won.tolist() == [False, False, True, True]
    assert found.cleared[1].paid.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert found.met.tolist() == [[4.0] * 4, [5.0, 5.0, 1.0, 1.0]]


def test_what_rounding_would_put_above_the_budget_goes_to_the_outside() -> None:
    rule = AuctionRule("first")
    found = clear_together(np.array([[0.3, 9.0], [0.1, 0.1]]), np.full(2, 0.1), [0.9, 9.0], 0.0, rule=rule)
    assert [cleared.won.tolist() for cleared in found.cleared] == [[True, False], [False, False]]
    assert [cleared.spent for cleared in found.cleared] == [0.3, 0.0]


def test_several_slots_are_refused_and_budgets_must_fit_the_agents() -> None:
    rule = AuctionRule("gsp", slot_effects=(1.0, 0.5))
    with pytest.raises(ConfigError, match="one slot per page, but the rule has 2"):
        clear_together(np.ones((2, 1)), np.ones(1), 1.0, 0.0, rule=rule)
    clear_together(np.ones((2, 1)), np.ones(1), 1.0, 0.0, rule=replace(rule, slot_effects=(1.0,)))
    with pytest.raises(ValueError, match="broadcast"):
        clear_together(np.ones((2, 1)), np.ones(1), [1.0, 1.0, 1.0], 0.0)
