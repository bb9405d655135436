from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import logit
from scipy.stats import chi2

from ctrkit.bidding import Auctions, Slots
from ctrkit.bidding.simulation.feedback import FeedbackQueue
from ctrkit.bidding.strategies.base import Floats, ImpressionOutcomes
from ctrkit.errors import ConfigError, DataError
from ctrkit.policies import ThompsonPolicy
from ctrkit.policies.laplace import LastLayerPosterior, with_bias
from ctrkit.policies.logistic_bandit import DiagonalPosterior
from tests.bidding.strategies.test_exploration import NAMES, learnt, made, played, repeated

Market = Callable[..., tuple[Auctions, LastLayerPosterior]]
DRAWN = ("thompson", "thompson:exploration=0.5", "bootstrapped", "epsilon-greedy:epsilon=0.2")


def without(slots: Slots, ads: list[int]) -> Slots:
    """The slots without some of their candidates."""
    pctr = slots.click_probability.copy()
    pctr[:, ads] = 0.0
    return replace(slots, click_probability=pctr)


@pytest.mark.parametrize("text", DRAWN)
def test_ads_are_chosen_with_the_chances_that_are_told(text: str, model_market: Market) -> None:
    """A chi-square test over 200 ticks, each of its own pool: 2,000 slots alike, and what was chosen."""
    strategy, state, rest = learnt(text, model_market)
    worth = np.random.default_rng(3).uniform(1, 3, rest.click_probability.shape)
    slots = without(replace(rest.slots, value_of_click=worth), [2, 7])
    statistic, freedom = 0.0, 0
    for seed in range(200):
        bids = strategy.bid(state, repeated(slots, seed % 5, 2000), np.random.default_rng(seed))
        assert bids.chances is not None
        chance, other = bids.chances(np.array([0, 1999]))
        np.testing.assert_array_equal(chance, other)
        count = np.bincount(bids.ad, minlength=12)
        assert not count[chance == 0].any()
        # Ads that are too rare for the approximation count as one.
        usual = 2000 * chance >= 5
        seen, expected = (np.append(part[usual], part[~usual].sum()) for part in (count, 2000 * chance))
        if expected[-1] == 0:
            seen, expected = seen[:-1], expected[:-1]
        statistic += float(((seen - expected) ** 2 / expected).sum())
        freedom += len(seen) - 1
    assert freedom > 100
    assert 1e-4 < chi2.sf(statistic, freedom) < 1 - 1e-4


@pytest.mark.parametrize("text", DRAWN)
def test_chances_sum_to_1_and_are_0_where_there_is_no_candidate(text: str, model_market: Market) -> None:
    strategy, state, rest = learnt(text, model_market)
    bids = strategy.bid(state, without(rest.slots, [0, 5, 11]), np.random.default_rng(0))
    assert bids.chances is not None
    chances = bids.chances(np.arange(100))
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, rtol=1e-12)
    assert not chances[:, [0, 5, 11]].any()
    assert (chances[np.arange(100), bids.ad] > 0).all()
    rows = np.array([70, 3, 3])
    np.testing.assert_array_equal(bids.chances(rows), chances[rows])


def test_over_the_ticks_ads_are_chosen_by_the_policys_propensities(model_market: Market) -> None:
    strategy, state, rest = learnt("thompson", model_market)
    hidden = rest.slots.hidden
    assert hidden is not None
    assert isinstance(state.posterior, LastLayerPosterior)
    # The model is uncalibrated, so calibrated logit and deviation add up to one last layer.
    whole = LastLayerPosterior(strategy.posterior.mean + state.posterior.mean, state.posterior.precision)
    policy = ThompsonPolicy(lambda _, __: hidden[:3], whole, draws=40_000, seed=1)
    candidates = pl.Series([[str(k) for k in range(12)]] * 3)
    propensity = policy.probabilities(pl.DataFrame({"row": [0, 1, 2]}), candidates)
    found, rng = np.zeros((3, 12)), np.random.default_rng(0)
    for _ in range(320):
        chances = strategy.bid(state, rest.slots[:3], rng).chances
        assert chances is not None
        found += chances(np.arange(3)) / 320
    # Both count 40,000 draws or more: five deviations of their difference, at most.
    deviation = np.sqrt(2 * propensity * (1 - propensity) / 40_000)
    assert (np.abs(found - propensity) <= 5 * deviation + 1e-3).all()
    assert (propensity.max(axis=1) < 0.95).any()


