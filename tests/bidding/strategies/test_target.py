from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from ctrkit.bidding import (
    AuctionRule,
    Auctions,
    CampaignTerms,
    SpendPlan,
    TickResult,
    parse_strategy,
    simulate,
)
from ctrkit.bidding.optimum.lp import Limits, Purchase, constrained_optimum
from ctrkit.bidding.strategies import AuctionHistory, TargetBidding
from ctrkit.errors import ConfigError, DataError

AUCTIONS = 20_000
# Share of the market's cost that is the budget, and the target as a multiple of what the budget alone brings:
# both limits are felt at 1.0, the target alone where it is higher or the budget large.
BINDING = [(0.1, 1.0), (0.1, 1.2), (0.1, 2.0), (0.4, 1.2), (3.0, 1.2)]
both_kinds = pytest.mark.parametrize("kind", ["target_roas", "target_cpa"])


@cache
def market(seed: int, n: int = AUCTIONS) -> Auctions:
    """Stationary; the value of a click varies, so that value and clicks ask for different auctions."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(0, 0.6, n)
    pctr = np.minimum(np.exp(-4.8 + quality), 1.0)
    price = np.exp(rng.normal(3.5, 1.0, n) + 0.5 * quality)
    return Auctions(price, pctr[:, None], 1000 * rng.lognormal(0, 0.6, (n, 1)))


def columns(auctions: Auctions, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, price and what the target counts."""
    value, clicks = auctions.slots.value[:, 0], auctions.click_probability[:, 0]
    return value, auctions.market_price, value if kind == "target_roas" else clicks


def problem(auctions: Auctions, kind: str, share: float, factor: float) -> tuple[float, float]:
    """The budget, and τ as a multiple of what the optimum under the budget alone returns."""
    value, price, outcome = columns(auctions, kind)
    budget = share * float(price.sum())
    free = constrained_optimum(value, price, Limits(budget))
    return budget, factor * float(outcome @ free.share) / free.spend


def given(kind: str, target: float) -> TargetBidding:
    return TargetBidding(**{kind: target if kind == "target_roas" else 1 / target})


def best(auctions: Auctions, kind: str, budget: float, target: float) -> Purchase:
    value, price, outcome = columns(auctions, kind)
    return constrained_optimum(value, price, Limits(budget, target, outcome))


def played(
    strategy: TargetBidding, auctions: Auctions, budget: float, kind: str
) -> tuple[float, float, float]:
    """Value, outcome and spend."""
    result = simulate(auctions, [strategy], budget)
    outcome = columns(auctions, kind)[2]
    bought = float(outcome[result.events["won"].to_numpy()].sum())
    return result.strategies[0].value, bought, result.strategies[0].spend


@both_kinds
@pytest.mark.parametrize(("share", "factor"), BINDING)
def test_meets_budget_and_target_and_buys_nearly_the_optimum(kind: str, share: float, factor: float) -> None:
    auctions = market(1)
    budget, target = problem(auctions, kind, share, factor)
    value, outcome, spend = played(given(kind, target), auctions, budget, kind)
    assert spend <= budget
    assert outcome >= 0.985 * target * spend
    assert value >= 0.97 * best(auctions, kind, budget, target).value


@both_kinds
def test_both_multipliers_of_a_history_do_better_still(kind: str) -> None:
    past, auctions = market(2), market(3)
    budget, target = problem(auctions, kind, 0.1, 1.2)
    tuned = given(kind, target).tuned(AuctionHistory.from_auctions(past), CampaignTerms(budget), AUCTIONS)
    value, outcome, spend = played(tuned, auctions, budget, kind)
    assert outcome >= 0.99 * target * spend
    assert value >= 0.985 * best(auctions, kind, budget, target).value


@both_kinds
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_target_that_does_not_bind_costs_nothing(kind: str, share: float) -> None:
    auctions = market(4)
    budget, target = problem(auctions, kind, share, 0.3)
    value, _, _ = played(given(kind, target), auctions, budget, kind)
    dual = simulate(auctions, ["dual"], budget).strategies[0].value
    assert value == pytest.approx(dual, rel=0 if kind == "target_roas" else 0.01)


