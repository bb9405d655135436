"""The synthetic market against what it promises: rates, posterior, prices, users, time, same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from ctrkit.bidding import Auctions
from ctrkit.bidding.supply import TRAFFIC, SyntheticMarket, parse_market, price_model
from ctrkit.errors import ConfigError

Gathered = Callable[[Iterable[Auctions]], Auctions]
Content = Callable[[Auctions], dict[str, object]]
SEEDS = 150


def small(**settings: object) -> SyntheticMarket:
    return SyntheticMarket(**{"ads": 3, "dimensions": 4, **settings})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sample() -> tuple[SyntheticMarket, Auctions]:
    market = SyntheticMarket(
        auctions=60_000, ads=4, dimensions=5, conversion_rate=0.2, value_spread=0.3, seed=5
    )
    return market, next(market.chunks(60_000))


def test_all_columns_are_sound(sample: tuple[SyntheticMarket, Auctions]) -> None:
    _, auctions = sample
    auctions.check()
    assert (auctions.conversion <= auctions.click).all()


def test_clicks_and_money_follow_the_truth(sample: tuple[SyntheticMarket, Auctions]) -> None:
    market, auctions = sample
    chance = auctions.true_click_probability
    # The rate is set on 4,096 other slots, whose mean has an error too.
    slots = chance.mean(axis=1)
    error = slots.std() * np.sqrt(1 / 4096 + 1 / len(slots))
    assert abs(slots.mean() - market.click_rate) < 4 * error
    assert abs((auctions.click - chance).sum()) < 4 * np.sqrt((chance * (1 - chance)).sum())
    # Also where the truth is high: clicks are no draw of the mean rate.
    top = chance > np.quantile(chance, 0.9)
    assert abs((auctions.click - chance)[top].sum()) < 4 * np.sqrt((chance * (1 - chance))[top].sum())
    logits = auctions.hidden @ market.true_weights[:-1] + market.true_weights[-1]
    np.testing.assert_allclose(chance, expit(logits), rtol=1e-6)  # hidden in single precision
    np.testing.assert_allclose(auctions.true_value, chance * auctions.value_of_click)
    clicks = auctions.click.sum()
    assert abs(auctions.conversion.sum() - 0.2 * clicks) < 4 * np.sqrt(clicks * 0.2 * 0.8)
    surplus = (auctions.earned - auctions.true_value).sum(axis=1)
    assert abs(surplus.mean()) < 4 * surplus.std() / np.sqrt(len(surplus))


def test_without_conversions_a_click_brings_its_value() -> None:
    auctions = small().history(2000)
    assert auctions.conversion is None
    np.testing.assert_array_equal(auctions.earned, auctions.click * auctions.value_of_click)
    np.testing.assert_array_equal(auctions.value_of_click, 1.0)


def test_the_truth_is_a_draw_from_the_posterior() -> None:
    distance, inside = [], []
    for seed in range(SEEDS):
        market = small(seed=seed, training=20_000)
        away = market.true_weights - market.posterior.mean
        distance.append(away @ market.posterior.precision @ away)
        mean, deviation = market.posterior.score_moments(market.history(20).hidden)
        truth = market.history(20).hidden @ market.true_weights[:-1] + market.true_weights[-1]
        inside.append((np.abs(truth - mean) < 1.6449 * deviation).mean())
    assert stats.kstest(distance, stats.chi2(5).cdf).pvalue > 1e-3
    # Slots of one market go together, so the error is that of markets.
    assert abs(np.mean(inside) - 0.9) < 4 * np.std(inside) / np.sqrt(SEEDS)


@pytest.mark.parametrize("training", [0, 5000, 1_000_000])
def test_weights_are_as_large_as_the_signal_whatever_was_learnt(training: int) -> None:
    square = [
        (small(seed=seed, training=training, signal=0.6).true_weights[:-1] ** 2).sum()
        for seed in range(SEEDS)
    ]
    # Of 4 weights of variance 0.36 / 4 each.
    assert abs(np.mean(square) - 0.36) < 4 * np.std(square) / np.sqrt(SEEDS)


@pytest.mark.parametrize(("error", "factor"), [(0.0, 0.0), (3.0, 3.0)])
def test_model_error_scales_how_far_the_truth_is(error: float, factor: float) -> None:
    right, wrong = (small(seed=2, model_error=one) for one in (1.0, error))
    np.testing.assert_allclose(
        (wrong.true_weights - wrong.posterior.mean)[:-1],
        factor * (right.true_weights - right.posterior.mean)[:-1],
        atol=1e-12,
    )


def test_the_posterior_is_that_of_its_training() -> None:
    # With the truth at the posterior mean, the model's rate is the true one too.
    market = small(training=50_000, seed=3, model_error=0.0)
    cold = small(training=0, seed=3)
    rows = market.history(30_000)
    features = np.concatenate([rows.hidden, np.ones((*rows.click.shape, 1))], axis=2).reshape(-1, 5)
    p = rows.click_probability.reshape(-1)
    learnt = (features * (p * (1 - p))[:, None]).T @ features / len(p) * 50_000
    size = np.sqrt(np.outer(np.diag(learnt), np.diag(learnt)))
    difference = (market.posterior.precision - cold.posterior.precision - learnt) / size
    assert np.abs(difference).max() < 0.1
    # A cold model says the same of every slot.
    assert np.ptp(cold.history(100).click_probability) < 1e-12


def test_prices_keep_their_mean_and_go_with_the_slot(sample: tuple[SyntheticMarket, Auctions]) -> None:
    _, auctions = sample
    log_price, best = np.log(auctions.market_price), np.log(auctions.true_value.max(axis=1))
    fit = stats.linregress(best, log_price)
    assert abs(fit.slope - 0.5) < 4 * fit.stderr
    assert auctions.market_price.mean() == pytest.approx(np.exp(-4 + 0.5), rel=0.05)
    # What the slot does not explain is the price model's.
    residual = log_price - 0.5 * best
    assert stats.kstest((residual - residual.mean()), stats.norm.cdf).pvalue > 1e-3


def test_slots_are_priced_by_competitors() -> None:
    market = small(auctions=20_000, slots=2, competitors=4, price_elasticity=0.0)
    auctions = next(market.chunks(20_000))
    auctions.check()
    law = stats.lognorm(s=1.0, scale=np.exp(-4))
    assert stats.kstest(auctions.market_price, law.cdf).pvalue > 1e-3
    # Second of 4, of the distribution G = F^(1/4): 4 G³ - 3 G⁴.
    below = law.cdf(auctions.slot_price[:, 1]) ** 0.25
    assert stats.kstest(4 * below**3 - 3 * below**4, "uniform").pvalue > 1e-3


def test_few_users_make_much_of_the_traffic(sample: tuple[SyntheticMarket, Auctions]) -> None:
    market, auctions = sample
    for k in (20, 200, 5000):
        share = np.sqrt(k / market.users)
        found = (auctions.user < k).mean()
        assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / len(auctions))
    assert small(users=0).history(10).user is None


def test_auctions_are_a_poisson_process_of_the_shape() -> None:
    market = small(auctions=30_000, days=2.0, traffic=TRAFFIC["day"], start=1_709_546_400.0)
    time = next(market.chunks(30_000)).timestamp
    assert (np.diff(time) >= 0).all()
    assert time[0] >= market.start
    assert time[-1] <= market.start + 2 * 86_400
    # Over whole days: counts by hour of the day, and uniform within the hours.
    weight = TRAFFIC["day"].weight
    found = np.bincount((time // 3600 % 24).astype(int), minlength=24)
    assert stats.chisquare(found, weight / weight.sum() * 30_000).pvalue > 1e-3
    assert stats.kstest(time % 3600 / 3600, "uniform").pvalue > 1e-3
    # Gaps in one hour of even traffic are exponential: no gap is short or long because of the blocks.
    flat = next(small(auctions=30_000, traffic=TRAFFIC["flat"]).chunks(30_000)).timestamp
    gaps = np.diff(flat)
    assert stats.kstest(gaps / gaps.mean(), "expon").pvalue > 1e-3


def test_history_is_another_sample_of_the_time_before(content: Content) -> None:
    market = small(auctions=500, days=1.5)
    before, now = market.history(500), next(market.chunks(500))
    assert before.timestamp[0] >= market.start - 2 * 86_400
    assert before.timestamp[-1] <= market.start - 0.5 * 86_400
    assert not np.isin(before.market_price, now.market_price).any()
    assert content(market.history(500)) == content(before)


@pytest.mark.parametrize("size", [1000, 8192, 9000, 30_000])
def test_the_chunks_do_not_matter(gathered: Gathered, content: Content, size: int) -> None:
    market = small(auctions=20_000, conversion_rate=0.1, slots=2)
    chunks = list(small(auctions=20_000, conversion_rate=0.1, slots=2).chunks(size))
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert content(gathered(chunks)) == content(next(market.chunks(20_000)))


def test_the_seed_is_all_there_is(content: Content) -> None:
    one, same, other = (next(small(auctions=300, seed=seed).chunks(300)) for seed in (1, 1, 2))
    assert content(one) == content(same)
    assert content(one) != content(other)


def test_reads_texts() -> None:
    text = "auctions=1e5,ads=3,prices=gamma:mean=50;shape=2,slots=2,traffic=week,days=7,model_error=0.5"
    assert parse_market(text) == SyntheticMarket(
        auctions=100_000, ads=3, prices=price_model("gamma:mean=50,shape=2"), slots=2,
        traffic=TRAFFIC["week"], days=7.0, model_error=0.5,
    )  # fmt: skip
    assert parse_market("") == SyntheticMarket()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("auction=5", "Did you mean 'auctions'"),
        ("auctions=0", "at least 1"),
        ("auctions=2.5", "must be a whole number"),
        ("ads=x", "ads is 'x' and must be a whole number"),
        ("click_rate=1", "below 1"),
        ("signal=0", "above 0"),
        ("conversion_rate=1.1", "at most 1"),
        ("slots=3,competitors=2", "at least 3"),
        ("traffic=weak", "Did you mean 'week'"),
        ("prices=gamma:mean=50", "lacks shape"),
        ("seed=-1", "at least 0"),
        ("days=0", "above 0"),
    ],
)
def test_says_what_is_wrong_with_a_text(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_market(text)


def test_refuses_chunks_of_nothing() -> None:
    with pytest.raises(ConfigError, match="size of a chunk"):
        next(small().chunks(0))
    with pytest.raises(ConfigError, match="history"):
        small().history(0)
