"""Price models against scipy's distributions and fits, brute-force competitors, and a published histogram."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import optimize, stats

from ctrkit.bidding.landscapes import Histogram
from ctrkit.bidding.supply import PriceModel, price_model
from ctrkit.errors import ConfigError, DataError

PRICES = Path(__file__).parents[4] / "shared" / "data" / "ipinyou_train_price_histogram.parquet"
TWINS = {
    "log-normal:mean=3.5,deviation=0.8": stats.lognorm(s=0.8, scale=np.exp(3.5)),
    "gamma:mean=50,shape=2": stats.gamma(a=2, scale=25),
    "log-logistic:median=50,scale=0.4": stats.fisk(c=2.5, scale=50),
}
# Parameters of scipy's distributions: both above 0.
FAMILIES = {
    "log-normal": lambda a, b: stats.lognorm(s=b, scale=a),
    "gamma": lambda a, b: stats.gamma(a=b, scale=a / b),
    "log-logistic": lambda a, b: stats.fisk(c=1 / b, scale=a),
}


@pytest.fixture(scope="module")
def histogram() -> tuple[np.ndarray, np.ndarray]:
    if not PRICES.exists():
        pytest.skip("the iPinYou histograms are not beside the checkout")
    counts = pl.read_parquet(PRICES).filter(campaign=2997)
    return counts["market_price"].to_numpy().astype(np.float64), counts["count"].to_numpy().astype(np.float64)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("unit", [0.0, 1.0])
def test_fits_the_published_prices_as_scipy_does(
    histogram: tuple[np.ndarray, np.ndarray], kind: str, unit: float
) -> None:
    price, count = histogram
    above = price > 0

    def loss(theta: np.ndarray) -> float:
        twin = FAMILIES[kind](*np.exp(theta))
        z, n = price[above], count[above]
        with np.errstate(divide="ignore"):
            row = np.log(twin.cdf(z) - twin.cdf(z - unit)) if unit else twin.logpdf(z)
        return -float(n @ row) / n.sum()

    options = {"xatol": 1e-7, "fatol": 1e-12}
    best = optimize.minimize(loss, np.log([60.0, 0.7]), method="Nelder-Mead", options=options)
    assert best.success
    fitted = PriceModel.fit(kind, price, count, unit).landscape
    np.testing.assert_allclose([fitted.location, fitted.log_shape], best.x, atol=1e-5)
    assert fitted.zero == pytest.approx(count[~above].sum() / count.sum(), rel=1e-6, abs=1e-9)


def test_draws_the_published_histogram(histogram: tuple[np.ndarray, np.ndarray]) -> None:
    price, count = histogram
    drawn = PriceModel.fit("histogram", price, count, unit=1).draw(np.random.default_rng(0), 200_000)
    found = np.array([(drawn == one).sum() for one in price])
    assert found.sum() == len(drawn)
    common = count > 1e-4 * count.sum()
    seen = np.append(found[common], found[~common].sum())
    expected = np.append(count[common], count[~common].sum()) / count.sum() * len(drawn)
    assert stats.chisquare(seen[expected > 0], expected[expected > 0]).pvalue > 1e-3


@pytest.mark.parametrize("text", TWINS)
def test_draws_follow_the_law(text: str) -> None:
    drawn = price_model(text).draw(np.random.default_rng(1), 20_000)
    assert stats.kstest(drawn, TWINS[text].cdf).pvalue > 1e-3


def test_draws_zeros_and_whole_units() -> None:
    twin = TWINS["gamma:mean=50,shape=2"]
    model = price_model("gamma:mean=50;shape=2;zero=0.2;unit=5")
    drawn = model.draw(np.random.default_rng(2), 50_000)
    place = np.rint(drawn / 5).astype(int)
    np.testing.assert_array_equal(drawn, 5.0 * place)
    edges = 5.0 * np.arange(-1, 40)
    chance = 0.8 * np.diff(twin.cdf(edges))
    chance[0] = 0.2
    chance = np.append(chance, 1 - chance.sum())
    found = np.bincount(np.minimum(place, 40), minlength=41)
    assert stats.chisquare(found, chance * len(drawn)).pvalue > 1e-3


def test_whole_prices_of_a_histogram_stay_what_they_are() -> None:
    price = np.arange(1, 400) / 100
    drawn = PriceModel.fit("histogram", price, unit=0.01).draw(np.random.default_rng(0), 20_000)
    np.testing.assert_allclose(np.unique(drawn), price, rtol=1e-12)


@pytest.mark.parametrize(("slots", "competitors"), [(1, 1), (3, 3), (4, 10)])
def test_slots_are_the_order_statistics_of_competing_bids(slots: int, competitors: int) -> None:
    text, n = "gamma:mean=50,shape=2", 20_000
    model, rng = price_model(text), np.random.default_rng(3)
    found = model.draw_slots(rng, n, slots, competitors)
    uniform = rng.random((n, competitors))
    brute = -np.sort(-TWINS[text].ppf(uniform**competitors), axis=1)[:, :slots]
    assert found.shape == (n, slots)
    assert (np.diff(found, axis=1) <= 0).all()
    assert stats.kstest(found[:, 0], TWINS[text].cdf).pvalue > 1e-3
    for slot in range(slots):
        assert stats.ks_2samp(found[:, slot], brute[:, slot]).pvalue > 1e-3
        # Not each slot alone: how far the slot is below the best one.
        assert stats.ks_2samp(found[:, slot] / found[:, 0], brute[:, slot] / brute[:, 0]).pvalue > 1e-3


def test_quality_multiplies_prices() -> None:
    model, quality = price_model("log-normal:mean=1,deviation=1"), np.linspace(0.5, 2, 100)
    plain = model.draw_slots(np.random.default_rng(0), 100, 2, 5)
    better = model.draw_slots(np.random.default_rng(0), 100, 2, 5, quality)
    np.testing.assert_array_equal(better, plain * quality[:, None])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gama:mean=1,shape=2", "Did you mean 'gamma'"),
        ("gamma:mean=1", "lacks shape"),
        ("gamma:mean=1,shap=2", "Did you mean 'shape'"),
        ("gamma:mean=1,shape=0", "above 0"),
        ("gamma:mean=-1,shape=2", "above 0"),
        ("gamma:mean=1,shape=x", "shape is 'x' and must be a number"),
        ("gamma:mean=1,shape=nan", "shape is nan and must be finite"),
        ("gamma:mean=1,shape=2,zero=1", "zero is 1 and must be below 1"),
        ("gamma:mean=1,shape=2,unit=-1", "at least 0"),
        ("gamma:mean=1,mean=2,shape=2", "twice"),
        ("gamma:mean,shape=2", "key=value"),
    ],
)
def test_says_what_is_wrong_with_a_text(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        price_model(text)


def test_reads_both_spellings() -> None:
    assert price_model("lognormal:mean=1,deviation=2") == price_model(" Log-Normal:mean=1;deviation=2")


def test_refuses_what_cannot_be_drawn() -> None:
    with pytest.raises(ConfigError, match="lacks the highest prices"):
        PriceModel(Histogram(np.array([0.5, 1.5]), np.array([0.3, 0.6])))
    with pytest.raises(ConfigError, match="Did you mean 'gamma'"):
        PriceModel.fit("gama", [1.0, 2.0])
    with pytest.raises(DataError, match="below 0"):
        PriceModel.fit("histogram", [1.0, -2.0])
    with pytest.raises(ConfigError, match="2 competitors cannot fill 3 slots"):
        price_model("gamma:mean=1,shape=2").draw_slots(np.random.default_rng(0), 5, 3, 2)


@pytest.mark.parametrize("kind", ["histogram", "gamma", "log-normal", "log-logistic"])
def test_a_text_fits_a_model_to_a_file(kind: str, tmp_path: Path) -> None:
    price = np.random.default_rng(0).gamma(2.0, 25.0, 4000).round(2)
    file = tmp_path / "prices.parquet"
    distinct, count = np.unique(price, return_counts=True)
    pl.DataFrame({"market_price": distinct, "count": count}).write_parquet(file)
    model = price_model(f"{kind}:file={file};unit=0.01")
    fitted = PriceModel.fit(kind, price, unit=0.01)
    draws = [one.draw(np.random.default_rng(1), 2000) for one in (model, fitted)]
    np.testing.assert_allclose(draws[0], draws[1], rtol=1e-6)
    with pytest.raises(ConfigError, match="fitted to a file, but zero"):
        price_model(f"gamma:file={file},zero=0.1")
    with pytest.raises(ConfigError, match="lacks file"):
        price_model("histogram")