def test_without_a_target_it_is_dual() -> None:
    auctions = market(5)
    budget = 0.1 * float(auctions.market_price.sum())
    events = simulate(auctions, ["target:step=0.5", "dual:step=0.5"], budget).events
    bids = [events.filter(events["strategy"] == name)["bid"].to_numpy() for name in ("target", "dual")]
    np.testing.assert_array_equal(*bids)


@both_kinds
@pytest.mark.parametrize("over", [1.5, 100.0])
def test_a_target_that_cannot_be_met_buys_next_to_nothing(kind: str, over: float) -> None:
    auctions = market(6)
    _, price, outcome = columns(auctions, kind)
    strategy = given(kind, over * float((outcome / price).max()))
    budget = 0.1 * float(price.sum())
    assert played(strategy, auctions, budget, kind)[2] < 1e-3 * budget


@both_kinds
@pytest.mark.parametrize("later", [2.0, 0.25])
def test_keeps_a_target_in_a_market_that_turns(kind: str, later: float) -> None:
    first, second = market(7), market(8)
    auctions = Auctions(
        np.concatenate([first.market_price, later * second.market_price]),
        np.concatenate([first.click_probability, second.click_probability]),
        np.concatenate([first.value_of_click, second.value_of_click]),
    )
    budget, target = problem(auctions, kind, 0.2, 1.3)
    value, outcome, spend = played(given(kind, target), auctions, budget, kind)
    assert outcome >= 0.985 * target * spend
    assert value >= 0.9 * best(auctions, kind, budget, target).value


