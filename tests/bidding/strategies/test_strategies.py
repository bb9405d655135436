from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit

from ctrkit.bidding import (
    AuctionRule,
    Auctions,
    CampaignTerms,
    FrequencyCap,
    LinearBidding,
    Slots,
    TickResult,
    TruthfulBidding,
    parse_strategy,
    simulate,
)
from ctrkit.bidding.strategies import (
    AuctionHistory,
    ConstantBidding,
    FixedMultiplierBidding,
    LiftBidding,
    Ortb1Bidding,
    Ortb2Bidding,
    RiskAwareBidding,
    UniformRandomBidding,
)
from ctrkit.bidding.strategies.ortb import OrtbBidding, fit_median_price
from ctrkit.bidding.strategies.tuning import best_scale
from ctrkit.errors import ConfigError, DataError
from ctrkit.policies.laplace import LastLayerPosterior

RNG = np.random.default_rng(0)
SLOTS = Slots(np.array([[0.1, 0.2], [0.3, 0.1]]), np.array([[10.0, 4.0], [1.0, 5.0]]))


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("duall", "there is no strategy 'duall'", "Did you mean 'dual'"),
        ("", "there is no strategy ''", "Known names"),
        ("linear:base_bit=1", "strategy 'linear': unknown key 'base_bit'", "Did you mean 'base_bid'"),
        ("linear:base_bid", "not of the form key=value", "Write base_bid=VALUE"),
        ("linear:base_bid=ten", "strategy 'linear': base_bid is 'ten' and must be a number", "leave it out"),
        ("linear:base_bid=1,base_bid=2", "given twice", "Leave one out"),
        ("truthful:value_per_click=0", "must be above 0", "leave it out"),
        ("dual:posterior=1", "unknown key 'posterior'", "Known names"),
        ("dual:plan=1", "unknown key 'plan'", "Known names"),
        ("thompson", "no model with a posterior", "ctrkit train"),
    ],
)
def test_a_text_that_names_no_strategy(text: str, says: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        parse_strategy(text)
    assert hint in (error.value.hint or "")


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
    result = simulate(auctions, ["linear"], CampaignTerms(2 * budget, max_bid=1e9), episode_length=10_000)
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
    after = strategy.update(state, TickResult(SLOTS, bids, np.zeros(2, np.bool_), np.zeros(2)))
    higher = Slots(np.full((2, 1), 0.4), np.ones((2, 1)))
    np.testing.assert_allclose(strategy.bid(after, higher, RNG).amount, 6.0 * 0.4 / 0.25)


def test_thompson_needs_what_the_last_layer_reads() -> None:
    posterior = LastLayerPosterior(np.zeros(3), np.eye(3))
    auctions = Auctions(np.ones(2), SLOTS.click_probability, SLOTS.value_of_click)
    with pytest.raises(DataError, match="last layer"):
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
        *(np.repeat(x, 100, axis=0) for x in (auctions.click_probability, np.ones((1, 12)), auctions.hidden))
    )
    strategy = parse_strategy("thompson", posterior)
    # Over 200 ticks, each with a pool of its own.
    state, rng = strategy.start(1.0, 1), np.random.default_rng(1)
    ads = np.concatenate([strategy.bid(state, same, rng).ad for _ in range(200)])
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


def test_constant_and_random_bids() -> None:
    constant, uniform = ConstantBidding(7.0), UniformRandomBidding(8.0)
    assert constant.bid(constant.start(1.0, 1), SLOTS, RNG).amount.tolist() == [7.0, 7.0]
    many = Slots(np.full((20_000, 1), 0.1), np.ones((20_000, 1)))
    amount = uniform.bid(uniform.start(1.0, 1), many, np.random.default_rng(0)).amount
    assert 0.0 <= amount.min() < 0.01 < 7.99 < amount.max() <= 8.0
    assert amount.mean() == pytest.approx(4.0, rel=0.02)
    assert amount.var() == pytest.approx(64 / 12, rel=0.03)


