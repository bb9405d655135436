from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit

from ctrkit.bidding import Auctions, Slots, TickResult, parse_strategy, simulate
from ctrkit.bidding.market.clearing import clear
from ctrkit.bidding.strategies import ExploringBidding
from ctrkit.bidding.strategies.base import Floats, ImpressionOutcomes, Indices, of_ad
from ctrkit.bidding.strategies.bootstrapped import Ensemble
from ctrkit.bidding.strategies.exploring import ExploringState
from ctrkit.errors import ConfigError, DataError
from ctrkit.policies.laplace import LastLayerPosterior, with_bias
from ctrkit.policies.logistic_bandit import CampaignPrior

NAMES = ("thompson", "bootstrapped", "ucb", "epsilon-greedy", "greedy")
Market = Callable[..., tuple[Auctions, LastLayerPosterior]]


def made(text: str, posterior: LastLayerPosterior) -> ExploringBidding:
    strategy = parse_strategy(text, posterior)
    assert isinstance(strategy, ExploringBidding)
    return strategy


def played(
    strategy: ExploringBidding, auctions: Auctions, budget: float, tick: int = 100
) -> Iterator[tuple[ExploringState, TickResult, ExploringState]]:
    """Plays auctions by hand: the state before, what happened, and the state after each tick."""
    state, rng, spent = strategy.start(budget, len(auctions)), np.random.default_rng(0), 0.0
    for first in range(0, len(auctions), tick):
        now = auctions[first : first + tick]
        assert now.click is not None
        bids = strategy.bid(state, now.slots, rng)
        cleared = clear(bids.amount, now.market_price, budget, spent)
        won = cleared.won
        result = TickResult(now.slots, bids, won, cleared.paid)
        before, state, spent = state, strategy.update(state, result), cleared.spent
        if won.any():
            known = ImpressionOutcomes(now.slots[won], bids.ad[won], of_ad(now.click, bids.ad)[won])
            state = strategy.learn(state, known)
        yield before, result, state


def learnt(text: str, market: Market, n: int = 2000) -> tuple[ExploringBidding, ExploringState, Auctions]:
    """A strategy after n auctions, with auctions to come."""
    auctions, posterior = market(n + 100, seed=2, rows=200)
    strategy = made(text, posterior)
    *_, (_, _, state) = played(strategy, auctions[:n], 0.3 * float(auctions.market_price.sum()))
    return strategy, state, auctions[n:]


def repeated(slots: Slots, row: int, times: int) -> Slots:
    """One slot many times."""
    assert slots.hidden is not None
    parts = (slots.click_probability, slots.value_of_click, slots.hidden)
    return Slots(*(np.repeat(part[row : row + 1], times, axis=0) for part in parts))


def logits_of(posterior: Any, slots: Slots) -> tuple[Floats, Floats, Floats]:
    """Features, and mean and deviation of the logit, with the covariance written out."""
    assert slots.hidden is not None
    features = with_bias(slots.hidden)
    variance = np.einsum("nki,ij,nkj->nk", features, np.linalg.inv(posterior.precision), features)
    return features, logit(slots.click_probability) + features @ posterior.mean, np.sqrt(variance)


def test_epsilon_greedy_chooses_the_best_but_for_epsilon(model_market: Market) -> None:
    strategy, state, rest = learnt("epsilon-greedy:epsilon=0.3", model_market)
    pctr = rest.click_probability.copy()
    pctr[:, 9:] = 0.0
    slots = Slots(pctr, rest.value_of_click, rest.hidden)
    ads = strategy.bid(state, repeated(slots, 0, 50_000), np.random.default_rng(0)).ad
    with np.errstate(divide="ignore"):
        best = int(logits_of(state.posterior, slots)[1][0].argmax())
    expected = np.where(np.arange(12) < 9, 0.3 / 9, 0.0)
    expected[best] += 0.7
    np.testing.assert_allclose(np.bincount(ads, minlength=12) / 50_000, expected, atol=0.01)
    assert not (ads >= 9).any()