def test_the_idle_budget_stays_within_sight_of_the_target() -> None:
    """So that it holds the spend back within a few ticks when the target no longer does."""
    auctions = market(12)
    budget, target = problem(auctions, "target_roas", 3.0, 1.2)
    events = simulate(auctions, [given("target_roas", target)], budget).events[AUCTIONS // 2 :]
    felt = auctions.slots.value[AUCTIONS // 2 :, 0] / events["bid"].to_numpy()
    idle = events["multiplier"].to_numpy() / felt
    assert (idle > 0.3).all()
    assert (idle < 1.0).all()


def test_keeps_both_targets_at_once() -> None:
    auctions = market(9)
    budget, return_needed = problem(auctions, "target_roas", 0.2, 1.3)
    _, clicks_needed = problem(auctions, "target_cpa", 0.2, 1.3)
    strategy = TargetBidding(target_roas=return_needed, target_cpa=1 / clicks_needed)
    value, clicks, spend = played(strategy, auctions, budget, "target_cpa")
    assert value >= 0.98 * return_needed * spend
    assert clicks >= 0.98 * clicks_needed * spend
    # Each target alone allows more than both.
    alone = min(
        best(auctions, "target_roas", budget, return_needed).value,
        best(auctions, "target_cpa", budget, clicks_needed).value,
    )
    assert 0.85 * alone <= value <= 1.03 * alone


@both_kinds
def test_units_of_money_and_value_do_not_matter(kind: str) -> None:
    auctions = market(10, 4000)
    budget, target = problem(auctions, kind, 0.1, 1.2)
    won = simulate(auctions, [given(kind, target)], budget).events["won"]
    for money, value in ((8.0, 1.0), (1.0, 0.25), (2.0**-7, 2.0**5)):
        scaled = Auctions(
            auctions.market_price * money, auctions.click_probability, auctions.value_of_click * value
        )
        unit = (value if kind == "target_roas" else 1.0) / money
        again = simulate(scaled, [given(kind, target * unit)], budget * money)
        assert again.events["won"].equals(won)


@both_kinds
def test_every_episode_meets_the_target(kind: str) -> None:
    auctions = market(11)
    budget, target = problem(auctions, kind, 0.3, 1.3)
    events = simulate(auctions, [given(kind, target)], budget / 2, episode_length=AUCTIONS // 2).events
    outcome = columns(auctions, kind)[2]
    for episode in (0, 1):
        mine = (events["episode"] == episode).to_numpy() & events["won"].to_numpy()
        assert outcome[mine].sum() >= 0.97 * target * events["spend"].to_numpy()[mine].sum()


@both_kinds
def test_what_a_history_tells_of_a_target_that_cannot_be_met(kind: str) -> None:
    auctions = market(6)
    _, price, outcome = columns(auctions, kind)
    budget = 0.1 * float(price.sum())
    strategy = given(kind, 1.5 * float((outcome / price).max()))
    tuned = strategy.tuned(AuctionHistory.from_auctions(auctions), CampaignTerms(budget), AUCTIONS)
    assert played(tuned, auctions, budget, kind)[2] < 1e-3 * budget


def test_the_text_gives_a_target_and_tuning_needs_all_prices() -> None:
    strategy = parse_strategy("target:target_cpa=4,target_roas=2")
    assert strategy == TargetBidding(target_roas=2.0, target_cpa=4.0)
    lost = AuctionHistory(np.ones(2), np.ones(2), np.ones(2), np.array([True, False]))
    with pytest.raises(DataError, match="every auction"):
        strategy.tuned(lost, CampaignTerms(2.0), 2)


def constant_market(cost: float, n: int = 8000) -> Auctions:
    """Whatever is bought costs so much a click, and every click is worth 1."""
    pctr = np.minimum(np.exp(np.random.default_rng(13).normal(-4.8, 0.6, n)), 1.0)
    return Auctions(cost * pctr, pctr[:, None], np.ones((n, 1)))


def said(strategy: TargetBidding, auctions: Auctions, share: float = 0.1, **terms: Any) -> str:
    """What the strategy notes of a run."""
    budget = share * float(auctions.market_price.sum())
    result = simulate(auctions, [strategy], CampaignTerms(budget, **terms))
    return " ".join(note for note in result.notes if note.startswith("target"))


@pytest.mark.parametrize("tells", [False, True])
@pytest.mark.parametrize(("cost", "asked"), [(50.0, 20.0), (4.0, 3.5), (0.25, 0.01)])
def test_a_cost_out_of_reach_is_told_with_the_one_that_can_be_reached(
    cost: float, asked: float, tells: bool
) -> None:
    note = said(TargetBidding(target_cpa=asked), constant_market(cost), tells_minimum_bid=tells)
    assert f"a cost of {asked:g} per action cannot be met in this market" in note
    assert f"the cheapest impression with a known price cost {cost:g} per action" in note


@pytest.mark.parametrize("tells", [False, True])
def test_a_return_out_of_reach_is_told_with_the_one_that_can_be_reached(tells: bool) -> None:
    note = said(TargetBidding(target_roas=0.1), constant_market(50.0), tells_minimum_bid=tells)
    assert "a return of 0.1 cannot be met in this market" in note
    assert "the best impression with a known price returned 0.02." in note


def test_the_cheapest_of_a_varied_market_is_named_where_prices_are_told() -> None:
    auctions = market(6)
    _, price, clicks = columns(auctions, "target_cpa")
    cheapest = float((price / clicks).min())
    note = said(TargetBidding(target_cpa=cheapest / 2), auctions, tells_minimum_bid=True)
    assert f"the cheapest impression with a known price cost {cheapest:.3g} per action" in note


@both_kinds
@pytest.mark.parametrize("factor", [0.3, 1.2])
def test_a_target_that_is_met_needs_no_word(kind: str, factor: float) -> None:
    auctions = market(1)
    _, target = problem(auctions, kind, 0.1, factor)
    assert said(given(kind, target), auctions) == ""


def test_what_costs_just_what_is_asked_can_be_met() -> None:
    auctions = constant_market(50.0)
    assert said(TargetBidding(target_cpa=50.5), auctions) == ""
    assert simulate(auctions, [TargetBidding(target_cpa=50.5)], 500.0).strategies[0].spend > 400.0


def test_where_nothing_is_ever_won_there_is_nothing_to_name() -> None:
    note = said(TargetBidding(target_cpa=20.0), constant_market(50.0), max_bid=1e-6)
    assert "nothing was bought, so it is unknown whether the target can be met." in note


@both_kinds
@pytest.mark.parametrize("least", [0.3, 0.9])
def test_the_minimum_is_spent_where_the_target_cannot_be_met(kind: str, least: float) -> None:
    auctions = market(6)
    value, price, outcome = columns(auctions, kind)
    budget = 0.1 * float(price.sum())
    target = 2.0 * float((outcome / price).max())
    strategy = replace(given(kind, target), minimum_spend=least)
    bought, _, spend = played(strategy, auctions, budget, kind)
    assert 0.97 * least * budget <= spend <= 1.05 * least * budget
    # And it buys what so much money can.
    assert bought >= 0.95 * constrained_optimum(value, price, Limits(spend)).value
    note = said(strategy, auctions)
    assert "cannot be met in this market" in note


@both_kinds
def test_a_target_that_is_missed_for_the_minimum_alone_says_so(kind: str) -> None:
    auctions = market(1)
    budget, target = problem(auctions, kind, 0.4, 1.3)
    free = played(given(kind, target), auctions, budget, kind)[2] / budget
    assert free < 0.8
    strategy = replace(given(kind, target), minimum_spend=0.95)
    spend = played(strategy, auctions, budget, kind)[2]
    assert 0.93 * budget < spend <= budget
    note = said(strategy, auctions, 0.4)
    assert "was missed for minimum_spend=0.95" in note


@both_kinds
def test_a_minimum_below_what_the_target_allows_changes_next_to_nothing(kind: str) -> None:
    auctions = market(1)
    budget, target = problem(auctions, kind, 0.1, 1.2)
    plain = played(given(kind, target), auctions, budget, kind)
    least = played(replace(given(kind, target), minimum_spend=0.3), auctions, budget, kind)
    assert plain[2] > 0.6 * budget
    np.testing.assert_allclose(least, plain, rtol=0.02)
    assert least[1] >= 0.985 * target * least[2]


def test_a_minimum_is_a_share_of_the_budget() -> None:
    with pytest.raises(ConfigError, match=r"minimum_spend is 1\.5 and must be at most 1"):
        TargetBidding(target_cpa=1.0, minimum_spend=1.5)


def test_a_target_keeps_to_a_plan() -> None:
    auctions = market(4)
    budget, target = problem(auctions, "target_roas", 0.1, 0.3)
    plan = SpendPlan(np.array([3.0, 1.0]))
    events = simulate(auctions, [TargetBidding(target_roas=target, plan=plan)], budget).events
    assert events["spend"][: AUCTIONS // 2].sum() == pytest.approx(0.75 * budget, rel=0.03)


@pytest.mark.parametrize(
    "given", [{"target_cpa": 30.0}, {"target_roas": 2.0}, {"target_cpa": 30.0, "target_roas": 2.0}]
)
@pytest.mark.parametrize("value", [0.0, 5e-324, 1e-300])
def test_a_run_of_nothing_takes_no_multiplier_to_0(given: dict[str, float], value: float) -> None:
    """Values of 0 beside click probabilities, in whole ticks: the larger of two bids was then infinite."""
    strategy, auctions = TargetBidding(minimum_spend=0.5, **given), market(3, 2000)
    worth = auctions.value_of_click.copy()
    worth[600:900] = value
    nothing = replace(auctions, value_of_click=worth)
    rng, state = np.random.default_rng(0), strategy.start(1e4, 2000)
    for start in range(0, 2000, 20):
        now = nothing[start : start + 20]
        bids = strategy.bid(state, now.slots, rng)
        assert np.isfinite(bids.amount).all()
        won = bids.amount >= now.market_price
        state = strategy.update(state, TickResult(now.slots, bids, won, np.where(won, now.market_price, 0.0)))
        known = [state.budget.multiplier, state.roas.multiplier, state.cpa.multiplier]
        known.append(None if state.minimum is None else state.minimum.multiplier)
        assert all(one is None or 0 < one < np.inf for one in known)
    first = AuctionRule("first")
    found = simulate(nothing, [strategy], CampaignTerms(1e4, rule=first), tick=20).events
    plain = simulate(auctions, [strategy], CampaignTerms(1e4, rule=first), tick=20).events
    assert found["spend"].max() <= 5 * plain["spend"].max()