def test_the_fixed_multiplier_of_hindsight_buys_the_optimum(market: Callable[..., Auctions]) -> None:
    auctions = market(20_000, seed=8)
    budget = 0.1 * float(auctions.market_price.sum())
    oracle = FixedMultiplierBidding().tuned(
        AuctionHistory.from_auctions(auctions), CampaignTerms(budget), 20_000
    )
    assert oracle.bid(oracle.start(1.0, 1), SLOTS, RNG).amount[0] == pytest.approx(
        1.0 / (oracle.multiplier or 0)
    )
    assert (simulate(auctions, [oracle], budget).strategies[0].share_of_optimum or 0) > 0.9995


@pytest.mark.parametrize(
    "terms",
    [
        {}, {"rule": AuctionRule("second", 40.0)}, {"rule": AuctionRule("second", 10.0, 60.0)},
        {"max_bid": 25.0}, {"rule": AuctionRule("first")},
        {"integer_bids": True, "rule": AuctionRule(wins_ties=False)},
    ],
)  # fmt: skip
def test_the_tuned_scale_is_the_best_of_all(market: Callable[..., Auctions], terms: dict[str, Any]) -> None:
    """Against a replay, auction by auction, of a fine grid of constant bids; the last episode is short."""
    history = AuctionHistory.from_auctions(market(650, seed=4))
    rho = 0.15 * float(history.market_price.mean())
    on = CampaignTerms(200 * rho, **terms)

    def value(bid: float) -> float:
        left, total = 0.0, 0.0
        for k, (price, worth) in enumerate(zip(history.market_price, history.value, strict=True)):
            left = (200 if k < 600 else 50) * rho if k % 200 == 0 else left
            own = min(bid, on.largest_bid, left)
            own = float(np.floor(own)) if on.integer_bids else own
            if own >= on.rule.hard_floor and (own >= price if on.rule.wins_ties else own > price):
                cost = max(price, on.rule.hard_floor, on.rule.soft_floor)
                cost = own if on.rule.price == "first" or own < on.rule.soft_floor else cost
                left, total = left - cost, total + worth
        return total

    scale = best_scale(lambda scale: np.full(650, scale), history, on, 200)
    best = max(value(bid) for bid in np.arange(1.0, 120.0, 0.25))
    assert 0.96 * best <= value(scale) <= best * (1 + 1e-12)
    assert ConstantBidding().tuned(history, on, 200).bid_amount == scale


def test_a_history_is_replayed_with_its_slots_and_users() -> None:
    rng = np.random.default_rng(0)
    slot_price = -np.sort(-rng.lognormal(2, 1, (400, 2)), axis=1)
    auctions = Auctions(
        slot_price[:, 0],
        np.full((400, 1), 0.01),
        np.ones((400, 1)),
        user=np.arange(400) % 20,
        slot_price=slot_price,
    )
    page, cap = AuctionRule("gsp", slot_effects=(1.0, 0.5)), FrequencyCap(2)
    for terms in (CampaignTerms(300.0, rule=page), CampaignTerms(300.0, frequency_cap=cap)):
        strategy = ConstantBidding().tuned(AuctionHistory.from_auctions(auctions), terms, 400)
        (found,) = simulate(auctions, [strategy], terms).strategies
        tried = [
            simulate(auctions, [ConstantBidding(bid)], terms).strategies[0].value
            for bid in np.geomspace(1, 60, 40)
        ]
        assert found.value >= 0.97 * max(tried)
    without = replace(auctions, user=None)
    with pytest.raises(DataError, match="needs the user of each auction"):
        ConstantBidding().tuned(
            AuctionHistory.from_auctions(without), CampaignTerms(300.0, frequency_cap=cap), 400
        )