@pytest.mark.parametrize("name", NAMES)
def test_what_was_explored_is_told(name: str, model_market: Market) -> None:
    strategy, state, rest = learnt(name, model_market)
    assert rest.hidden is not None
    best = (logit(rest.click_probability) + with_bias(rest.hidden) @ state.posterior.mean).argmax(axis=1)
    bids = strategy.bid(state, rest.slots, np.random.default_rng(0))
    assert bids.explored is not None
    np.testing.assert_array_equal(bids.explored, bids.ad != best)
    assert bool(bids.explored.any()) is (name != "greedy")
    capped = replace(strategy, exploration_budget=1e-9)
    over = replace(state, explored=1.0)
    held = capped.bid(over, rest.slots, np.random.default_rng(0))
    assert held.explored is not None
    assert not held.explored.any()
    np.testing.assert_array_equal(held.ad, best)
    if held.chances is not None:
        np.testing.assert_array_equal(held.chances(np.arange(100)), np.eye(12)[best])


@pytest.mark.parametrize("text", ["thompson", "bootstrapped", "epsilon-greedy:epsilon=0.5"])
@pytest.mark.parametrize("kind", ["slot", "mean", "sample", "ucb"])
def test_whether_the_bid_depends_on_the_choice(text: str, kind: str, model_market: Market) -> None:
    _, state, rest = learnt(text, model_market)
    joint = text + (":" if ":" not in text else ",") + f"bid_value={kind},initial_multiplier=0.5"
    strategy = made(joint, model_market(200, seed=2, rows=200)[1])
    first, second = (strategy.bid(state, rest.slots, np.random.default_rng(seed)) for seed in range(2))
    assert (first.ad != second.ad).any()
    differs = not np.array_equal(first.amount, second.amount)
    assert strategy.bid_depends_on_choice is differs is (kind != "slot")


@pytest.mark.parametrize("text", ["thompson", "bootstrapped", "thompson:posterior_form=diagonal"])
def test_outcomes_that_come_later_teach_the_same(text: str, model_market: Market) -> None:
    """What a queue gives out together is learnt as if it had been known at once."""
    auctions, posterior = model_market(90, seed=3, rows=200)
    strategy, queue = made(text, posterior), FeedbackQueue(1000.0)
    ad = np.random.default_rng(0).integers(12, size=90)
    assert auctions.click is not None
    click = (np.arange(90) % 7 == 0).astype(np.float64)
    outcomes = ImpressionOutcomes(auctions.slots, ad, click)
    for first in range(0, 90, 30):
        rows = slice(first, first + 30)
        queue.add(np.arange(first, first + 30.0), outcomes[rows])
    assert queue.known(999.0) is None
    later = queue.known(1089.0)
    assert later is not None
    start = strategy.start(1.0, 1000)
    at_once, delayed = strategy.learn(start, outcomes).posterior, strategy.learn(start, later).posterior
    np.testing.assert_array_equal(at_once.mean, delayed.mean)
    features = with_bias(np.eye(6))
    np.testing.assert_array_equal(at_once.deviation(features), delayed.deviation(features))
    assert not np.array_equal(at_once.mean, start.posterior.mean)


