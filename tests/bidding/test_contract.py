"""What every bid strategy must keep, over the registry: a new one is tested the moment it is registered."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ctrkit.bidding import (
    STRATEGIES,
    AuctionRule,
    Auctions,
    BidStrategy,
    CampaignTerms,
    SpendPlan,
    TickResult,
    parse_strategy,
    simulate,
)
from ctrkit.bidding.strategies import AuctionHistory, ImpressionOutcomes
from ctrkit.errors import ConfigError, DataError
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.settings import Setting, describe, line_of

pytestmark = pytest.mark.usefixtures("small_tables")
Made = tuple[BidStrategy[Any], Auctions]


Markets = Callable[..., tuple[Auctions, LastLayerPosterior]]


def market(make: Markets, rows: int) -> tuple[Auctions, LastLayerPosterior]:
    """A market whose clicks are worth money."""
    auctions, posterior = make(rows, seed=5)
    worth = np.random.default_rng(0).integers(200, 1000, auctions.click_probability.shape).astype(float)
    return replace(auctions, value_of_click=worth), posterior


@pytest.fixture(params=sorted(STRATEGIES))
def made(request: pytest.FixtureRequest, model_market: Markets) -> Made:
    """The strategy with its defaults, and a market."""
    auctions, posterior = market(model_market, 1500)
    return parse_strategy(request.param, posterior), auctions


def test_bids_are_sane(made: Made) -> None:
    strategy, auctions = made
    state = strategy.start(1000.0, len(auctions))
    bids = strategy.bid(state, auctions.slots, np.random.default_rng(0))
    assert bids.amount.shape == bids.value.shape == bids.ad.shape == (len(auctions),)
    assert np.isfinite(bids.amount).all()
    assert (bids.amount >= 0).all()
    assert bids.amount.any()
    assert ((bids.ad >= 0) & (bids.ad < 12)).all()


def test_bids_and_updates_are_pure(made: Made) -> None:
    strategy, auctions = made
    state = strategy.start(1000.0, len(auctions))
    before = deepcopy(state)
    slots = auctions[:100].slots
    bids = [strategy.bid(state, slots, np.random.default_rng(7)) for _ in range(2)]
    np.testing.assert_array_equal(bids[0].amount, bids[1].amount)
    np.testing.assert_array_equal(bids[0].ad, bids[1].ad)
    result = TickResult(slots, bids[0], np.ones(100, np.bool_), np.ones(100))
    outcomes = ImpressionOutcomes(slots, bids[0].ad, np.zeros(100))
    after = [strategy.learn(strategy.update(state, result), outcomes) for _ in range(2)]
    assert repr(state) == repr(before)
    assert repr(after[0]) == repr(after[1])


def test_spends_at_most_the_budget(made: Made) -> None:
    strategy, auctions = made
    for budget in (0.3, 50.0, 5000.0):
        result = simulate(auctions, [strategy], budget)
        assert result.strategies[0].spend <= budget
        assert result.events["spend"].sum() == pytest.approx(result.strategies[0].spend)


def test_the_unit_of_money_does_not_matter(made: Made, model_market: Markets) -> None:
    strategy, auctions = made[0], market(model_market, 3000)[0]
    money = 2.0**10  # exact in binary
    scaled = Auctions(
        **{
            **vars(auctions),
            "market_price": auctions.market_price * money,
            "value_of_click": auctions.value_of_click * money,
        }
    )
    first, second = simulate(auctions, [strategy], 500.0), simulate(scaled, [strategy], 500.0 * money)
    assert first.events["won"].equals(second.events["won"])
    np.testing.assert_allclose(second.events["bid"], first.events["bid"] * money, rtol=1e-12)


def test_same_seed_same_bids_and_another_seed_no_surprise(made: Made) -> None:
    strategy, auctions = made
    runs = [simulate(auctions, [strategy], 500.0, seed=seed).events for seed in (3, 3, 4)]
    assert runs[0].equals(runs[1])
    assert runs[0].equals(runs[2]) is not strategy.by_chance


def learns_nothing_from_history(strategy: BidStrategy[Any]) -> bool:
    return type(strategy).tuned is BidStrategy.tuned


def test_what_it_learns_from_history_does_no_harm(made: Made) -> None:
    strategy, auctions = made
    budget = 0.1 * float(auctions.market_price.sum())
    tuned = strategy.tuned(AuctionHistory.from_auctions(auctions), CampaignTerms(budget), len(auctions))
    assert type(tuned) is type(strategy)
    before, after = simulate(auctions, [strategy], budget), simulate(auctions, [tuned], budget)
    if tuned is strategy:
        assert learns_nothing_from_history(strategy)
    else:
        assert after.strategies[0].value > 0.97 * before.strategies[0].value


def test_a_history_without_prices_tells_what_is_missing(made: Made) -> None:
    strategy, _ = made
    none = AuctionHistory(np.ones(3), np.ones(3), np.ones(3), np.zeros(3, np.bool_))
    if learns_nothing_from_history(strategy):
        assert strategy.tuned(none, CampaignTerms(3.0), 3) is strategy
        return
    with pytest.raises(DataError, match=f"{strategy.name}.*market price"):
        strategy.tuned(none, CampaignTerms(3.0), 3)


def test_never_beats_the_hindsight_optimum(made: Made) -> None:
    strategy, auctions = made
    assert 0 < (simulate(auctions, [strategy], 500.0).strategies[0].share_of_optimum or 0) <= 1


def test_takes_no_ad_that_is_missing(made: Made) -> None:
    strategy, auctions = made
    pctr = auctions.click_probability.copy()
    pctr[:, ::2] = 0.0
    events = simulate(Auctions(**{**vars(auctions), "click_probability": pctr}), [strategy], 500.0).events
    assert (events["ad"] % 2 == 1).all()


def test_works_without_known_clicks_and_in_episodes(made: Made) -> None:
    strategy, auctions = made
    blind = Auctions(**{**vars(auctions), "click": None})
    result = simulate(blind, [strategy], 100.0, episode_length=320)
    assert result.strategies[0].clicks is None
    assert result.episodes == 5
    assert result.strategies[0].wins > 0


def another(setting: Setting) -> Any:
    """A value that a setting may have and does not by default."""
    if "number" in setting.kind:
        return 4 if "whole" in setting.kind else 0.25
    return setting.kind.rpartition(" or ")[2]


def test_its_label_gives_it_back(made: Made) -> None:
    strategy, _ = made
    given = {setting.name: another(setting) for setting in describe(type(strategy)).settings}
    assert tuple(given) == strategy.parameters()
    settings = ",".join(f"{key}={value}" for key, value in given.items())
    posterior = getattr(strategy, "posterior", None)
    changed = parse_strategy(f"{strategy.name}:{settings}", posterior)
    assert all(getattr(changed, key) == value for key, value in given.items())
    assert parse_strategy(changed.label, posterior) == changed == parse_strategy(line_of(changed), posterior)
    assert parse_strategy({"name": strategy.name, **given}, posterior) == changed
    assert parse_strategy(changed, posterior) == changed


def test_its_parameters_are_checked(made: Made) -> None:
    strategy, _ = made
    posterior = getattr(strategy, "posterior", None)
    assert strategy.parameters()
    for name in strategy.parameters():
        for wrong in ("-1", "nan", "inf", "much"):
            with pytest.raises(ConfigError, match=f"{strategy.name}.*{name}") as error:
                parse_strategy(f"{strategy.name}:{name}={wrong}", posterior)
            assert error.value.hint


def among(auctions: Auctions, places: Any) -> tuple[Auctions, Any]:
    """The auctions with cheap worthless ones before each of these places, and where the real ones are."""
    columns = {name: column for name, column in vars(auctions).items() if column is not None}
    more = {name: np.insert(column, places, column[0], axis=0) for name, column in columns.items()}
    rows = np.flatnonzero(np.insert(np.ones(len(auctions), np.bool_), places, False))
    worthless = np.setdiff1d(np.arange(len(more["market_price"])), rows)
    more["market_price"][worthless] = 0.01
    # Half of them are never clicked, of the others a click is worth nothing.
    more["click_probability"][worthless[::2]] = 0.0
    more["value_of_click"][worthless[1::2]] = 0.0
    return Auctions(**more), rows


@pytest.mark.parametrize("terms", [{"feedback_delay": 100}, {"rule": AuctionRule("first", 2.0)}])
def test_auctions_that_are_worth_nothing_change_nothing(made: Made, terms: dict[str, Any]) -> None:
    """As if they were absent: whatever clock a strategy has, it sees nothing of them."""
    strategy, auctions = made
    auctions = auctions[:600]
    few = np.random.default_rng(0).integers(0, 601, 200)
    places = np.concatenate([np.zeros(3000, np.intp), few, np.repeat([300, 301], 400), np.full(500, 600)])
    more, rows = among(auctions, places)
    plain, found = (simulate(one, [strategy], CampaignTerms(50.0, **terms)) for one in (auctions, more))
    events = found.events[rows]
    for name in ("ad", "bid", "won", "spend", "value", "click", "multiplier"):
        assert events[name].equals(plain.events[name], null_equal=True), name
    assert found.strategies[0].spend == plain.strategies[0].spend
    assert found.strategies[0].auctions == len(more)
    assert np.delete(found.events["bid"].to_numpy(), rows).max() == 0
    assert any("4,500 of 5,100 auctions have no ad with a value above 0" in note for note in found.notes)


def test_worthless_auctions_are_absent_from_episodes_and_chunks_too(made: Made) -> None:
    strategy, auctions = made
    auctions = auctions[:500]
    more, rows = among(auctions, np.random.default_rng(1).integers(0, 500, 300))
    first = int(rows[200])
    lengths = [first, len(more) - first]
    plain = simulate(auctions, [strategy], 60.0, episode_length=[200, 300])
    cut = [more[a : a + 101] for a in range(0, len(more), 101)]
    for stream in (more, cut):
        events = simulate(stream, [strategy], 60.0, episode_length=lengths).events[rows]
        assert events["won"].equals(plain.events["won"])
        assert events["bid"].equals(plain.events["bid"])


def test_hours_that_a_plan_gives_nothing_change_nothing(made: Made, model_market: Markets) -> None:
    """Of all that have a plan; what others bid there is no matter of schedules."""
    strategy, auctions = made[0], market(model_market, 3000)[0]
    if not hasattr(strategy, "plan") or strategy.needs_multiplier:
        pytest.skip("bids without a plan, or needs a first multiplier that these hours do not know")
    rng, n = np.random.default_rng(2), len(auctions)
    time = np.sort(rng.integers(0, 24 * 3600, n)).astype(np.float64)
    auctions = Auctions(**{**vars(auctions), "timestamp": time})
    planned = replace(strategy, plan=SpendPlan.of_day({20: 1.0, 22: 1.0}, time))
    rows = np.flatnonzero(np.isin(time // 3600, [20, 22]))
    alone = auctions[rows]
    day, hours = (simulate(one, [planned], 100.0, tick=10) for one in (auctions, alone))
    assert np.delete(day.events["bid"].to_numpy(), rows).max() == 0
    # The ticks are others, for their edges are, and so is what is drawn.
    assert day.strategies[0].spend > 0.85 * hours.strategies[0].spend > 60.0
    assert day.strategies[0].value > 0.75 * hours.strategies[0].value


@pytest.mark.parametrize(
    "terms",
    [
        {"rule": AuctionRule("second", 6.0, 9.0), "max_bid": 14.0},
        {"rule": AuctionRule("first", 4.0), "integer_bids": True},
    ],
)  # fmt: skip
def test_is_tuned_on_the_terms_of_the_run(made: Made, terms: dict[str, Any]) -> None:
    """On the very auctions to come, a history may not do worse than nothing by much, whatever the terms."""
    strategy, auctions = made
    if learns_nothing_from_history(strategy) or not strategy.knows_rules:
        pytest.skip("learns nothing, or bids by a model of second prices without floors")
    auctions = auctions[:1500]
    on = CampaignTerms(0.1 * float(auctions.market_price.sum()), **terms)
    cold, tuned = (simulate(auctions, [strategy], on, history=past) for past in (None, auctions))
    assert tuned.strategies[0].value > 0.9 * cold.strategies[0].value


# What markets may be made of: values, prices and click probabilities of any size, and long runs of nothing.
_EXTREMES = (0.0, 5e-324, 1e-200, 1e-9, 1.0, 1e9, 1e150)


@pytest.mark.parametrize(
    ("budget", "terms"),
    [
        (5e-324, {}),
        (1e-9, {"rule": AuctionRule("first"), "tells_minimum_bid": True, "max_bid": 7.0}),
        (1.0, {}),
        (1e150, {"rule": AuctionRule("first"), "tells_minimum_bid": True, "max_bid": 7.0}),
    ],
)
@pytest.mark.filterwarnings("error")
def test_bids_are_finite_whatever_the_market_is_made_of(
    made: Made, budget: float, terms: dict[str, Any]
) -> None:
    strategy, auctions = made
    rng, auctions = np.random.default_rng(3), auctions[:500]
    pctr = auctions.click_probability * (rng.random(auctions.click_probability.shape) < 0.8)
    worth, price = rng.choice(_EXTREMES, pctr.shape), rng.choice(_EXTREMES, len(pctr))
    pctr[60:180], worth[250:400] = 0.0, 0.0  # long runs of nothing
    pctr[240:250], price[200:215], price[420:440] = 5e-324, 0.0, 5e-324
    extreme = Auctions(**{**vars(auctions), "market_price": price, "value_of_click": worth,
        "click_probability": pctr})  # fmt: skip
    on = CampaignTerms(budget, **terms)
    events = simulate(extreme, [strategy], on, episode_length=170, history=extreme).events
    for name in ("bid", "spend", "estimate"):
        assert np.isfinite(events[name].to_numpy()).all(), name
        assert (events[name] >= 0).all(), name
    assert (events["bid"] <= min(on.largest_bid, budget)).all()
    multiplier = events["multiplier"].drop_nulls().to_numpy()
    assert ((multiplier > 0) & np.isfinite(multiplier)).all()


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e-200, 1e150])
def test_bids_are_finite_before_any_cap_too(made: Made, value: float) -> None:
    """Shown by hand what the simulator would not show: hundreds of auctions that are worth nothing."""
    strategy, auctions = made
    rng, state = np.random.default_rng(4), strategy.start(10.0, 3000)
    slots = auctions[:10].slots
    nothing = replace(slots, value_of_click=np.full(slots.value_of_click.shape, value))
    for tick in range(60):
        now = slots if tick in (0, 59) else nothing
        bids = strategy.bid(state, now, rng)
        assert np.isfinite(bids.amount).all()
        assert (bids.amount >= 0).all()
        won = (bids.amount > 0) & (tick % 3 == 0)
        state = strategy.update(
            state, TickResult(now, bids, won, np.where(won, np.minimum(bids.amount, 0.01), 0.0))
        )