def test_ucb_chooses_what_could_be_best(model_market: Market) -> None:
    strategy, state, rest = learnt("ucb:width=2", model_market)
    _, mean, spread = logits_of(state.posterior, rest.slots)
    ads = strategy.bid(state, rest.slots, np.random.default_rng(0)).ad
    np.testing.assert_array_equal(ads, (mean + 2 * spread).argmax(axis=1))
    assert (ads != mean.argmax(axis=1)).any()


@pytest.mark.parametrize("text", ["ucb:width=0", "thompson:exploration=0", "epsilon-greedy:epsilon=0"])
def test_without_exploration_all_are_greedy(text: str, model_market: Market) -> None:
    auctions, posterior = model_market(2000, seed=3, rows=200)
    budget = 0.3 * float(auctions.market_price.sum())
    first, second = (simulate(auctions, [made(one, posterior)], budget).events for one in (text, "greedy"))
    assert first["ad"].equals(second["ad"])
    assert first["bid"].equals(second["bid"])


@pytest.mark.parametrize("text", ["thompson", "ucb:width=1.5", "bootstrapped"])
def test_the_value_that_is_bid(text: str, model_market: Market) -> None:
    _, state, rest = learnt(text, model_market)
    worth = np.random.default_rng(5).uniform(1, 4, rest.click_probability.shape)
    slots = Slots(rest.click_probability, worth, rest.hidden)
    values: dict[str, Floats] = {}
    ads: dict[str, Indices] = {}
    for kind in ("slot", "mean", "sample", "ucb"):
        joint = text + (":" if ":" not in text else ",") + f"bid_value={kind},initial_multiplier=0.5"
        strategy = made(joint, model_market(200, seed=2, rows=200)[1])
        bids = strategy.bid(state, slots, np.random.default_rng(7))
        values[kind], ads[kind] = bids.value, bids.ad
        assert bids.multiplier is not None
        np.testing.assert_allclose(bids.amount, bids.value / bids.multiplier)
    assert all((one == ads["slot"]).all() for one in ads.values())
    if isinstance(state.posterior, Ensemble):
        assert rest.hidden is not None
        each = with_bias(rest.hidden) @ state.posterior.weights.T
        calibrated = logit(rest.click_probability)
        mean, spread = calibrated + each.mean(axis=2), each.std(axis=2)
    else:
        _, mean, spread = logits_of(state.posterior, slots)
    width = 1.5 if text.startswith("ucb") else 1.0
    np.testing.assert_allclose(values["slot"], (expit(mean) * worth).max(axis=1))
    np.testing.assert_allclose(values["mean"], of_ad(expit(mean) * worth, ads["slot"]))
    np.testing.assert_allclose(values["ucb"], of_ad(expit(mean + width * spread) * worth, ads["slot"]))
    if text.startswith("ucb"):
        np.testing.assert_allclose(values["sample"], values["ucb"])
    else:  # the highest of noisy values: the winner's curse
        assert values["sample"].mean() > values["slot"].mean() > values["mean"].mean()


def test_the_ensemble_begins_as_the_prior_and_becomes_the_posterior() -> None:
    rng = np.random.default_rng(0)
    prior = LastLayerPosterior(np.array([0.2, -0.1, -3.0]), np.diag([2.0, 8.0, 4.0]))
    ensemble, exact = Ensemble.of(prior, 400), prior
    features = with_bias(rng.normal(size=(50, 2)))
    np.testing.assert_allclose(ensemble.mean, prior.mean, atol=1e-12)
    np.testing.assert_allclose(ensemble.deviation(features), prior.deviation(features), rtol=0.15)
    for _ in range(4):
        hidden = rng.normal(size=(1000, 2))
        offset = rng.normal(0, 0.3, 1000)
        clicks = (rng.random(1000) < expit(hidden @ [0.7, -0.3] - 2.5 + offset)).astype(float)
        ensemble, exact = ensemble.update(hidden, clicks, offset), exact.update(hidden, clicks, offset)
    # var = Σ(Λ + F)Σ = Σ: the drawn priors bring Λ, the bootstrap F, the curvature of the clicks.
    np.testing.assert_allclose(ensemble.deviation(features), exact.deviation(features), rtol=0.2)
    np.testing.assert_allclose(ensemble.mean, exact.mean, atol=float(exact.deviation(np.eye(3)).min()) / 3)


