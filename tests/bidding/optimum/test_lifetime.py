from __future__ import annotations

from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.bidding import Auctions, simulate
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.optimum.hindsight import hindsight_optimum
from ctrkit.bidding.optimum.lifetime import lifetime_budgets
from ctrkit.errors import ConfigError


def solved(episodes: list[tuple[np.ndarray, np.ndarray]], budget: float, lifetime: float) -> float:
    """The same as a linear programme."""
    shares = [cp.Variable(len(value), bounds=[0, 1]) for value, _ in episodes]
    spends = [price @ share for share, (_, price) in zip(shares, episodes, strict=True)]
    bought = sum(value @ share for share, (value, _) in zip(shares, episodes, strict=True))
    limits = [*(one <= budget for one in spends), sum(spends) <= lifetime]
    return float(cp.Problem(cp.Maximize(bought), limits).solve(solver=cp.HIGHS))


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
    budget=st.floats(0.1, 20.0),
    lifetime=st.floats(0.1, 50.0),
)
def test_it_is_the_linear_programme_s(sizes: list[int], seed: int, budget: float, lifetime: float) -> None:
    rng = np.random.default_rng(seed)
    episodes = [(rng.uniform(-0.2, 1.0, n), rng.uniform(0.0, 3.0, n)) for n in sizes]
    budgets = lifetime_budgets(episodes, budget, lifetime)
    assert max(budgets) <= budget * (1 + 1e-12)
    optima = [hindsight_optimum(*one, part) for one, part in zip(episodes, budgets, strict=True)]
    assert sum(one.spend for one in optima) <= lifetime * (1 + 1e-9)
    found = sum(one.value for one in optima)
    assert found == pytest.approx(solved(episodes, budget, lifetime), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("strategy", ["dual", "rlb", "linear", "truthful:value_per_click=1e6"])
def test_neither_the_day_s_nor_the_lifetime_budget_is_passed(
    market: Callable[..., Auctions], strategy: str
) -> None:
    auctions, days = market(3000), [700, 100, 1500, 700]
    terms = CampaignTerms(400.0, lifetime_budget=1000.0)
    result = simulate(auctions, [strategy], terms, episode_length=days)
    by_day = result.trajectory.group_by("episode", maintain_order=True).last()
    assert by_day["auctions"].to_list() == days
    assert (by_day["spend"] <= 400.0).all()
    assert by_day["spend"].sum() <= 1000.0
    assert result.budget == 1000.0
    assert (result.strategies[0].share_of_optimum or 0) <= 1


def test_what_a_short_day_leaves_is_spent_later(market: Callable[..., Auctions]) -> None:
    """The day's budget binds on the long day, and the days after it share what that left."""
    auctions, days = market(3000), [2000, 500, 500]
    result = simulate(auctions, ["dual"], CampaignTerms(400.0, lifetime_budget=900.0), episode_length=days)
    spend = result.trajectory.group_by("episode", maintain_order=True).last()["spend"].to_list()
    assert spend[0] == pytest.approx(400.0, rel=0.02)  # 600 by its auctions
    assert spend[1] == pytest.approx(250.0, rel=0.05)
    assert sum(spend) == pytest.approx(900.0, rel=0.05)


def test_nothing_is_bid_once_the_lifetime_budget_is_gone(market: Callable[..., Auctions]) -> None:
    """More auctions come than were expected, and the first two episodes have spent it all."""
    given = market(300)
    auctions = Auctions(np.ones(300), given.click_probability, given.value_of_click)
    result = simulate(
        auctions, ["truthful:value_per_click=1e6", "rlb"], CampaignTerms(90.0, lifetime_budget=30.0),
        episode_length=[100, 100, 100], auctions_expected=200,
    )  # fmt: skip
    by_episode = result.trajectory.filter(strategy="truthful").group_by("episode", maintain_order=True).last()
    assert by_episode["spend"].to_list() == [15.0, 15.0, 0.0]
    assert result.events.filter(episode=2, strategy="truthful")["bid"].to_list() == [0.0] * 100


def test_more_auctions_than_the_episodes_have(market: Callable[..., Auctions]) -> None:
    with pytest.raises(ConfigError, match="more auctions than the 2 episodes"):
        simulate(market(300), ["dual"], 30.0, episode_length=[100, 100])


@pytest.mark.parametrize(
    ("name", "value"),
    [("budget", 0.0), ("lifetime_budget", -1.0), ("max_bid", np.nan), ("feedback_delay", -1.0)],
)
def test_terms_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name) as error:
        CampaignTerms(**{"budget": 1.0, name: value})
    assert error.value.hint


def test_budgets_that_do_not_bind_are_said_not_to(market: Callable[..., Auctions]) -> None:
    free = simulate(market(300), ["dual"], CampaignTerms(1e6, lifetime_budget=1e7), episode_length=100)
    assert not free.optimum.budget_binds
    assert "budget of 1e+07 does not bind" in free.notes[0]
    held = simulate(market(300), ["dual"], CampaignTerms(1e6, lifetime_budget=100.0), episode_length=100)
    assert held.optimum.budget_binds
    assert held.optimum.spend == pytest.approx(100.0)