@pytest.mark.slow
def test_the_search_is_over_the_first_tenth_of_all_auctions_and_keeps_their_mean(
    market: Callable[..., Auctions],
) -> None:
    auctions = market(30_000, seed=5)
    budget = 0.1 * float(auctions.market_price.mean()) * 500
    found = simulate(auctions, ["linear", "rlb"], budget, episode_length=500)
    linear, rlb = found.strategies
    events = found.events.filter(strategy="linear")
    rate = (events["bid"] / auctions.click_probability[:, 0]).to_numpy()
    last = rate[20_000:].max()  # not capped by what is left
    assert np.count_nonzero(np.isclose(rate[3000:], last)) > 0.8 * 27_000
    # Of the fifteen hundred auctions before, in the mean of whose logarithms single ones weigh little.
    own = [1.0 / one for one in rate[1500:3000][rate[1500:3000] > 0]]
    assert 1.0 / last == pytest.approx(float(np.exp(np.mean(np.log(own)))), rel=0.15)
    assert (linear.share_of_optimum or 0) > 0.9
    assert (rlb.share_of_optimum or 0) > 0.93


def test_a_short_last_episode_is_not_tuned_for_as_a_whole_one(market: Callable[..., Auctions]) -> None:
    auctions, past = market(4000, seed=6), market(4000, seed=7)
    budget = 0.1 * float(auctions.market_price.mean()) * 1000
    whole, odd = (
        simulate(auctions[:n], ["linear"], budget, episode_length=1000, history=past).events["bid"][:900]
        for n in (1000, 1001)
    )
    np.testing.assert_allclose(odd, whole, rtol=0.01)


def test_a_strategy_that_cannot_be_tuned_is_told_and_runs_as_it_is(market: Callable[..., Auctions]) -> None:
    auctions = replace(market(2000, seed=6), user=np.zeros(2000, np.int64))
    past = replace(market(2000, seed=7), user=None)
    terms = CampaignTerms(1000.0, frequency_cap=FrequencyCap(500))
    cold, found = (simulate(auctions, ["dual", "rlb"], terms, history=h) for h in (None, past))
    assert found.events.filter(strategy="dual").equals(cold.events.filter(strategy="dual"))
    assert not found.events.filter(strategy="rlb").equals(cold.events.filter(strategy="rlb"))
    (note,) = (note for note in found.notes if "tuned" in note)
    assert note.startswith("dual could not be tuned on the history and runs with the given settings")


def test_a_budget_that_does_not_bind_is_tuned_to_win_everything(market: Callable[..., Auctions]) -> None:
    history = AuctionHistory.from_auctions(market(500, seed=4))
    constant = ConstantBidding().tuned(history, CampaignTerms(5000 * float(history.market_price.max())), 500)
    assert history.market_price.max() <= (constant.bid_amount or 0) <= 4 * history.market_price.max()


@pytest.mark.parametrize("kind", [Ortb1Bidding, Ortb2Bidding])
@pytest.mark.parametrize("value", [1e-4, 0.003, 0.05, 2.0])
@pytest.mark.parametrize("median_price", [0.5, 60.0])
def test_ortb_bids_maximise_value_less_the_priced_cost(
    kind: type[OrtbBidding], value: float, median_price: float
) -> None:
    multiplier = 1e-3
    strategy = kind(multiplier=multiplier, median_price=median_price)

    def lagrangian(bid: float) -> float:
        return float((value - multiplier * bid) * strategy.win_rate(np.array([bid]), median_price)[0])

    # With v - λ·b below 0 beyond v/λ, the optimum lies before it.
    best = minimize_scalar(
        lambda bid: -lagrangian(bid), bounds=(0.0, value / multiplier), method="bounded",
        options={"xatol": 1e-10 * value / multiplier},
    )  # fmt: skip
    slots = Slots(np.array([[value]]) / 4, np.array([[4.0]]))
    amount = strategy.bid(strategy.start(1.0, 1), slots, RNG).amount
    assert amount[0] == pytest.approx(best.x, rel=1e-5)
    assert lagrangian(float(amount[0])) >= lagrangian(best.x) * (1 - 1e-12)


