from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from ctrkit.bidding import (
    Auctions,
    LinearBidding,
    Slots,
    TickResult,
    TruthfulBidding,
    parse_strategy,
    simulate,
)
from ctrkit.errors import ConfigError, DataError
from ctrkit.policies.laplace import LastLayerPosterior

RNG = np.random.default_rng(0)
SLOTS = Slots(np.array([[0.1, 0.2], [0.3, 0.1]]), np.array([[10.0, 4.0], [1.0, 5.0]]))


@pytest.mark.parametrize(
    ("text", "says", "mend"),
    [
        ("duall", "unknown bid strategy 'duall'", "Did you mean 'dual'"),
        ("", "unknown bid strategy ''", "Known are"),
        ("linear:base_bit=1", "no parameter 'base_bit'", "Did you mean 'base_bid'"),
        ("linear:base_bid", "not of the form key=value", "base_bid=1"),
        ("linear:base_bid=ten", "'ten', which is no number", "base_bid=1"),
        ("linear:base_bid=1,base_bid=2", "given twice", "Leave one out"),
        ("truthful:value_per_click=0", "must be above 0", "leave it out"),
        ("dual:posterior=1", "no parameter 'posterior'", "Known are"),
        ("thompson", "no model with a posterior", "ctrkit train"),
    ],
)
def test_a_text_that_names_no_strategy(text: str, says: str, mend: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        parse_strategy(text)
    assert mend in (error.value.mend or "")


def test_truthful_bids_the_value_of_the_best_ad() -> None:
    bids = TruthfulBidding().bid(None, SLOTS, RNG)
    assert bids.ad.tolist() == [0, 1]
    assert bids.amount.tolist() == [1.0, 0.5]


def test_truthful_takes_a_value_per_click() -> None:
    bids = TruthfulBidding(value_per_click=100.0).bid(None, SLOTS, RNG)
    assert bids.amount.tolist() == [10.0, 10.0]


def test_linear_scales_its_base_bid() -> None:
    strategy = LinearBidding(base_bid=8.0, average_ctr=0.2)
    assert strategy.bid(strategy.start(1.0, 1), SLOTS, RNG).amount.tolist() == [4.0, 4.0]


def test_linear_by_default_finds_its_base_bid_in_the_first_tenth_and_keeps_it(
    market: Callable[..., Auctions],
) -> None:
    auctions = market(20_000, seed=2)
    budget = 0.1 * float(auctions.market_price.sum())
    result = simulate(auctions, ["linear"], 2 * budget, episode_length=10_000, max_bid=1e9)
    # The bid a click, wherever the budget's remainder did not cap it.
    events = result.events.with_columns(
        left=2 * budget - (pl.col("spend").cum_sum().over("episode") - pl.col("spend"))
    )
    rate = (events["bid"] / auctions.click_probability[:, 0]).filter(events["bid"] < 0.99 * events["left"])
    assert rate.head(1000).n_unique() > 10
    assert rate.tail(15_000).max() == pytest.approx(rate.tail(15_000).min(), rel=1e-9)
    assert (result.strategies[0].share_of_optimum or 0) > 0.9


def test_linear_takes_the_mean_click_probability_seen_so_far() -> None:
    strategy = LinearBidding(base_bid=6.0)
    state = strategy.start(1000.0, 100)
    bids = strategy.bid(state, SLOTS, RNG)
    np.testing.assert_allclose(bids.amount, [6.0, 6.0])
    after = strategy.update(state, TickResult(SLOTS, bids, np.zeros(2, np.bool_), np.zeros(2), None))
    higher = Slots(np.full((2, 1), 0.4), np.ones((2, 1)))
    np.testing.assert_allclose(strategy.bid(after, higher, RNG).amount, 6.0 * 0.4 / 0.25)


def test_thompson_needs_what_the_last_layer_reads() -> None:
    posterior = LastLayerPosterior(np.zeros(3), np.eye(3))
    auctions = Auctions(np.ones(2), SLOTS.click_probability, SLOTS.value_of_click)
    with pytest.raises(DataError, match="last layer reads"):
        simulate(auctions, [parse_strategy("thompson", posterior)], 1.0)


def test_thompson_begins_at_the_calibrated_value(
    model_market: Callable[..., tuple[Auctions, LastLayerPosterior]],
) -> None:
    auctions, posterior = model_market(200)
    # A calibrator moved the probabilities away from what the last layer says.
    moved = Slots(auctions.click_probability**1.1, auctions.value_of_click, auctions.hidden)
    strategy = parse_strategy("thompson", posterior)
    bids = strategy.bid(strategy.start(100.0, 200), moved, np.random.default_rng(0))
    np.testing.assert_allclose(bids.value, moved.value.max(axis=1), rtol=1e-9)


def test_thompson_without_exploration_begins_greedy_and_with_it_explores(
    model_market: Callable[..., tuple[Auctions, LastLayerPosterior]],
) -> None:
    auctions, posterior = model_market(200)
    best = auctions.click_probability.argmax(axis=1)

    def ads(text: str) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        strategy = parse_strategy(text, posterior)
        return strategy.bid(strategy.start(100.0, 200), auctions.slots, np.random.default_rng(0)).ad

    np.testing.assert_array_equal(ads("thompson:exploration=0"), best)
    assert 0.1 < (ads("thompson") != best).mean() < 0.9


def test_thompson_chooses_ads_as_often_as_they_are_best(
    model_market: Callable[..., tuple[Auctions, LastLayerPosterior]],
) -> None:
    auctions, posterior = model_market(1)
    assert auctions.hidden is not None
    same = Slots(
        *(
            np.repeat(x, 20_000, axis=0)
            for x in (auctions.click_probability, np.ones((1, 12)), auctions.hidden)
        )
    )
    strategy = parse_strategy("thompson", posterior)
    ads = strategy.bid(strategy.start(1.0, 1), same, np.random.default_rng(1)).ad
    # By the multivariate normal of the 12 scores, drawn without the weights.
    features = np.concatenate([auctions.hidden[0], np.ones((12, 1))], axis=1)
    covariance = features @ np.linalg.inv(posterior.precision) @ features.T
    scores = np.random.default_rng(2).multivariate_normal(features @ posterior.mean, covariance, 20_000)
    expected = np.bincount(scores.argmax(axis=1), minlength=12) / 20_000
    np.testing.assert_allclose(np.bincount(ads, minlength=12) / 20_000, expected, atol=0.02)


def test_thompson_learns_what_a_fixed_model_never_does(
    model_market: Callable[..., tuple[Auctions, LastLayerPosterior]],
) -> None:
    learnt, fixed = [], []
    for seed in range(4):
        auctions, posterior = model_market(10_000, seed=seed, rows=200)
        budget = 0.2 * float(auctions.market_price.sum())
        result = simulate(auctions, ["dual", parse_strategy("thompson", posterior)], budget)
        fixed.append(result.strategies[0].share_of_optimum or 0)
        learnt.append(result.strategies[1].share_of_optimum or 0)
    assert np.mean(learnt) > np.mean(fixed) + 0.05
