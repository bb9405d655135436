"""The simulator with everything at once: rules, slots, caps, shocks, delays, competitors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.bidding import (
    STRATEGIES,
    AuctionRule,
    Auctions,
    Bids,
    BidStrategy,
    CampaignTerms,
    FrequencyCap,
    Slots,
    TickResult,
    parse_strategy,
    simulate,
)
from ctrkit.bidding.market.auctions import DAY, joined
from ctrkit.bidding.market.clearing import clear
from ctrkit.bidding.supply import SyntheticMarket, shocked
from ctrkit.bidding.supply.shocks import ClickRateShock, PriceShock, Shock, TrafficShock, ValueShock
from ctrkit.errors import ConfigError, DataError

MARKET = SyntheticMarket(
    auctions=1200,
    ads=3,
    dimensions=4,
    click_rate=0.05,
    users=60,
    slots=3,
    days=2,
    conversion_rate=0.2,
    seed=3,
)
AUCTIONS = joined(list(MARKET.chunks()))
PAGES = AuctionRule("gsp", slot_effects=(1.0, 0.6, 0.3))


@pytest.fixture(scope="module")
def auctions() -> Auctions:
    return AUCTIONS


@pytest.mark.slow
@given(
    name=st.sampled_from(sorted(STRATEGIES)),
    rule=st.sampled_from(
        [
            AuctionRule(),
            AuctionRule("first", hard_floor=0.01),
            AuctionRule(soft_floor=0.03, wins_ties=False),
            PAGES,
        ]
    ),
    shock=st.sampled_from(
        [
            (),
            (PriceShock(3.0, 0.4),),
            (TrafficShock(0.3, 0.5), ClickRateShock(2.0, drift=True)),
            (TrafficShock(2.5, 0.2, 0.8), ValueShock(5.0, "12h", "18h")),
        ]
    ),
    budget=st.floats(0.05, 20.0),
    lifetime=st.one_of(st.none(), st.floats(0.05, 30.0)),
    cap=st.sampled_from([None, FrequencyCap(2), FrequencyCap(1, DAY)]),
    delay=st.sampled_from([0.0, 3600.0]),
    episode=st.sampled_from([None, 500]),
    tells=st.booleans(),
)
def test_no_strategy_spends_more_than_its_budget(
    name: str, rule: AuctionRule, shock: tuple[Shock, ...], budget: float, lifetime: float | None,
    cap: FrequencyCap | None, delay: float, episode: int | None, tells: bool,
) -> None:  # fmt: skip
    terms = CampaignTerms(
        budget, lifetime_budget=lifetime, frequency_cap=cap, feedback_delay=delay, tells_minimum_bid=tells,
        rule=rule,
    )  # fmt: skip
    stream = joined(list(shocked([AUCTIONS], shock, len(AUCTIONS)))) if shock else AUCTIONS
    strategy = parse_strategy(name, MARKET.posterior)
    result = simulate(stream, [strategy], terms, episode_length=episode, auctions_expected=len(AUCTIONS))
    events = result.events
    assert (events.group_by("episode").agg(pl.col("spend").sum())["spend"] <= budget * (1 + 1e-12)).all()
    assert lifetime is None or events["spend"].sum() <= lifetime * (1 + 1e-12)
    assert events.filter(~pl.col("won"))["spend"].sum() == 0
    one = result.strategies[0]
    assert one.regret >= -1e-6 * result.optimum.value or lifetime is not None
    if one.regret_split is not None:
        assert one.regret_split.total == pytest.approx(one.regret, rel=1e-6, abs=1e-9)


def test_ten_ways_to_chunk_give_the_same(auctions: Auctions) -> None:
    terms = CampaignTerms(5.0, frequency_cap=FrequencyCap(2, DAY), feedback_delay=600.0, rule=PAGES)
    strategies = [parse_strategy(name, MARKET.posterior) for name in ("dual", "thompson", "epsilon-greedy")]
    whole = simulate(auctions, strategies, terms, seed=4)
    for size in (1, 77, 1000):
        edges = [*range(0, len(auctions), size), len(auctions)]
        parts = [auctions[a:b] for a, b in pairwise(edges)]
        cut = simulate(parts, strategies, terms, seed=4)
        assert cut.events.equals(whole.events)
        assert cut.to_dict() == whole.to_dict()


def test_a_user_is_shown_no_more_than_the_cap(auctions: Auctions) -> None:
    assert auctions.user is not None
    assert auctions.timestamp is not None
    free = simulate(auctions, ["dual"], CampaignTerms(50.0)).events
    capped = simulate(auctions, ["dual"], CampaignTerms(50.0, frequency_cap=FrequencyCap(3, DAY)))
    who = pl.DataFrame({"user": auctions.user, "day": auctions.timestamp // DAY})
    shown = [
        pl.concat([events, who], how="horizontal").group_by("user", "day").agg(pl.col("won").sum())["won"]
        for events in (free, capped.events)
    ]
    assert shown[0].max() > 3  # type: ignore[operator]
    assert shown[1].max() == 3
    assert 0 < (capped.strategies[0].share_of_optimum or 0) <= 1 + 1e-9
    assert capped.strategies[0].regret_split is None
    with pytest.raises(DataError, match="needs the user of each auction"):
        simulate(replace(auctions, user=None), ["dual"], CampaignTerms(1.0, frequency_cap=FrequencyCap(3)))


def test_pages_sell_looks_and_not_only_slots(auctions: Auctions) -> None:
    result = simulate(auctions, ["dual", "truthful"], CampaignTerms(10.0, rule=PAGES))
    effects = np.array([1.0, 0.6, 0.3, 0.0])
    truth = auctions.expected_value
    for name in ("dual", "truthful"):
        events = result.events.filter(strategy=name)
        slot, ad = events["slot"].to_numpy(), events["ad"].to_numpy()
        assert set(slot) == {-1, 0, 1, 2}
        value = truth[np.arange(len(auctions)), ad] * effects[slot]
        np.testing.assert_allclose(events["value"].to_numpy(), value)
        assert auctions.click is not None
        potential = auctions.click[np.arange(len(auctions)), ad]
        assert (events["click"].to_numpy() <= potential * (slot >= 0)).all()
        # Who looks as far as the best slot always clicks as would be; in worse ones some do not look.
        best = slot == 0
        np.testing.assert_array_equal(events["click"].to_numpy()[best], potential[best])
    worth = [one.value for one in result.strategies]
    assert max(worth) <= result.optimum.value * (1 + 1e-9)


def test_what_exploring_costs_is_counted(auctions: Auctions) -> None:
    strategies = [parse_strategy(name, MARKET.posterior) for name in ("dual", "epsilon-greedy:epsilon=0.5")]
    result = simulate(auctions, strategies, CampaignTerms(5.0))
    dual, epsilon = result.strategies
    assert dual.exploration_spend is None
    explored = result.events.filter(pl.col("explored"))["spend"].sum()
    assert epsilon.exploration_spend == pytest.approx(explored)
    # Half of the choices are drawn among three ads, one of which is the best.
    assert 0.2 < explored / epsilon.spend < 0.45


def test_the_looks_are_the_share_of_the_effect() -> None:
    many = joined(list(replace(MARKET, auctions=60_000, click_rate=0.3, conversion_rate=0.0).chunks()))
    events = simulate(many, ["constant:bid_amount=0.012"], CampaignTerms(1e9, rule=PAGES)).events
    assert many.click is not None
    potential = many.click[np.arange(len(many)), events["ad"].to_numpy()]
    for place, effect in ((1, 0.6), (2, 0.3)):
        here = (events["slot"].to_numpy() == place) & (potential > 0)
        looked = events["click"].to_numpy()[here]
        assert len(looked) > 500
        assert abs(looked.mean() - effect) < 4 * np.sqrt(effect * (1 - effect) / len(looked))


def test_one_strategy_alone_bids_together_with_nobody(auctions: Auctions) -> None:
    for rule in (AuctionRule(), AuctionRule("first"), AuctionRule(soft_floor=0.02)):
        terms = CampaignTerms(3.0, rule=rule, feedback_delay=100.0)
        thompson = parse_strategy("thompson", MARKET.posterior)
        alone, together = (simulate(auctions, [thompson], terms, together=one) for one in (False, True))
        assert together.events.equals(alone.events)


def test_together_an_auction_is_won_once_and_at_the_price_of_the_others(auctions: Auctions) -> None:
    names = ["dual", "truthful", "dual:step=0.5"]
    result = simulate(auctions, names, CampaignTerms(8.0), together=True)
    tables = [result.events.filter(strategy=one.name) for one in result.strategies]
    won, bid, paid = (np.stack([t[c].to_numpy() for t in tables]) for c in ("won", "bid", "spend"))
    assert (won.sum(axis=0) <= 1).all()
    everyone = np.vstack([bid, auctions.market_price])
    for agent in range(3):
        others = np.delete(everyone, agent, axis=0).max(axis=0)
        np.testing.assert_allclose(paid[agent][won[agent]], others[won[agent]])
    apart = simulate(auctions, names, CampaignTerms(8.0))
    assert won.sum() < sum(one.wins for one in apart.strategies)
    assert "against each other" in result.notes[0]
    assert all(one.regret_split is None for one in result.strategies)
    with pytest.raises(ConfigError, match="frequency cap"):
        simulate(auctions, names, CampaignTerms(8.0, frequency_cap=FrequencyCap(1)), together=True)
    with pytest.raises(ConfigError, match="slot"):
        simulate(auctions, names, CampaignTerms(8.0, rule=PAGES), together=True)


@dataclass(frozen=True)
class Listening(BidStrategy[tuple[Any, ...]]):
    """Bids a constant, and writes down what it is told."""

    name = "listening"
    amount: float = 0.02

    def start(self, budget: float, auctions: int) -> tuple[Any, ...]:
        return ()

    def bid(self, state: tuple[Any, ...], slots: Slots, rng: np.random.Generator) -> Bids:
        n = len(slots)
        return Bids(np.zeros(n, np.intp), np.full(n, self.amount), np.ones(n))

    def update(self, state: tuple[Any, ...], result: TickResult) -> tuple[Any, ...]:
        told = None if result.minimum_bid is None else result.minimum_bid.tolist()
        return (*state, told)

    def notes(self, state: tuple[Any, ...]) -> tuple[str, ...]:
        return (repr(state),)


@pytest.mark.parametrize("together", [False, True])
def test_the_minimum_bid_is_told_where_the_exchange_tells_it(auctions: Auctions, together: bool) -> None:
    few, rule = auctions[:10], AuctionRule(hard_floor=0.01)
    quiet = simulate(few, [Listening()], CampaignTerms(5.0, rule=rule), tick=10, together=together)
    assert "(None,)" in quiet.notes[-1]
    terms = CampaignTerms(5.0, rule=rule, tells_minimum_bid=True)
    told = simulate(few, [Listening()], terms, tick=10, together=together)
    least = np.maximum(few.market_price, 0.01)
    assert repr((least.tolist(),)) in told.notes[-1]
    # A bid of just that wins, and one below does not.
    assert clear(least, few.market_price, 1e9, 0.0, rule=rule).won.all()
    assert not clear(np.nextafter(least, 0.0), few.market_price, 1e9, 0.0, rule=rule).won.any()


def test_the_market_may_be_told_a_chunk_at_a_time(market: Callable[..., Auctions]) -> None:
    auctions = market(900)
    by_hand = simulate(auctions, ["dual"], CampaignTerms(300.0), episode_length=[200, 300, 400])
    assert by_hand.episodes == 3
    assert by_hand.events["episode"].value_counts().sort("episode")["count"].to_list() == [200, 300, 400]