@pytest.mark.parametrize("kind", [Ortb1Bidding, Ortb2Bidding])
def test_ortb_finds_its_landscape_from_lost_bids(kind: type[OrtbBidding]) -> None:
    rng, power = np.random.default_rng(0), kind.power
    u = rng.random(100_000)
    price, bid = 40.0 * (u / (1 - u)) ** (1 / power), rng.uniform(0, 120, 100_000)
    share = (price <= 25.0).mean()
    assert kind().win_rate(np.array([25.0]), 40.0)[0] == pytest.approx(share, abs=0.005)
    won, ones = bid >= price, np.ones(100_000)
    assert fit_median_price(AuctionHistory(price, ones, ones), power) == pytest.approx(40.0, rel=0.02)
    censored = AuctionHistory(np.where(won, price, bid), ones, ones, won)
    assert fit_median_price(censored, power) == pytest.approx(40.0, rel=0.02)


@pytest.mark.parametrize("kind", [Ortb1Bidding, Ortb2Bidding])
def test_ortb_spends_its_budget_online_and_tuned(
    kind: type[OrtbBidding], market: Callable[..., Auctions]
) -> None:
    past, now = market(20_000, seed=9), market(20_000, seed=10)
    budget = 0.1 * float(now.market_price.sum())
    tuned = kind().tuned(AuctionHistory.from_auctions(past), CampaignTerms(budget), 20_000)
    assert tuned.multiplier
    assert tuned.median_price == pytest.approx(np.median(past.market_price), rel=0.1)
    for one in simulate(now, [tuned], budget).strategies + simulate(now, [kind()], budget).strategies:
        assert one.budget_used > 0.9
        assert (one.share_of_optimum or 0) > 0.85


def test_lift_pays_for_what_the_ad_changes() -> None:
    slots = Slots(np.array([[0.5, 0.2], [0.1, 0.05]]), np.array([[1.0, 1.0], [1.0, 4.0]]))
    fixed = LiftBidding(initial_multiplier=0.01, organic=lambda _: np.array([[0.45, 0.05], [0.2, 0.06]]))
    bids = fixed.bid(fixed.start(1.0, 2), slots, RNG)
    assert bids.ad[0] == 1  # a rise of 0.15 and not of 0.05, whatever the probabilities are
    np.testing.assert_allclose(bids.amount, [15.0, 0.0])
    number = LiftBidding(initial_multiplier=0.01, organic_probability=0.1)
    np.testing.assert_allclose(number.bid(number.start(1.0, 2), slots, RNG).amount, [40.0, 0.0], atol=1e-9)


def test_lift_brings_more_actions_for_the_money_than_bids_on_the_probability() -> None:
    """A market where those who act anyway are dear, and its incremental actions are counted."""
    rng, n = np.random.default_rng(0), 50_000
    organic, rise = rng.uniform(0, 0.2, n), rng.uniform(0, 0.1, n)
    price = rng.lognormal(2, 0.5, n)
    auctions = Auctions(price, (organic + rise)[:, None], np.ones((n, 1)), true_value=rise[:, None])

    class Model:
        position = 0

        def __call__(self, slots: Slots) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
            self.position += len(slots)
            return organic[self.position - len(slots) : self.position, None]

    lift, dual = simulate(auctions, [LiftBidding(organic=Model()), "dual"], 0.1 * price.sum()).strategies
    assert lift.value > 1.2 * dual.value
    assert (lift.share_of_optimum or 0) > 0.95


def test_risk_aware_bids_up_to_where_profit_equals_its_priced_deviation() -> None:
    p, worth, money, alpha = 0.03, 50.0, 0.5, 0.7
    slots = Slots(np.array([[p]]), np.array([[worth]]))
    rng = np.random.default_rng(0)
    strategy = RiskAwareBidding(initial_multiplier=money, risk_aversion=alpha, evidence=200.0)
    bid = float(strategy.bid(strategy.start(1.0, 1), slots, RNG).amount[0])
    profit = rng.beta(p * 200, (1 - p) * 200, 400_000) * worth / money
    prices = np.linspace(0, 3, 3001)
    accepted = profit.mean() - prices >= alpha * profit.std()
    assert bid == pytest.approx(prices[accepted].max(), abs=0.01)


