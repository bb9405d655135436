from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from ctrkit.bidding import Auctions, parse_strategy, simulate
from ctrkit.bidding.lp import Limits, Purchase, constrained_optimum
from ctrkit.bidding.strategies import History, TargetBidding
from ctrkit.errors import DataError

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
    tuned = given(kind, target).tuned(History.from_auctions(past), budget / AUCTIONS)
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
    tuned = strategy.tuned(History.from_auctions(auctions), budget / AUCTIONS)
    assert played(tuned, auctions, budget, kind)[2] < 1e-3 * budget


def test_the_text_gives_a_target_and_tuning_needs_all_prices() -> None:
    strategy = parse_strategy("target:target_cpa=4,target_roas=2")
    assert strategy == TargetBidding(target_roas=2.0, target_cpa=4.0)
    lost = History(np.ones(2), np.ones(2), np.ones(2), np.array([True, False]))
    with pytest.raises(DataError, match="every auction"):
        strategy.tuned(lost, 1.0)
