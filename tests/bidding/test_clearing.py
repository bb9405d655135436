from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.bidding.clearing import Cleared, Floats, clear


def one_by_one(
    amount: Floats, price: Floats, budget: float, spent: float, max_bid: float, integer: bool
) -> Cleared:
    """The rule as it reads: a plain loop over auctions."""
    bids, won = [], []
    for a, z in zip(amount.tolist(), price.tolist(), strict=True):
        bid = min(a, max_bid, budget - spent)
        bid = float(np.floor(bid)) if integer else bid
        bids.append(bid)
        won.append(bid >= z)
        spent += z if bid >= z else 0.0
    mask = np.array(won, np.bool_)
    return Cleared(np.array(bids), mask, np.where(mask, price, 0.0), spent)


# Multiples of 1/4 are exact in floating point, so that the two ways can be compared to the last bit.
quarters = st.integers(0, 200).map(lambda q: q / 4)


@given(
    auctions=st.lists(st.tuples(quarters, quarters), min_size=1, max_size=60),
    budget=quarters,
    spent_share=st.sampled_from([0.0, 0.5, 1.0]),
    max_bid=st.one_of(st.just(np.inf), quarters),
    integer=st.booleans(),
)
def test_equals_a_loop_over_auctions(
    auctions: list[tuple[float, float]], budget: float, spent_share: float, max_bid: float, integer: bool
) -> None:
    amount, price = np.array(auctions).T
    spent = np.floor(budget * spent_share * 4) / 4
    expected = one_by_one(amount, price, budget, spent, max_bid, integer)
    found = clear(amount, price, budget, spent, max_bid, integer)
    np.testing.assert_array_equal(found.won, expected.won)
    np.testing.assert_array_equal(found.bid, expected.bid)
    np.testing.assert_array_equal(found.paid, expected.paid)
    assert found.spent == expected.spent


@given(
    price=st.lists(st.floats(0, 1e6), min_size=1, max_size=80),
    budget=st.floats(1e-3, 1e6),
    integer=st.booleans(),
)
def test_never_spends_more_than_the_budget(price: list[float], budget: float, integer: bool) -> None:
    prices = np.array(price)
    cleared = clear(np.full(len(prices), np.inf), prices, budget, 0.0, integer_bids=integer)
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
