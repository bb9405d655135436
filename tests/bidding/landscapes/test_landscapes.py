"""Bid landscapes against quadrature, scipy's distributions, hand computations, and markets of known truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from scipy.special import digamma, gammaln
from sklearn.linear_model import LogisticRegression

from ctrkit.bidding.landscapes import (
    LANDSCAPES,
    Gamma,
    Histogram,
    Landscape,
    LogLogistic,
    LogNormal,
    PriceBounds,
    SmoothLandscape,
)
from ctrkit.bidding.landscapes.likelihood import row_likelihood
from ctrkit.errors import ConfigError, DataError

PRICES = Path(__file__).parents[4] / "shared" / "data" / "ipinyou_train_price_histogram.parquet"
SMOOTH: dict[type[SmoothLandscape], SmoothLandscape] = {
    LogNormal: LogNormal.of(60, 0.7),
    LogLogistic: LogLogistic.of(60, 0.4),
    Gamma: Gamma.of(70, 2.3),
}
FEEDBACK = ("prices", "second price", "win notice", "half revealed")


def scipy_twin(landscape: SmoothLandscape) -> object:
    scale, shape = float(np.exp(landscape.location)), float(np.exp(landscape.log_shape))
    if isinstance(landscape, LogNormal):
        return stats.lognorm(s=shape, scale=scale)
    if isinstance(landscape, LogLogistic):
        return stats.fisk(c=1 / shape, scale=scale)
    return stats.gamma(a=shape, scale=scale / shape)


def feedback(kind: str, price: np.ndarray, bid: np.ndarray, rng: np.random.Generator) -> PriceBounds:
    won = bid >= price
    if kind == "prices":
        return PriceBounds.observed(price)
    if kind == "second price":
        return PriceBounds.second_price(bid, won, np.where(won, price, 0))
    if kind == "win notice":
        return PriceBounds.win_notice(bid, won)
    told = np.where(rng.random(len(price)) < 0.5, price, np.nan)
    return PriceBounds.minimum_to_win(bid, won, told)


def market(landscape: Landscape, n: int, seed: int, zero_bids: float = 0.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    bid = rng.lognormal(4, 0.8, n) * (rng.random(n) >= zero_bids)
    return landscape.sample(rng, n), bid


# --- what a landscape is ---


@pytest.mark.parametrize("zero", [0.0, 0.2])
@pytest.mark.parametrize("kind", SMOOTH, ids=lambda kind: kind.name)
def test_a_smooth_landscape_is_scipys_distribution(kind: type[SmoothLandscape], zero: float) -> None:
    plain = SMOOTH[kind]
    twin = scipy_twin(plain)
    landscape = kind(plain.location, plain.log_shape, zero)
    b = np.array([1e-3, 0.5, 7.0, 60.0, 300.0, 5e3])
    share = np.array([1e-6, 0.19, 0.3, 0.6, 0.999])
    np.testing.assert_allclose(landscape.win_probability(b), zero + (1 - zero) * twin.cdf(b), rtol=1e-12)
    np.testing.assert_allclose(landscape.density(b), (1 - zero) * twin.pdf(b), rtol=1e-11)
    above = np.maximum(share - zero, 0) / (1 - zero)
    np.testing.assert_allclose(landscape.quantile(share), np.where(share > zero, twin.ppf(above), 0))
    np.testing.assert_array_equal(landscape.win_probability([-1.0, 0.0, np.inf]), [0.0, zero, 1.0])
    np.testing.assert_array_equal(landscape.density([-1.0, 0.0, np.inf]), 0.0)


@pytest.mark.parametrize("landscape", [*SMOOTH.values(), LogNormal.of(5, 1, 0.3)], ids=repr)
def test_samples_follow_the_landscape(landscape: SmoothLandscape) -> None:
    z = landscape.sample(np.random.default_rng(0), 4000)
    positive = z[z > 0]
    assert (z == 0).mean() == pytest.approx(landscape.zero, abs=0.03)
    above = type(landscape)(landscape.location, landscape.log_shape)
    assert stats.kstest(positive, above.win_probability).pvalue > 0.01


@given(
    prices=st.lists(st.integers(0, 20), min_size=1, max_size=30),
    bid=st.floats(-1, 22),
    share=st.floats(0.001, 1),
)
def test_a_histogram_counts(prices: list[int], bid: float, share: float) -> None:
    z = np.array(prices, float)
    landscape = Histogram.fit(PriceBounds.observed(z))
    assert landscape.win_probability(bid) == pytest.approx((z <= bid).mean())
    assert landscape.probability.sum() == pytest.approx(1)
    reached = [p for p in sorted(prices) if landscape.win_probability(p) >= share]
    assert landscape.quantile(share) == reached[0]
    weighted = Histogram.fit(PriceBounds.observed(*np.unique(z, return_counts=True)))
    np.testing.assert_allclose(weighted.cumulative, landscape.cumulative, rtol=1e-14)


# --- likelihood ---


@pytest.mark.parametrize("kind", SMOOTH, ids=lambda kind: kind.name)
@pytest.mark.parametrize("zero_logit", [None, -1.3])
def test_the_likelihood_and_its_gradient(kind: type[SmoothLandscape], zero_logit: float | None) -> None:
    """Values by the landscape's own F and density, slopes by differences; far tails included."""
    low = np.array([60.0, 0.01, -np.inf, -np.inf, 0.0, 40.0, 500.0, 30.0, 0.0, -np.inf, -0.5])
    high = np.array([60.0, 0.01, 50.0, 1e-3, np.inf, np.inf, np.inf, 31.0, 9.0, np.inf, 0.5])
    if zero_logit is not None:
        low, high = np.append(low, [0.0, -np.inf, -1.0]), np.append(high, [0.0, 0.0, 0.0])
    bounds, n = PriceBounds(low, high, np.ones(len(low))), len(low)
    for location, log_shape in zip(np.linspace(3.5, 4.5, n), np.linspace(-0.6, 0.6, n), strict=True):

        def rows(
            m: float, t: float, a: float | None, location: float = location, log_shape: float = log_shape
        ) -> np.ndarray:
            shifted = None if zero_logit is None or a is None else zero_logit + a
            return row_likelihood(kind, bounds, location + m, log_shape + t, shifted).value

        found = row_likelihood(kind, bounds, location, log_shape, zero_logit)
        zero = 0.0 if zero_logit is None else 1 / (1 + np.exp(-zero_logit))
        landscape = kind(location, log_shape, zero)
        below, up_to = landscape.win_probability(low), landscape.win_probability(high)
        expected = np.where(low == high, landscape.density(high), up_to - below)
        expected = np.where((low == high) & (high == 0), zero, expected)
        upper = 1 - expected < 1e-6  # differences of 1 and nearly 1 say nothing
        np.testing.assert_allclose(found.value[~upper], np.log(expected[~upper]), rtol=1e-6, atol=1e-9)
        h = 1e-5
        for slope, (m, t, a) in (
            (found.by_location, (h, 0, 0)),
            (found.by_log_shape, (0, h, 0)),
            (found.by_zero, (0, 0, h)),
        ):
            if a and zero_logit is None:
                continue
            ahead, back = (rows(s * m, s * t, s * a) for s in (1, -1))
            np.testing.assert_allclose(slope, (ahead - back) / (2 * h), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("k", [0.05, 1.0, 7.3, 400.0])
def test_the_gamma_distributions_derivative_by_its_shape(k: float) -> None:
    """d P(k, x) / dk = ∫ (log t - ψ(k)) p(t) dt up to x, by quadrature; with x = k y / mean."""
    twin = stats.gamma(a=k)
    for x in twin.ppf([1e-3, 0.2, 0.9, 0.9999]):
        y, location, log_shape = np.array([np.log(x / k)]), np.zeros(1), np.full(1, np.log(k))
        terms = Gamma.log_terms(y, location, log_shape)
        found = Gamma.cdf_by_shape(y, location, log_shape, terms)[0] * np.exp(terms.log_pdf[0])
        # t = exp(s) takes the pole of a small k away; the mean stays, so x moves with k.
        part, _ = integrate.quad(
            lambda s: (s - digamma(k)) * np.exp(k * s - np.exp(s) - gammaln(k)),
            np.log(x) - 40 / k - 10, np.log(x), epsabs=1e-12, epsrel=1e-11, limit=500,
        )  # fmt: skip
        assert found == pytest.approx(k * part + x * twin.pdf(x), abs=2e-9)


# --- fits ---


@pytest.mark.parametrize("kind", SMOOTH, ids=lambda kind: kind.name)
def test_a_fit_to_known_prices_is_scipys(kind: type[SmoothLandscape]) -> None:
    price, _ = market(SMOOTH[kind], 500, seed=1)
    found = kind.fit(PriceBounds.observed(price))
    twin = scipy_twin(found)
    best = float(twin.logpdf(price).sum())
    family = twin.dist
    shape, _, scale = family.fit(price, floc=0)
    scipys = float(family.logpdf(price, shape, 0, scale).sum())
    assert best >= scipys - 1e-7
    assert best == pytest.approx(scipys, abs=1e-3)
    assert found.log_likelihood(PriceBounds.observed(price)) == pytest.approx(best, rel=1e-12)


def test_a_censored_fit_is_that_of_a_search_without_gradients() -> None:
    price, bid = market(SMOOTH[LogNormal], 400, seed=2)
    won = bid >= price
    found = LogNormal.fit(PriceBounds.second_price(bid, won, price))

    def loss(theta: np.ndarray) -> float:
        twin = stats.norm(theta[0], np.exp(theta[1]))
        y = np.log(np.where(won, price, bid))
        return -float(np.where(won, twin.logpdf(y), twin.logsf(y)).sum())

    best = optimize.minimize(loss, [4.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9})
    np.testing.assert_allclose([found.location, found.log_shape], best.x, atol=1e-6)


def test_a_win_notice_fit_is_a_logistic_regression_on_the_log_of_the_bid() -> None:
    price, bid = market(SMOOTH[LogLogistic], 3000, seed=3)
    won = bid >= price
    found = LogLogistic.fit(PriceBounds.win_notice(bid, won))
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(np.log(bid)[:, None], won)
    np.testing.assert_allclose(np.exp(-found.log_shape), peer.coef_[0, 0], rtol=1e-5)
    np.testing.assert_allclose(found.location, -peer.intercept_[0] / peer.coef_[0, 0], rtol=1e-6)


@pytest.mark.parametrize("kind", SMOOTH, ids=lambda kind: kind.name)
@pytest.mark.parametrize("zero", [0.0, 0.15])
@pytest.mark.parametrize("what", FEEDBACK)
def test_recovers_a_known_market(kind: type[SmoothLandscape], zero: float, what: str) -> None:
    plain = SMOOTH[kind]
    truth = kind(plain.location, plain.log_shape, zero)
    price, bid = market(truth, 6000, seed=4, zero_bids=0.2)
    found = kind.fit(feedback(what, price, bid, np.random.default_rng(5)))
    assert found.covariance is not None
    error = np.sqrt(np.diag(found.covariance))
    assert (error < 0.25).all()
    assert abs(found.location - truth.location) < 3.5 * error[0]
    assert abs(found.log_shape - truth.log_shape) < 3.5 * error[1]
    assert (found.zero > 0) == (zero > 0)
    b = np.linspace(0, 300, 50)
    np.testing.assert_allclose(found.win_probability(b), truth.win_probability(b), atol=0.045)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["second price", "win notice"])
