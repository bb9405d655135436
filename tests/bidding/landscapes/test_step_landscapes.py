"""Landscapes of steps against counts, hand computations, and a market of known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.bidding.landscapes import Gamma, Histogram, KaplanMeier, PriceBounds, WinNotice


@given(
    prices=st.lists(st.integers(0, 20), min_size=1, max_size=30),
    bid=st.floats(-1, 22),
    share=st.floats(0.001, 1),
)
def test_a_histogram_counts(prices: list[int], bid: float, share: float) -> None:
    z = np.array(prices, float)
    landscape = Histogram.fit(PriceBounds.observed(z))
    assert landscape.win_probability(bid) == pytest.approx((z <= bid).mean())
    assert landscape.expected_payment(bid) == pytest.approx((z * (z <= bid)).mean())
    assert landscape.probability.sum() == pytest.approx(1)
    reached = [p for p in sorted(prices) if landscape.win_probability(p) >= share]
    assert landscape.quantile(share) == reached[0]
    weighted = Histogram.fit(PriceBounds.observed(*np.unique(z, return_counts=True)))
    np.testing.assert_allclose(weighted.cumulative, landscape.cumulative, rtol=1e-14)


def test_kaplan_meier_by_hand() -> None:
    # Bids 3 and 5 lost at prices not told; the price of 5 is tied with the bid of 5 that lost above it.
    bid = np.array([9.0, 9.0, 3.0, 9.0, 5.0, 9.0, 9.0])
    price = np.array([2.0, 3.0, np.nan, 5.0, np.nan, 5.0, 9.0])
    found = KaplanMeier.fit(PriceBounds.second_price(bid, ~np.isnan(price), price))
    np.testing.assert_array_equal(found.price, [2, 3, 5, 9])
    survival = np.array([6 / 7, 6 / 7 * 5 / 6, 6 / 7 * 5 / 6 * 2 / 4, 0])
    np.testing.assert_allclose(found.cumulative, 1 - survival)
    terms = np.cumsum([1 / (7 * 6), 1 / (6 * 5), 2 / (4 * 2)])
    np.testing.assert_allclose(found.variance, np.append(survival[:3] ** 2 * terms, 0))
    assert found.standard_error(4.0) == pytest.approx(np.sqrt(found.variance[1]))


@given(
    auctions=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=40).filter(
        lambda rows: any(bid >= price for bid, price in rows)
    )
)
def test_kaplan_meier_redistributes_to_the_right(auctions: list[tuple[int, int]]) -> None:
    """Efron 1967: give every lost bid's mass in equal parts to all that are known to be above it."""
    bid, price = np.array(auctions, float).T
    won = bid >= price
    place = np.where(won, price, bid)
    order = np.lexsort((~won, place))
    mass = np.full(len(bid), 1 / len(bid))
    for i, row in enumerate(order):
        if not won[row] and i + 1 < len(order):
            mass[order[i + 1 :]] += mass[row] / (len(order) - i - 1)
            mass[row] = 0
    found = KaplanMeier.fit(PriceBounds.second_price(bid, won, price))
    b = np.arange(14.0)
    expected = [(mass * won)[place <= one].sum() for one in b]
    np.testing.assert_allclose(found.win_probability(b), expected, atol=1e-12)
    if won.all():
        np.testing.assert_allclose(found.win_probability(b), [(price <= one).mean() for one in b], atol=1e-12)


def test_kaplan_meier_recovers_the_market_and_covers() -> None:
    truth, b = Gamma.of(70, 2.3), np.array([20.0, 60.0, 120.0])
    inside = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        bid, price = rng.lognormal(4, 0.8, 400), truth.sample(rng, 400)
        found = KaplanMeier.fit(PriceBounds.second_price(bid, bid >= price, price))
        miss = np.abs(found.win_probability(b) - truth.win_probability(b))
        inside.append(miss < 1.96 * found.standard_error(b))
    np.testing.assert_allclose(np.mean(inside, axis=0), 0.95, atol=4 * np.sqrt(0.95 * 0.05 / 200))


@given(
    notices=st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=25).filter(
        lambda rows: any(won for _, won in rows)
    )
)
def test_win_notices_give_the_rising_curve_of_most_likelihood(notices: list[tuple[int, bool]]) -> None:
    """F at a bid is the max-min of the shares won over all ranges of bids around it."""
    bid, won = np.array(notices, float).T
    found = WinNotice.fit(PriceBounds.win_notice(bid, won))
    places = np.unique(bid)
    for here in places:
        shares = [
            min(won[(bid >= low) & (bid <= high)].mean() for high in places[places >= here])
            for low in places[places <= here]
        ]
        assert found.win_probability(here) == pytest.approx(max(shares))