@pytest.mark.parametrize("name", NAMES)
def test_what_exploring_lost_is_counted(name: str, model_market: Market) -> None:
    auctions, posterior = model_market(1500, seed=4, rows=200)
    strategy, lost = made(f"{name}:exploration_budget=100", posterior), 0.0
    for before, result, after in played(strategy, auctions, 0.3 * float(auctions.market_price.sum())):
        assert result.slots.hidden is not None
        for i in np.flatnonzero(result.won):
            features = np.append(result.slots.hidden[i], np.ones((12, 1)), axis=1)
            pctr = result.slots.click_probability[i]
            p = 1 / (1 + (1 - pctr) / pctr * np.exp(-features @ before.posterior.mean))
            assert result.bids.multiplier is not None
            lost += (p.max() - p[result.bids.ad[i]]) / result.bids.multiplier
        assert after.explored == pytest.approx(lost, rel=1e-6, abs=1e-12)
    assert bool(lost > 0) is (name != "greedy")
    assert strategy.restart(after, 1.0, 10).explored == 0
    assert strategy.restart(after, 1.0, 10).posterior is after.posterior


def test_exploring_keeps_to_its_budget(model_market: Market) -> None:
    auctions, posterior = model_market(8000, seed=4, rows=200)
    budget = 0.3 * float(auctions.market_price.sum())
    costs = {}
    for share in (100, 0.01):
        strategy, greedy = made(f"thompson:exploration_budget={share}", posterior), 0
        for k, (before, result, after) in enumerate(played(strategy, auctions, budget)):
            over = before.explored > 0.01 * budget * k * 100 / 8000
            assert strategy.may_explore(before) is (share == 100 or not over)
            if share < 1 and over:
                greedy += 1
                np.testing.assert_array_equal(
                    result.bids.ad, logits_of(before.posterior, result.slots)[1].argmax(axis=1)
                )
                assert after.explored == before.explored
        costs[share] = after.explored / budget
        assert (greedy > 0) is (share < 1)
    assert costs[100] > 0.02
    assert 0.005 < costs[0.01] < 0.012