@pytest.mark.parametrize("zero", [0.0, 0.15])
def test_standard_errors_cover(what: str, zero: float) -> None:
    """95 % intervals hold the truth in 95 % of 120 markets, within four standard errors of that share."""
    truth = LogLogistic.of(60, 0.4, zero)
    target = np.array([truth.location, truth.log_shape, np.log(zero / (1 - zero)) if zero else 0.0])
    inside = []
    for seed in range(120):
        price, bid = market(truth, 500, seed, zero_bids=0.2)
        found = LogLogistic.fit(feedback(what, price, bid, np.random.default_rng(seed)))
        estimate = [found.location, found.log_shape, np.log(found.zero / (1 - found.zero)) if zero else 0.0]
        assert found.covariance is not None
        error = np.sqrt(np.diag(found.covariance))
        k = len(error)
        inside.append(np.abs(np.array(estimate)[:k] - target[:k]) < 1.96 * error)
    np.testing.assert_allclose(np.mean(inside, axis=0), 0.95, atol=4 * np.sqrt(0.95 * 0.05 / 120))


@pytest.mark.parametrize("kind", LANDSCAPES.values(), ids=LANDSCAPES)
def test_a_weight_is_so_many_auctions(kind: type[Landscape]) -> None:
    price, bid = market(Histogram(np.array([2.0, 5.0, 30.0]), np.array([0.3, 0.6, 1.0])), 60, seed=6)
    bid = np.round(bid)
    rows = feedback("prices", price, bid, np.random.default_rng(0))
    times = np.random.default_rng(7).integers(0, 4, len(price))
    once = kind.fit(PriceBounds(rows.low, rows.high, times.astype(float)))
    often = kind.fit(PriceBounds(*(np.repeat(a, times) for a in (rows.low, rows.high, rows.weight))))
    b = np.linspace(0, 100, 201)
    np.testing.assert_allclose(once.win_probability(b), often.win_probability(b), rtol=1e-10, atol=1e-12)


