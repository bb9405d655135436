"""First-price shading against brute-force grids, for every landscape, and the properties of the best bid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ctrkit.bidding.landscapes import (
    LANDSCAPES,
    FeatureLandscape,
    Gamma,
    Histogram,
    KaplanMeier,
    Landscape,
    LogLogistic,
    LogNormal,
    PriceBounds,
    SmoothLandscape,
    WinNotice,
)
from ctrkit.bidding.pacing.shading import ShadingTable, shaded_bid
from ctrkit.errors import ConfigError

PRICE, BID = np.random.default_rng(0).integers(0, 60, (2, 200)).astype(float)
WON = BID >= PRICE
LANDSCAPES_AT_HAND: list[Landscape] = [
    LogNormal.of(20, 0.7),
    LogNormal.of(20, 0.05),
    LogNormal.of(20, 3.0, zero=0.1),
    LogLogistic.of(20, 0.4),
    LogLogistic.of(20, 1.5, zero=0.6),
    Gamma.of(25, 2.3),
    Gamma.of(25, 0.4, zero=0.2),
    Gamma.of(25, 50.0, zero=0.02),
    Histogram.fit(PriceBounds.observed(PRICE)),
    Histogram(np.array([3.0, 4.0, 50.0]), np.array([0.2, 0.21, 0.9])),
    KaplanMeier.fit(PriceBounds.second_price(BID, WON, PRICE)),
    WinNotice.fit(PriceBounds.win_notice(BID, WON)),
]
SMOOTH = [one for one in LANDSCAPES_AT_HAND if isinstance(one, SmoothLandscape)]
every_landscape = pytest.mark.parametrize("landscape", LANDSCAPES_AT_HAND, ids=lambda one: one.name)
WORTHS = np.array([-1.0, 0.0, 1e-6, 0.3, 1.0, 2.5, 5.0, 10.0, 19.0, 20.5, 33.0, 60.0, 150.0, 1e3, 1e5])


def surplus(landscape: Landscape, bid: np.ndarray, worth: np.ndarray | float) -> np.ndarray:
    return (worth - bid) * landscape.win_probability(bid)


def test_every_kind_is_here() -> None:
    assert {type(one) for one in LANDSCAPES_AT_HAND} == set(LANDSCAPES.values())


@every_landscape
def test_no_bid_on_a_fine_grid_earns_more(landscape: Landscape) -> None:
    found = shaded_bid(landscape, WORTHS)
    assert found.shape == WORTHS.shape
    grid = np.concatenate([[0.0], np.geomspace(1e-8, 1e5, 50_001), np.arange(61.0)])
    earned = surplus(landscape, found, WORTHS)
    for worth, bid, most in zip(WORTHS, found, earned, strict=True):
        best = surplus(landscape, grid, worth)
        if worth <= 0:
            assert bid == 0
            continue
        assert most >= best.max() * (1 - 1e-12)
        # And on a grid about the bid itself, a thousand times finer.
        near = bid * (1 + np.linspace(-1e-4, 1e-4, 2001))
        assert most >= surplus(landscape, near, worth).max() * (1 - 1e-12)


def test_the_bid_in_a_uniform_market_is_half_the_worth() -> None:
    """F(b) = b / 100 on whole prices 1 to 100: the best bid is next to v / 2."""
    landscape = Histogram(np.arange(1, 101.0), np.arange(1, 101) / 100)
    value = np.array([10.0, 30.0, 80.0, 300.0])
    np.testing.assert_array_equal(shaded_bid(landscape, value), [5, 15, 40, 100])


def test_the_bid_in_a_log_logistic_market_solves_its_equation() -> None:
    """F / f = b (1 + (b / m)^(1/s)) s, so that worth = b (1 + s + s (b / m)^(1/s))."""
    bid, s = np.array([0.1, 5.0, 20.0, 90.0]), 0.4
    worth = bid * (1 + s + s * (bid / 20) ** (1 / s))
    np.testing.assert_allclose(shaded_bid(LogLogistic.of(20, s), worth), bid, rtol=1e-12)
    np.testing.assert_allclose(LogLogistic.of(20, s).worth_of(bid), worth, rtol=1e-12)


@given(
    landscape=st.sampled_from(LANDSCAPES_AT_HAND),
    values=st.lists(st.floats(0, 1e6), min_size=2, max_size=20),
    budget_price=st.floats(0, 1e3),
    more=st.floats(1e-3, 1e3),
)
def test_properties_of_the_best_bid(
    landscape: Landscape, values: list[float], budget_price: float, more: float
) -> None:
    value = np.sort(values)
    bid = shaded_bid(landscape, value, 1 + budget_price)
    assert (bid >= 0).all()
    assert (bid <= value / (1 + budget_price) * (1 + 1e-12)).all()
    assert (np.diff(bid) >= -1e-9 * bid[1:]).all()
    dearer = shaded_bid(landscape, value, 1 + budget_price + more)
    assert (dearer <= bid * (1 + 1e-9)).all()
    # The budget's value form: v F(b) - μ b F(b) is largest at the same bid, in whatever unit value is.
    np.testing.assert_allclose(shaded_bid(landscape, value * 7, 7 * (1 + budget_price)), bid, rtol=1e-9)


@pytest.mark.parametrize("kind", [LogNormal, LogLogistic, Gamma], ids=lambda kind: kind.name)
@given(
    scale=st.floats(1e-3, 1e6),
    shape=st.floats(0.02, 20),
    zero=st.sampled_from([0.0, 1e-6, 0.3, 0.99]),
    share=st.floats(1e-4, 1e6),
)
def test_any_smooth_market(
    kind: type[SmoothLandscape], scale: float, shape: float, zero: float, share: float
) -> None:
    """The bid is finite, never above the worth, and no bid of a grid earns more."""
    landscape, worth = kind.of(scale, shape, zero), scale * share
    bid = float(shaded_bid(landscape, worth))
    assert 0 <= bid <= worth
    grid = worth * np.concatenate([[0.0], np.geomspace(1e-9, 1, 500), 1 - np.geomspace(1e-9, 1, 500)])
    best = surplus(landscape, grid, worth).max()
    assert surplus(landscape, np.array([bid]), worth)[0] >= best * (1 - 1e-9)


def test_the_unit_of_money_does_not_matter() -> None:
    cents, value = LogNormal.of(2000, 0.7, 0.1), np.geomspace(0.1, 1e3, 50)
    bid = shaded_bid(LogNormal.of(20, 0.7, 0.1), value)
    np.testing.assert_allclose(shaded_bid(cents, value * 100), bid * 100, rtol=1e-9)


def test_a_market_for_each_auction_is_many_markets() -> None:
    location, log_shape = np.array([2.0, 3.0, 4.0]), np.array([-1.0, 0.0, 0.5])
    value = np.array([10.0, 30.0, 50.0])
    found = shaded_bid(Gamma(location, log_shape, 0.1), value)
    one_by_one = [
        float(shaded_bid(Gamma(m, t, 0.1), v)) for m, t, v in zip(location, log_shape, value, strict=True)
    ]
    np.testing.assert_allclose(found, one_by_one, rtol=1e-12)


def test_features_tell_where_to_shade_less() -> None:
    """Surplus on fresh auctions: by features more than without, and within 1 % of that by the truth."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6000, 1))
    truth = LogNormal(3 + 0.8 * x[:, 0], np.full(len(x), np.log(0.4)))
    price, bid, value = truth.sample(rng, len(x)), rng.lognormal(3, 1, len(x)), rng.lognormal(4, 0.5, len(x))
    bounds = PriceBounds.win_notice(bid[:3000], bid[:3000] >= price[:3000])
    with_features = FeatureLandscape.fit(x[:3000], bounds)
    fresh = slice(3000, None)
    true_now = LogNormal(truth.location[fresh], truth.log_shape[fresh])

    def earned(landscape: Landscape) -> float:
        return float(surplus(true_now, shaded_bid(landscape, value[fresh]), value[fresh]).sum())

    plain, learnt, best = earned(LogNormal.fit(bounds)), earned(with_features.at(x[fresh])), earned(true_now)
    assert plain < 0.97 * best
    assert 0.99 * best < learnt <= best