@pytest.mark.parametrize("name", NAMES)
def test_a_tick_changes_nothing_within_itself(name: str, model_market: Market) -> None:
    strategy, state, rest = learnt(name, model_market)
    whole = strategy.bid(state, rest.slots, np.random.default_rng(0)).value
    parts = [
        strategy.bid(state, part.slots, np.random.default_rng(0)).value for part in (rest[:30], rest[30:])
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_taken_and_given_back(name: str) -> None:
    posterior = LastLayerPosterior(np.zeros(3), np.eye(3))
    extra = {"bootstrapped": ",members=4", "ucb": ",width=0.5", "epsilon-greedy": ",epsilon=0.5"}.get(
        name, ""
    )
    strategy = made(f"{name}:bid_value=ucb,exploration_budget=0.25,step=0.5{extra}", posterior)
    assert strategy.bid_value == "ucb"
    assert "'" not in strategy.label
    assert made(strategy.label, posterior) == strategy
    assert "members" not in extra or len(strategy.start(1.0, 1).posterior.members) == 4  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=f"{name}.*bid_value: there is no 'means'") as error:
        made(f"{name}:bid_value=means", posterior)
    assert "Did you mean 'mean'" in (error.value.hint or "")
    with pytest.raises(ConfigError, match="no model with a posterior"):
        parse_strategy(name)
    slots = Slots(np.full((2, 3), 0.1), np.ones((2, 3)))
    with pytest.raises(DataError, match=f"{name}.*last layer"):
        strategy.bid(strategy.start(1.0, 2), slots, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epsilon-greedy:epsilon=1.5", "epsilon is 1.5 and must be at most 1"),
        ("bootstrapped:members=1", "members is 1 and must be at least 2"),
        ("bootstrapped:members=2.5", "members is 2.5 and must be a whole number"),
        ("bootstrapped:members=inf", "members is inf"),
        ("ucb:exploration_budget=0", "exploration_budget is 0 and must be above 0"),
        ("greedy:epsilon=0.1", "unknown key 'epsilon'"),
    ],
)
def test_parameters_out_of_range(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        parse_strategy(text, LastLayerPosterior(np.zeros(3), np.eye(3)))
    assert error.value.hint


RATE = 0.01


def campaign(
    n: int, seed: int, known: float | None, ads: int, width: int
) -> tuple[Auctions, LastLayerPosterior, Floats]:
    """Ads with weights and an intercept each, about 1 % clicks, second price; the true probabilities.

    Args:
        known: standard error of each weight of a calibrated model; None for a cold start, where only the
            population's rate and how far ads differ are known.
    """
    rng = np.random.default_rng(seed)
    weight = np.concatenate(
        [rng.normal(0, 0.5, (ads, width)), logit(RATE) + rng.normal(0, 0.5, (ads, 1))], axis=1
    )
    context = with_bias(rng.normal(size=(n, width)))
    true = expit(context @ weight.T)
    hidden = np.zeros((n, ads, ads * (width + 1)), np.float32)
    for k in range(ads):
        hidden[:, k, k * (width + 1) : (k + 1) * (width + 1)] = context
    if known is None:
        pctr, population = np.full((n, ads), RATE), CampaignPrior(RATE, precision=4.0)
    else:
        pctr = expit(context @ (weight + rng.normal(0, known, weight.shape)).T)
        population = CampaignPrior(RATE, precision=known**-2, impressions=1e6)
    click = (rng.random((n, 1)) < true).astype(float)
    price = rng.lognormal(2, 0.8, n)
    auctions = Auctions(
        price, pctr, np.ones((n, ads)), hidden=hidden, click=click, true_click_probability=true
    )
    return auctions, population.prior(ads * (width + 1)), true


def shares(texts: tuple[str, ...], n: int, seed: int, known: float | None, ads: int, width: int) -> Floats:
    """Value of each strategy over that of dual pacing with the true probabilities, at 10 % of the cost."""
    auctions, posterior, true = campaign(n, seed, known, ads, width)
    budget = 0.1 * float(auctions.market_price.sum())
    oracle = simulate(Auctions(**{**vars(auctions), "click_probability": true}), ["dual"], budget)
    result = simulate(auctions, [made(text, posterior) for text in texts], budget)
    assert all(one.budget_used > 0.98 for one in result.strategies)
    return np.array([one.value for one in result.strategies]) / oracle.strategies[0].value


@pytest.mark.slow
def test_from_a_cold_start_exploring_wins_and_bids_the_slots_value() -> None:
    texts = ("greedy", "thompson", "thompson:bid_value=mean")
    greedy, thompson, mean = np.mean([shares(texts, 30_000, seed, None, 12, 6) for seed in range(2)], axis=0)
    assert thompson > greedy + 0.15
    assert thompson > mean + 0.03


@pytest.mark.slow
def test_with_a_calibrated_model_exploring_costs_little_and_its_cap_makes_it_less() -> None:
    texts = ("greedy", "thompson", "thompson:exploration_budget=0.01")
    greedy, thompson, capped = np.mean([shares(texts, 30_000, seed, 0.15, 8, 4) for seed in range(3)], axis=0)
    assert greedy > 0.96
    assert thompson > greedy - 0.02
    assert capped > greedy - 0.01