# --- published prices ---


@pytest.mark.parametrize("campaign", [1458, 2259, 2261, 2821, 2997, 3358, 3386, 3427, 3476])
def test_fits_the_ipinyou_prices(campaign: int) -> None:
    """No smooth market beats the histogram in likelihood, and none near the fitted one beats that."""
    if not PRICES.exists():
        pytest.skip("the iPinYou prices are not beside the checkout")
    rows = pl.read_parquet(PRICES).filter((pl.col("campaign") == campaign) & (pl.col("count") > 0))
    price, count = rows["market_price"].to_numpy(), rows["count"].to_numpy()
    empirical = Histogram.fit(PriceBounds.observed(price, count))
    cells = PriceBounds.observed(price, count, unit=1)
    np.testing.assert_allclose(empirical.win_probability(price), np.cumsum(count) / count.sum())
    top = empirical.log_likelihood(PriceBounds.observed(price, count))
    share = count / count.sum()
    assert top == pytest.approx(count.sum() * (share * np.log(share)).sum())
    for kind in SMOOTH:
        found = kind.fit(cells)
        assert found.zero == pytest.approx(count[price == 0].sum() / count.sum(), abs=1e-9)
        assert found.log_likelihood(cells) < top
        for m, t in ((0.002, 0), (-0.002, 0), (0, 0.002), (0, -0.002)):
            near = kind(found.location + m, found.log_shape + t, found.zero)
            assert near.log_likelihood(cells) < found.log_likelihood(cells)
        assert np.abs(found.win_probability(price) - empirical.win_probability(price)).max() < 0.2