def test_risk_aware_takes_its_deviations_from_a_posterior(
    model_market: Callable[..., tuple[Auctions, LastLayerPosterior]],
) -> None:
    auctions, posterior = model_market(600)
    auctions = auctions[:3]
    assert auctions.hidden is not None
    drawn = posterior.sample(np.random.default_rng(1), 100_000) - posterior.mean
    moved = np.einsum("nkd,sd->snk", auctions.hidden, drawn[:, :-1]) + drawn[:, None, None, -1]
    p = auctions.click_probability
    expected = expit(np.log(p / (1 - p)) + moved).std(axis=0)
    strategy = parse_strategy("risk-aware", posterior)
    assert isinstance(strategy, RiskAwareBidding)
    np.testing.assert_allclose(strategy.deviation(auctions.slots), expected, rtol=0.03)


def test_dual_starts_from_the_multiplier_of_a_history(market: Callable[..., Auctions]) -> None:
    past = market(20_000, seed=1)
    rho = 0.1 * float(past.market_price.mean())
    tuned = parse_strategy("dual").tuned(
        AuctionHistory.from_auctions(past), CampaignTerms(20_000 * rho), 20_000
    )
    # The first tick already spends to plan.
    bids = tuned.bid(tuned.start(rho * 20_000, 20_000), past.slots, RNG)
    spend = (
        past.market_price[bids.amount >= past.market_price].mean() * (bids.amount >= past.market_price).mean()
    )
    assert spend == pytest.approx(rho, rel=0.01)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"click_probability": 0.0}, "no auction of the history has a value above 0"),
        ({"market_price": 0.0}, "column 'market_price': no bid on the history pays anything"),
    ],
)
def test_a_history_that_teaches_nothing_is_told_as_what_it_is(
    market: Callable[..., Auctions], changed: dict[str, float], says: str
) -> None:
    auctions = market(500)
    ((name, value),) = changed.items()
    past = replace(auctions, **{name: np.full_like(getattr(auctions, name), value)})
    untuned = simulate(auctions, ["linear", "dual"], 20.0)
    result = simulate(auctions, ["linear", "dual"], 20.0, history=past)
    for strategy in ("linear", "dual"):
        (note,) = (one for one in result.notes if one.startswith(f"{strategy} could"))
        assert note.startswith(
            f"{strategy} could not be tuned on the history and runs with the given settings: {says}"
        )
        assert note.endswith(".")
        assert ".." not in note
    assert [one.value for one in result.strategies] == [one.value for one in untuned.strategies]


def test_who_takes_nothing_from_a_history_is_told(market: Callable[..., Auctions]) -> None:
    auctions = market(500)
    notes = simulate(auctions, ["dual", "truthful", "throttling"], 20.0, history=auctions).notes
    assert "The history changed nothing for truthful, throttling." in notes
    assert not any(
        "the history" in note for note in simulate(auctions, ["dual"], 20.0, history=auctions).notes
    )


def test_bids_that_are_rounded_down_to_nothing_are_told(market: Callable[..., Auctions]) -> None:
    result = simulate(market(500), ["truthful:value_per_click=1e-3"], CampaignTerms(50.0, integer_bids=True))
    assert result.strategies[0].bids == 0
    assert (
        "truthful never bid: all its bids are 0 after rounding down to whole units of money"
        in result.notes[-1]
    )


def test_nobody_is_asked_for_smaller_ticks_of_what_is_worth_nothing(market: Callable[..., Auctions]) -> None:
    few = market(12)
    (note,) = simulate(few, ["dual"], float(few.market_price.sum()) / 2).notes
    said = "The strategies learn only 2 times per episode, which is too few to pace well"
    assert note == f"{said}: it has only 12 auctions."
    nothing = replace(few, click_probability=np.zeros_like(few.click_probability))
    assert not any("tick" in note for note in simulate(nothing, ["dual"], 1.0).notes)
