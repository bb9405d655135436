"""First-price shading against brute-force grids, for every smooth market, and the properties of the bids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ctrkit.bidding.landscapes import LANDSCAPES, Gamma, LogLogistic, LogNormal, SmoothLandscape
from ctrkit.bidding.pacing.shading import ShadingTable
from ctrkit.errors import ConfigError

SMOOTH: list[SmoothLandscape] = [
    LogNormal.of(20, 0.7),
    LogNormal.of(20, 0.05),
    LogNormal.of(20, 3.0, zero=0.1),
    LogLogistic.of(20, 0.4),
    LogLogistic.of(20, 1.5, zero=0.6),
    Gamma.of(25, 2.3),
    Gamma.of(25, 0.4, zero=0.2),
    Gamma.of(25, 50.0, zero=0.02),
]
every_market = pytest.mark.parametrize("landscape", SMOOTH, ids=lambda one: one.name)
WORTHS = np.array([-1.0, 0.0, 1e-6, 0.3, 1.0, 2.5, 5.0, 10.0, 19.0, 20.5, 33.0, 60.0, 150.0, 1e3, 1e5])


def surplus(landscape: SmoothLandscape, bid: np.ndarray, worth: np.ndarray | float) -> np.ndarray:
    return (worth - bid) * landscape.win_probability(bid)


def test_every_kind_is_here() -> None:
    smooth = {kind for kind in LANDSCAPES.values() if issubclass(kind, SmoothLandscape)}
    assert {type(one) for one in SMOOTH} == smooth


@every_market
def test_no_bid_on_a_fine_grid_earns_more(landscape: SmoothLandscape) -> None:
    found = ShadingTable.of(landscape).bid(WORTHS)
    assert found.shape == WORTHS.shape
    grid = np.concatenate([[0.0], np.geomspace(1e-8, 1e5, 50_001), np.arange(61.0)])
    earned = surplus(landscape, found, WORTHS)
    for worth, bid, most in zip(WORTHS, found, earned, strict=True):
        if worth <= 0:
            assert bid == 0
            continue
        # And on a grid about the bid itself, a thousand times finer.
        near = bid * (1 + np.linspace(-1e-4, 1e-4, 2001))
        best = max(surplus(landscape, bids, worth).max() for bids in (grid, near))
        # Of the greatest surplus in sight, for where nothing is won the bids may differ.
        assert most >= best * (1 - 1e-5) - 1e-8 * worth


def test_the_bid_in_a_log_logistic_market_solves_its_equation() -> None:
    """F / f = b (1 + (b / m)^(1/s)) s, so that worth = b (1 + s + s (b / m)^(1/s))."""
    bid, s = np.array([0.1, 5.0, 20.0, 90.0]), 0.4
    worth = bid * (1 + s + s * (bid / 20) ** (1 / s))
    np.testing.assert_allclose(ShadingTable.of(LogLogistic.of(20, s)).bid(worth), bid, rtol=1e-5)
    np.testing.assert_allclose(LogLogistic.of(20, s).worth_of(bid), worth, rtol=1e-12)


@pytest.mark.parametrize("landscape", SMOOTH, ids=lambda one: one.name)
def test_the_knots_are_exact(landscape: SmoothLandscape) -> None:
    table = ShadingTable.of(landscape)
    worth = np.exp(table.log_worth)
    np.testing.assert_allclose(landscape.worth_of(np.exp(table.log_bid)), worth, rtol=1e-9)
    np.testing.assert_allclose(table.bid(worth), np.exp(table.log_bid), rtol=1e-9)


@given(
    landscape=st.sampled_from(SMOOTH),
    values=st.lists(st.floats(0, 1e6), min_size=2, max_size=20),
    budget_price=st.floats(0, 1e3),
    more=st.floats(1e-3, 1e3),
)
def test_properties_of_the_best_bid(
    landscape: SmoothLandscape, values: list[float], budget_price: float, more: float
) -> None:
    value, table = np.sort(values), ShadingTable.of(landscape)
    bid = table.bid(value, 1 + budget_price)
    assert (bid >= 0).all()
    assert (bid <= value / (1 + budget_price) * (1 + 1e-12)).all()
    assert (np.diff(bid) >= -1e-9 * bid[1:]).all()
    dearer = table.bid(value, 1 + budget_price + more)
    assert (dearer <= bid * (1 + 1e-9)).all()
    # The budget's value form: v F(b) - μ b F(b) is largest at the same bid, in whatever unit value is.
    np.testing.assert_allclose(table.bid(value * 7, 7 * (1 + budget_price)), bid, rtol=1e-9)


def test_the_unit_of_money_does_not_matter() -> None:
    cents, value = LogNormal.of(2000, 0.7, 0.1), np.geomspace(0.1, 1e3, 50)
    bid = ShadingTable.of(LogNormal.of(20, 0.7, 0.1)).bid(value)
    np.testing.assert_allclose(ShadingTable.of(cents).bid(value * 100), bid * 100, rtol=1e-9)


@every_market
def test_bids_rise_with_the_worth_and_never_exceed_it(landscape: SmoothLandscape) -> None:
    table = ShadingTable.of(landscape)
    worth = np.geomspace(1e-3, 1e5, 5003)
    found = table.bid(worth)
    np.testing.assert_array_equal(table.bid(worth * 3, 3.0 * np.ones(len(worth))), table.bid(worth * 3 / 3))
    assert (np.diff(found) >= 0).all()
    assert (found <= worth).all()
    np.testing.assert_array_equal(table.bid([-1.0, 0.0]), 0.0)


def test_shading_earns_what_it_promises() -> None:
    """In first-price auctions drawn from the market, the mean surplus is (v - b) F(b)."""
    landscape, value = Gamma.of(25, 2.3), 40.0
    bid = float(ShadingTable.of(landscape).bid(value))
    price = landscape.sample(np.random.default_rng(2), 20_000)
    earned = (value - bid) * (bid >= price)
    assert stats.ttest_1samp(earned, (value - bid) * landscape.win_probability(bid)).pvalue > 0.01
    assert bid < value


@pytest.mark.parametrize(
    "make",
    [
        lambda: ShadingTable.of(SMOOTH[0]).bid([1.0], 0.0),
        lambda: ShadingTable.of(SMOOTH[0]).bid([1.0], np.nan),
        lambda: ShadingTable.of(SMOOTH[0], knots=1),
    ],
)
def test_refuses_settings_out_of_range(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]