def test_learning_is_the_update_by_the_clicks_of_the_ads_shown(model_market: Market) -> None:
    auctions, posterior = model_market(300, seed=3, rows=200)
    strategy, ad = made("thompson", posterior), np.arange(300) % 12
    click = (np.arange(300) % 9 == 0).astype(np.float64)
    state = strategy.learn(strategy.start(1.0, 300), ImpressionOutcomes(auctions.slots, ad, click))
    assert auctions.hidden is not None
    shown, pctr = auctions.hidden[np.arange(300), ad], auctions.click_probability[np.arange(300), ad]
    expected = posterior.centred().update(shown, click, logit(pctr))
    np.testing.assert_allclose(state.posterior.mean, expected.mean, rtol=1e-9)


@pytest.mark.parametrize("text", [*NAMES, "thompson:posterior_form=diagonal,exploration_budget=0.02"])
def test_the_same_seed_gives_the_same_bytes(text: str, model_market: Market) -> None:
    def run() -> tuple[bytes, ...]:
        auctions, posterior = model_market(1000, seed=4, rows=200)
        budget = 0.3 * float(auctions.market_price.sum())
        found: list[bytes] = []
        for _, result, after in played(made(text, posterior), auctions, budget):
            bids = result.bids
            assert bids.explored is not None
            found += [bids.ad.tobytes(), bids.amount.tobytes(), bids.explored.tobytes()]
            found += [after.posterior.mean.tobytes(), np.float64(after.explored).tobytes()]
        return tuple(found)

    assert run() == run()


def test_the_diagonal_form_keeps_only_the_diagonal(model_market: Market) -> None:
    auctions, posterior = model_market(2000, seed=4, rows=200)
    strategy = made("thompson:posterior_form=diagonal", posterior)
    prior: Any = strategy.start(1.0, 1).posterior
    assert isinstance(prior, DiagonalPosterior)
    np.testing.assert_array_equal(prior.precision, np.diag(np.diag(posterior.precision)))
    rng = np.random.default_rng(0)
    pool: Floats = strategy.pool(prior, rng)  # type: ignore[attr-defined]
    assert pool.shape == (128, 7)
    pool = np.concatenate([strategy.pool(prior, rng) for _ in range(400)])  # type: ignore[attr-defined]
    np.testing.assert_allclose(pool.var(axis=0), 1 / np.diag(posterior.precision), rtol=0.05)
    *_, (_, _, state) = played(strategy, auctions, 0.3 * float(auctions.market_price.sum()))
    learnt_precision = state.posterior.precision  # type: ignore[attr-defined]
    assert np.count_nonzero(learnt_precision) == 7
    assert (np.diag(learnt_precision) > np.diag(prior.precision)).all()


def test_hidden_values_of_any_precision(model_market: Market) -> None:
    strategy, state, rest = learnt("thompson", model_market)
    assert rest.hidden is not None
    whole = strategy.bid(state, rest.slots, np.random.default_rng(0))
    for kind, near in ((np.float32, 1e-5), (np.float16, 1e-2)):
        slots = replace(rest.slots, hidden=rest.hidden.astype(kind))
        bids = strategy.bid(state, slots, np.random.default_rng(0))
        np.testing.assert_allclose(bids.value, whole.value, rtol=near)
        assert (bids.ad == whole.ad).mean() > 0.95


@pytest.mark.parametrize(("draws", "what"), [("0", "at least 1"), ("2.5", "whole"), ("nan", "whole")])
def test_a_pool_has_a_whole_number_of_draws(draws: str, what: str) -> None:
    with pytest.raises(ConfigError, match=f"draws is {draws} and must be (a )?{what}"):
        made(f"thompson:draws={draws}", LastLayerPosterior(np.zeros(3), np.eye(3)))


def test_a_posterior_without_a_covariance_is_refused() -> None:
    strategy = made("thompson", LastLayerPosterior(np.zeros(2), np.diag([1.0, -1.0])))
    slots = Slots(np.full((2, 3), 0.1), np.ones((2, 3)), np.ones((2, 3, 1)))
    with pytest.raises(DataError, match="not positive definite"):
        strategy.bid(strategy.start(1.0, 2), slots, np.random.default_rng(0))