# --- faults ---


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (lambda: PriceBounds.win_notice([1.0, 2.0], [1, 1]), "one single market price"),
        (lambda: PriceBounds.win_notice([1.0, 2.0], [0, 0]), "one single market price"),
        (lambda: PriceBounds.win_notice([1.0, 2.0], [0, 1]), "one single market price"),
        (lambda: PriceBounds.win_notice([1.0, 2.0], [1, 0]), "do not determine the .* landscape"),
        (lambda: PriceBounds.observed([3.0, 3.0]), "one single market price"),
        (lambda: PriceBounds.observed([0.0, 0.0]), "one single market price"),
    ],
)
@pytest.mark.parametrize("kind", SMOOTH, ids=lambda kind: kind.name)
def test_says_when_the_rows_do_not_tell(kind: type[SmoothLandscape], bounds: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        kind.fit(bounds())  # type: ignore[operator]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PriceBounds.observed([1.0, -2.0]), "column 'market_price', row index 1.*: -2 is below 0"),
        (lambda: PriceBounds.observed([1.0], [1.0, 2.0]), "column 'weight'"),
        (lambda: PriceBounds.observed([1.0], [0.0]), "column 'weight'"),
        (lambda: PriceBounds.win_notice([1.0, 2.0], [1]), "column 'won'"),
        (lambda: PriceBounds.second_price([1.0, 2.0], [1, 1], [1, 3]), "row index 1.* of 2 has won .* of 3"),
        (lambda: PriceBounds.minimum_to_win([1.0, 2.0], [0, 1], [1, np.nan]), "of 1 has lost at .* of 1"),
        (lambda: Histogram.fit(PriceBounds.win_notice([1.0], [1])), "known prices"),
    ],
)
def test_names_what_is_wrong(make: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogNormal.of(0, 1),
        lambda: LogNormal.of(1, 1, 1.0),
        lambda: Gamma(np.nan, 0.0),
        lambda: PriceBounds.observed([1.0], unit=-1),
        lambda: Histogram(np.array([2.0, 1.0]), np.array([0.5, 1.0])),
        lambda: Histogram(np.array([1.0, 2.0]), np.array([0.5, 1.1])),
        lambda: Histogram(np.array([]), np.array([])),
    ],
)
def test_refuses_settings_out_of_range(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]


def test_a_price_above_all_bids_is_infinite() -> None:
    found = Histogram(np.array([2.0]), np.array([0.5]))
    np.testing.assert_array_equal(found.quantile([0.5, 0.51]), [2, np.inf])
    assert found.log_likelihood(PriceBounds.win_notice([5.0], [0])) == pytest.approx(np.log(0.5))
