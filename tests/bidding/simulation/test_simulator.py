from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctrkit.bidding import Auctions, CampaignTerms, parse_strategy, simulate
from ctrkit.bidding.simulation.ticks import cut, edges
from ctrkit.errors import ConfigError, DataError
from ctrkit.policies.laplace import LastLayerPosterior

KEYS = {"name", "auctions", "wins", "clicks", "spend", "value", "share_of_optimum"}


def chunked(auctions: Auctions, sizes: list[int]) -> list[Auctions]:
    edges = [0, *np.cumsum(sizes).tolist(), len(auctions)]
    return [auctions[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("sizes", [[1], [999, 1, 1], [700, 700, 0, 13], [10] * 50])
@pytest.mark.parametrize("episode_length", [None, 900])
def test_chunking_does_not_matter(
    model_market: Callable[..., tuple[Auctions, LastLayerPosterior]],
    sizes: list[int],
    episode_length: int | None,
) -> None:
    auctions, posterior = model_market(2000)
    strategies = ["truthful", "linear", "dual", parse_strategy("thompson", posterior)]
    whole = simulate(auctions, strategies, 300.0, episode_length=episode_length, seed=3)
    parts = simulate(
        iter(chunked(auctions, sizes)), strategies, 300.0,
        episode_length=episode_length, seed=3, auctions_expected=2000,
    )  # fmt: skip
    assert whole.events.equals(parts.events)
    assert whole.to_dict() == parts.to_dict()


def test_the_same_seed_gives_the_same_events_and_another_does_not(
    model_market: Callable[..., tuple[Auctions, LastLayerPosterior]],
) -> None:
    auctions, posterior = model_market(1000)
    strategy = parse_strategy("thompson", posterior)
    first, again, other = (simulate(auctions, [strategy], 200.0, seed=s).events for s in (1, 1, 2))
    assert first.equals(again)
    assert not first["ad"].equals(other["ad"])


def test_a_strategy_does_not_depend_on_its_company(market: Callable[..., Auctions]) -> None:
    auctions = market(3000, ads=3)
    alone = simulate(auctions, ["dual"], 500.0).events
    together = simulate(auctions, ["truthful", "dual"], 500.0).events.filter(strategy="dual")
    assert alone.equals(together)


@given(
    length=st.integers(1, 120),
    episode=st.one_of(st.none(), st.integers(1, 50)),
    size=st.integers(1, 40),
    pieces=st.lists(st.integers(0, 30), max_size=6),
)
def test_ticks_are_the_same_for_any_chunking(
    length: int, episode: int | None, size: int, pieces: list[int]
) -> None:
    column = np.full((length, 1), 0.5)
    auctions = Auctions(np.arange(length, dtype=float), column, column)
    pieces = [p for i, p in enumerate(pieces) if sum(pieces[: i + 1]) <= length]
    ticks = list(cut(chunked(auctions, pieces), size, episode))
    positions = [int(t.auctions.market_price[0]) for t in ticks]
    # By the rule itself: a tick starts at each multiple of `size` within each episode.
    expected = [i for i in range(length) if (i % episode if episode else i) % size == 0]
    assert positions == expected
    assert np.concatenate([t.auctions.market_price for t in ticks]).tolist() == list(range(length))
    assert [t.episode for t in ticks] == [p // episode if episode else 0 for p in positions]
    assert [t.opens_episode for t in ticks] == [(p % episode if episode else p) == 0 for p in positions]


@pytest.mark.parametrize(
    ("n", "size", "opens", "expected"),
    [
        (2500, 1000, True, [0, 10, 30, 70, 150, 310, 630, 1000, 2000, 2500]),
        (2500, 1000, False, [0, 1000, 2000, 2500]),
        (25, 1000, True, [0, 10, 25]),
        (30, 10, True, [0, 10, 20, 30]),
        (2, 1, True, [0, 1, 2]),
        (0, 10, True, [0]),
    ],
)
def test_the_first_tick_of_an_episode_is_divided(n: int, size: int, opens: bool, expected: list[int]) -> None:
    assert edges(n, size, 0 if opens else None) == expected


def test_a_first_multiplier_that_is_far_too_low_costs_little(market: Callable[..., Auctions]) -> None:
    auctions = market(40_000)
    budget = 0.01 * float(auctions.market_price.sum())
    right = simulate(auctions, ["dual"], budget).optimum.multiplier or 0.0
    low = f"dual:initial_multiplier={right / 6}"
    assert (simulate(auctions, [low], budget, tick=1000).strategies[0].share_of_optimum or 0.0) > 0.94


@given(
    n=st.integers(1, 300),
    seed=st.integers(0, 1000),
    budget=st.floats(0.01, 2000),
    episode=st.one_of(st.none(), st.integers(20, 200)),
    tick=st.one_of(st.none(), st.integers(1, 64)),
    integer=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_episode_keeps_to_its_budget(
    market: Callable[..., Auctions],
    n: int, seed: int, budget: float, episode: int | None, tick: int | None, integer: bool,
) -> None:  # fmt: skip
    result = simulate(
        market(n, seed=seed), ["dual", "linear", "truthful:value_per_click=9000"],
        CampaignTerms(budget, integer_bids=integer), episode_length=episode, tick=tick,
    )  # fmt: skip
    spent = result.events.group_by("strategy", "episode").agg(spend=result.events["spend"].sum())
    assert len(spent) == 3 * result.episodes
    by_episode = result.trajectory.group_by("strategy", "episode").last()
    assert (by_episode["spend"] <= budget).all()
    won = result.events["won"]
    assert won.equals((result.events["bid"] >= result.events["market_price"]).alias("won"))


def test_the_summary_adds_up_the_events(market: Callable[..., Auctions]) -> None:
    auctions = market(4000, ads=2)
    result = simulate(auctions, ["dual", "truthful:value_per_click=3000"], 700.0, episode_length=1500)
    for one in result.strategies:
        own = result.events.filter(strategy=one.name)
        won = own.filter("won")
        ad, row = won["ad"].to_numpy(), won["auction"].to_numpy()
        assert own.height == one.auctions == 4000
        assert won.height == one.wins
        assert auctions.click is not None
        assert one.clicks == auctions.click[row, ad].sum()
        assert one.value == pytest.approx(auctions.click_probability[row, ad].sum())
        assert one.spend == auctions.market_price[row].sum()
        last = result.trajectory.filter(strategy=one.name).group_by("episode", maintain_order=True).last()
        assert last["auctions"].to_list() == [1500, 1500, 1000]
        assert last["wins"].sum() == one.wins
        assert last["spend"].sum() == one.spend
        assert last["timestamp"].to_list() == [1499.0, 2999.0, 3999.0]


def test_the_result_is_json_with_the_agreed_keys(market: Callable[..., Auctions]) -> None:
    result = simulate(market(500), ["truthful", "dual"], 100.0)
    content = json.loads(result.to_json())
    assert set(content) == {"strategies", "optimum"}
    assert [one["name"] for one in content["strategies"]] == ["truthful", "dual"]
    assert all(set(one) >= KEYS for one in content["strategies"])
    assert content["optimum"]["multiplier"] > 0
    assert result.to_pandas()["name"].tolist() == ["truthful", "dual"]


def test_two_of_a_kind_are_told_apart(market: Callable[..., Auctions]) -> None:
    result = simulate(market(100), ["dual", "dual:step=0.5"], 10.0)
    assert [one.name for one in result.strategies] == ["dual:step=1.0", "dual:step=0.5"]


def test_the_optimum_is_that_of_each_episode_and_cap(market: Callable[..., Auctions]) -> None:
    auctions, limited = market(1000), CampaignTerms(90.0, max_bid=30.0)
    parts = [simulate(auctions[s : s + 250], ["dual"], limited).optimum for s in range(0, 1000, 250)]
    whole = simulate(auctions, ["dual"], limited, episode_length=250).optimum
    assert whole.value == pytest.approx(sum(one.value for one in parts))
    assert whole.clicks == pytest.approx(sum(one.clicks or 0.0 for one in parts))
    assert whole.spend == pytest.approx(360.0)
    assert whole.value <= simulate(auctions, ["dual"], 90.0, episode_length=250).optimum.value


def test_a_budget_above_the_whole_market_is_said_not_to_bind(market: Callable[..., Auctions]) -> None:
    auctions = market(2000)
    result = simulate(auctions, ["truthful:value_per_click=1e9"], 1e9)
    assert "does not bind" in " ".join(result.notes)
    assert not result.optimum.budget_binds
    assert result.optimum.multiplier == 0.0
    assert result.strategies[0].wins == 2000
    assert result.strategies[0].share_of_optimum == pytest.approx(1.0)
    assert simulate(auctions, ["dual"], 100.0).notes == ()


def test_too_few_updates_are_noted(market: Callable[..., Auctions]) -> None:
    assert "smaller tick" in " ".join(simulate(market(2000), ["dual"], 100.0, tick=1000).notes)


def test_a_common_bias_changes_a_truthful_bidder_and_not_a_paced_one(market: Callable[..., Auctions]) -> None:
    auctions = market(5000)
    biased = Auctions(
        auctions.market_price, auctions.click_probability / 2, auctions.value_of_click, click=auctions.click
    )
    texts, budget = ["dual", "truthful:value_per_click=3000"], 0.1 * float(auctions.market_price.sum())
    (dual, truthful), (paced, halved) = (simulate(a, texts, budget).strategies for a in (auctions, biased))
    assert (dual.wins, dual.spend) == (paced.wins, paced.spend)
    assert halved.wins != truthful.wins


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"terms": 0.0}, "budget is 0"),
        ({"terms": -5.0}, "budget is -5"),
        ({"terms": float("nan")}, "budget is nan"),
        ({"episode_length": 0}, "episode_length is 0"),
        ({"tick": -1}, "tick is -1"),
        ({"strategies": []}, "no strategy"),
        ({"strategies": ["dual", "dual"]}, "given twice"),
        ({"chunks": iter([])}, "number of auctions is unknown"),
    ],
)
def test_settings_out_of_range(market: Callable[..., Auctions], change: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {"chunks": market(10), "strategies": ["dual"], "terms": 1.0}
    with pytest.raises(ConfigError, match=says) as error:
        simulate(**{**given, **change})
    assert error.value.hint


def test_faulty_auctions_are_named_by_their_row_in_the_stream(market: Callable[..., Auctions]) -> None:
    chunks = chunked(market(100), [60])
    chunks[1].market_price.setflags(write=True)
    chunks[1].market_price[7] = -1.0
    with pytest.raises(DataError, match="-1 is not") as error:
        simulate(chunks, ["dual"], 10.0)
    assert (error.value.column, error.value.row) == ("market_price", 67)
    with pytest.raises(DataError, match="no auctions"):
        simulate([], ["dual"], 10.0)