@pytest.mark.parametrize("landscape", SMOOTH, ids=lambda one: one.name)
def test_a_table_gives_the_same_bids(landscape: SmoothLandscape) -> None:
    table = ShadingTable.of(landscape)
    worth = np.geomspace(1e-3, 1e5, 5003)
    exact, found = shaded_bid(landscape, worth), table.bid(worth)
    np.testing.assert_array_equal(table.bid(worth * 3, 3.0 * np.ones(len(worth))), table.bid(worth * 3 / 3))
    lost = surplus(landscape, exact, worth) - surplus(landscape, found, worth)
    # Of the greatest surplus in sight, for where nothing is won the bids may differ.
    assert (lost <= 1e-5 * surplus(landscape, exact, worth) + 1e-8 * worth).all()
    assert (lost >= -1e-12 * worth).all()
    assert (np.diff(found) >= 0).all()
    assert (found <= worth).all()
    np.testing.assert_array_equal(table.bid([-1.0, 0.0]), 0.0)


def test_shading_earns_what_it_promises() -> None:
    """In first-price auctions drawn from the market, the mean surplus is (v - b) F(b)."""
    landscape, value = Gamma.of(25, 2.3), 40.0
    bid = float(shaded_bid(landscape, value))
    price = landscape.sample(np.random.default_rng(2), 20_000)
    earned = (value - bid) * (bid >= price)
    assert stats.ttest_1samp(earned, (value - bid) * landscape.win_probability(bid)).pvalue > 0.01
    assert bid < value


@pytest.mark.parametrize(
    "make",
    [
        lambda: shaded_bid(SMOOTH[0], [1.0], 0.0),
        lambda: shaded_bid(SMOOTH[0], [1.0], np.nan),
        lambda: ShadingTable.of(LogNormal(np.zeros(2), np.zeros(2))),
        lambda: ShadingTable.of(SMOOTH[0], knots=1),
    ],
)
def test_refuses_settings_out_of_range(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]
