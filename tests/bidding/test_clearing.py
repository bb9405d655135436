from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.bidding.clearing import Cleared, Floats, clear
from ctrkit.bidding.rules import PRICES, AuctionRule
from ctrkit.errors import ConfigError

# Compiled before hypothesis looks at the clock.
clear(np.ones(1), np.ones(1), 1.0, 0.0)


def one_by_one(
    amount: Floats,
    price: Floats,
    budget: float,
    spent: float,
    max_bid: float,
    integer: bool,
    rule: AuctionRule,
) -> Cleared:
    """The rule as it reads: a plain loop over auctions."""
    bids, won, paid = [], [], []
    for a, z in zip(amount.tolist(), price.tolist(), strict=True):
        bid = min(a, max_bid, budget - spent)
        bid = float(np.floor(bid)) if integer else bid
        beats = bid >= z if rule.wins_ties else bid > z
        wins = beats and bid >= rule.hard_floor
        second = max(z, rule.hard_floor, rule.soft_floor)
        cost = bid if rule.price == "first" or bid < rule.soft_floor else second
        bids.append(bid)
        won.append(wins)
        paid.append(cost if wins else 0.0)
        spent += paid[-1]
    return Cleared(np.array(bids), np.array(won, np.bool_), np.array(paid), spent)


# Multiples of 1/4 are exact in floating point, so that the two ways can be compared to the last bit.
quarters = st.integers(0, 200).map(lambda q: q / 4)
rules = st.builds(
    lambda price, hard, more, ties: AuctionRule(price, hard, hard + more if more else 0.0, ties),
    st.sampled_from(PRICES),
    st.sampled_from([0.0, 2.5, 10.0]),
    st.sampled_from([0.0, 1.25, 20.0]),
    st.booleans(),
)


@given(
    auctions=st.lists(st.tuples(quarters, quarters), min_size=1, max_size=60),
    budget=quarters,
    spent_share=st.sampled_from([0.0, 0.5, 1.0]),
    max_bid=st.one_of(st.just(np.inf), quarters),
    integer=st.booleans(),
    rule=rules,
)
def test_equals_a_loop_over_auctions(
    auctions: list[tuple[float, float]],
    budget: float,
    spent_share: float,
    max_bid: float,
    integer: bool,
    rule: AuctionRule,
) -> None:
    amount, price = np.array(auctions).T
    spent = np.floor(budget * spent_share * 4) / 4
    expected = one_by_one(amount, price, budget, spent, max_bid, integer, rule)
    found = clear(amount, price, budget, spent, max_bid, integer, rule)
    np.testing.assert_array_equal(found.won, expected.won)
    np.testing.assert_array_equal(found.bid, expected.bid)
    np.testing.assert_array_equal(found.paid, expected.paid)
    assert found.spent == expected.spent


@given(
    price=st.lists(st.floats(0, 1e6), min_size=1, max_size=80),
    budget=st.floats(1e-3, 1e6),
    integer=st.booleans(),
    rule=rules,
)
def test_never_spends_more_than_the_budget(
    price: list[float], budget: float, integer: bool, rule: AuctionRule
) -> None:
    prices = np.array(price)
    cleared = clear(np.full(len(prices), np.inf), prices, budget, 0.0, integer_bids=integer, rule=rule)
    assert cleared.spent <= budget
    assert cleared.spent == np.cumsum(cleared.paid)[-1]
    assert (cleared.bid[cleared.won] >= prices[cleared.won]).all()


def test_a_cheaper_auction_is_won_after_one_too_dear() -> None:
    cleared = clear(np.full(4, 9.0), np.array([5.0, 6.0, 4.0, 3.0]), budget=10.0, spent=0.0)
    assert cleared.won.tolist() == [True, False, True, False]
    assert cleared.bid.tolist() == [9.0, 5.0, 5.0, 1.0]


@pytest.mark.parametrize(("bid", "won"), [(3.0, True), (2.9999, False)])
def test_wins_at_the_market_price(bid: float, won: bool) -> None:
    assert clear(np.array([bid]), np.array([3.0]), 10.0, 0.0).won.tolist() == [won]


def test_what_each_rule_charges() -> None:
    bid, price = np.array([9.0]), np.array([4.0])

    def paid(**rule: object) -> float:
        return float(clear(bid, price, 100.0, 0.0, rule=AuctionRule(**rule)).paid[0])  # type: ignore[arg-type]

    assert paid() == 4.0
    assert paid(price="first") == 9.0
    assert paid(hard_floor=6.0) == 6.0
    assert paid(hard_floor=10.0) == 0.0  # not sold
    assert paid(soft_floor=6.0) == 6.0
    assert paid(soft_floor=20.0) == 9.0  # below the soft floor a bid pays itself


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"price": "secnd"}, "Did you mean 'second'"),
        ({"hard_floor": -1.0}, "at least 0"),
        ({"hard_floor": 5.0, "soft_floor": 3.0}, "below the hard one"),
    ],
)
def test_rules_that_are_none(rule: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        AuctionRule(**rule)  # type: ignore[arg-type]
