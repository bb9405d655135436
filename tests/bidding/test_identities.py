"""What the sums of a run must be to one another, over the registry of strategies and the kinds of terms."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.optimize import linprog

from ctrkit.bidding import (
    STRATEGIES,
    AuctionRule,
    Auctions,
    CampaignTerms,
    FrequencyCap,
    SimulationResult,
    parse_strategy,
    simulate,
)  # fmt: skip
from ctrkit.policies.laplace import LastLayerPosterior

pytestmark = pytest.mark.usefixtures("small_tables")
ROWS = 600
TERMS: dict[str, tuple[CampaignTerms, int | None]] = {
    "plain": (CampaignTerms(20.0), None),
    "a budget above all prices": (CampaignTerms(1e9), None),
    "a budget below every price": (CampaignTerms(1e-3), None),
    "first price, floors": (
        CampaignTerms(20.0, rule=AuctionRule("first", hard_floor=2.0, soft_floor=4.0)), None
    ),
    "a floor above every bid": (CampaignTerms(20.0, max_bid=5.0, rule=AuctionRule(hard_floor=6.0)), None),
    "ties lost, whole bids": (
        CampaignTerms(20.0, max_bid=6.5, integer_bids=True, rule=AuctionRule(wins_ties=False)), None
    ),
    "a maximum bid below 1, whole bids": (CampaignTerms(20.0, max_bid=0.5, integer_bids=True), None),
    "slots": (CampaignTerms(20.0, rule=AuctionRule("gsp", slot_effects=(1.0, 0.5))), None),
    "a cap over episodes": (CampaignTerms(9.0, frequency_cap=FrequencyCap(2)), 200),
    "slots, a cap and a lifetime budget": (
        CampaignTerms(9.0, lifetime_budget=20.0, frequency_cap=FrequencyCap(3),
              rule=AuctionRule("gsp", slot_effects=(1.0, 0.5))), 200
    ),
    "a lifetime budget": (CampaignTerms(9.0, lifetime_budget=20.0), 200),
}  # fmt: skip


@pytest.fixture
def auctions(model_market: Callable[..., tuple[Auctions, LastLayerPosterior]]) -> tuple[Auctions, Any]:
    """A fifth of the auctions are free, some are worth nothing, and few clicks convert."""
    market, posterior = model_market(ROWS, seed=3)
    rng = np.random.default_rng(0)
    price = np.where(rng.random(ROWS) < 0.2, 0.0, market.market_price)
    pctr = np.where(rng.random((ROWS, 1)) < 0.1, 0.0, market.click_probability)
    assert market.click is not None
    conversion = market.click * (rng.random(market.click.shape) < 0.3)
    changed = {
        "market_price": price, "click_probability": pctr, "slot_price": np.stack([price, price / 2], axis=1),
        "value_of_click": np.full(pctr.shape, 100.0), "conversion": conversion, "earned": 200.0 * conversion,
        "user": rng.integers(0, 60, ROWS), "timestamp": np.arange(ROWS) * 60.0,
    }  # fmt: skip
    return Auctions(**{**vars(market), **changed}), posterior


@pytest.mark.parametrize("kind", TERMS)
def test_sums_and_rates(kind: str, auctions: tuple[Auctions, Any]) -> None:
    market, posterior = auctions
    terms, episode = TERMS[kind]
    strategies = [parse_strategy(name, posterior) for name in sorted(STRATEGIES)]
    result = simulate(market, strategies, terms, episode_length=episode)
    assert len(result.strategies) == len(STRATEGIES)
    check(result, terms)


def check(result: SimulationResult, terms: CampaignTerms) -> None:
    json.loads(result.to_json())  # neither NaN nor infinite
    best = result.optimum
    assert best.spend <= terms.total(result.episodes) * (1 + 1e-9)
    for one in result.strategies:
        own = result.events.filter(strategy=one.name)
        won, kpis = own.filter("won"), one.kpis
        assert one.wins == won.height <= one.bids == (own["bid"] > 0).sum() <= one.auctions == own.height
        assert won["bid"].min() is None or won["bid"].min() > 0  # type: ignore[operator]
        assert one.spend == pytest.approx(own["spend"].sum()) == pytest.approx(won["spend"].sum())
        assert one.value == pytest.approx(won["value"].sum())
        assert one.clicks == won["click"].sum()
        assert one.conversions == won["conversion"].sum()
        assert one.earned == won["earned"].sum()
        by_episode = own.group_by("episode").agg(pl.col("spend").sum())["spend"]
        assert one.spend <= terms.total(result.episodes)
        assert (by_episode <= terms.budget * (1 + 1e-12)).all()
        for part, whole, ratio in (
            (one.wins, one.auctions, "win_rate"), (one.wins, one.bids, "bid_win_rate"),
            (one.spend, result.budget, "budget_used"), (one.spend, one.clicks, "cost_per_click"),
            (1000 * one.spend, one.wins, "cost_per_mille"), (one.spend, one.conversions, "cost_per_action"),
            (one.earned, one.spend, "return_on_spend"), (one.value, best.value, "share_of_optimum"),
        ):  # fmt: skip
            assert whole is not None
            assert part is not None
            assert kpis[ratio] == (pytest.approx(part / whole) if whole else None)
        for rate in ("win_rate", "bid_win_rate", "budget_used", "share_of_optimum"):
            assert kpis[rate] is None or 0 <= kpis[rate] <= 1 + 1e-9  # type: ignore[operator]
        if one.regret_split is not None:
            assert one.regret_split.total == pytest.approx(one.regret, abs=1e-6)


# --- the optimum, beside a linear program over everything at once ---


def program(auctions: Auctions, terms: CampaignTerms, length: int) -> float:
    """The most value under all limits together."""
    n, effects = len(auctions), np.array(terms.rule.slot_effects)
    value = auctions.expected_value.max(axis=1)
    price = auctions.market_price[:, None] if len(effects) == 1 else auctions.slot_price
    assert price is not None
    cost = (price * effects).ravel()
    gain = np.where((price <= terms.largest_bid).ravel(), (value[:, None] * effects).ravel(), 0.0)
    row = np.repeat(np.arange(n), len(effects))
    rows, bounds = [cost], [terms.total(-(-n // length))]
    for episode in range(-(-n // length)):
        rows.append(np.where(row // length == episode, cost, 0.0))
        bounds.append(terms.budget)
    for i in range(n):
        rows.append((row == i).astype(float))
        bounds.append(1.0)
    if terms.frequency_cap is not None:
        group = terms.frequency_cap.groups(auctions.user, auctions.timestamp)
        for one in range(group.max() + 1):
            rows.append((group[row] == one).astype(float))
            bounds.append(terms.frequency_cap.impressions)
    found = linprog(-gain, A_ub=np.array(rows), b_ub=bounds, bounds=(0, 1))
    assert found.success
    return float(-found.fun)


@pytest.mark.parametrize("slots", [(1.0,), (1.0, 0.5)])
@pytest.mark.parametrize("cap", [None, FrequencyCap(1), FrequencyCap(2), FrequencyCap(1, 4.0)])
@pytest.mark.parametrize("lifetime", [None, 5.0])
def test_the_optimum_is_the_program_s_or_is_said_to_be_above_it(
    slots: tuple[float, ...], cap: FrequencyCap | None, lifetime: float | None
) -> None:
    exact = 0
    for seed, budget, users in product(range(4), (1.0, 4.0), (2, 8)):
        rng, n = np.random.default_rng(seed), 14
        price = -np.sort(-rng.integers(0, 5, (n, 2)).astype(float), axis=1)
        auctions = Auctions(
            price[:, 0], rng.random((n, 1)), np.ones((n, 1)), slot_price=price, timestamp=np.arange(n) * 1.0,
            user=rng.integers(0, users, n),
        )  # fmt: skip
        rule = AuctionRule("gsp" if len(slots) > 1 else "second", slot_effects=slots)
        terms = CampaignTerms(budget, lifetime_budget=lifetime, frequency_cap=cap, rule=rule, max_bid=3.5)
        result = simulate(auctions, ["constant:bid_amount=1"], terms, episode_length=4)
        best, truth = result.optimum, program(auctions, terms, 4)
        assert best.value >= truth - 1e-7
        if not best.upper_bound:
            assert best.value == pytest.approx(truth, abs=1e-7)
        assert best.upper_bound == any("upper bound" in note for note in result.notes)
        exact += not best.upper_bound
    over_episodes = lifetime is not None and len(slots) > 1
    if not over_episodes and (cap is None or cap.period == 4.0):
        assert exact == 16  # no limit that reaches over episodes but one of money that is known exactly
    assert exact > 0
