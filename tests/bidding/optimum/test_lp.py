from __future__ import annotations

import numpy as np
import pytest

from ctrkit.bidding.optimum.hindsight import hindsight_optimum
from ctrkit.bidding.optimum.lp import (
    Limits,
    Purchase,
    constrained_optimum,
    joint_rule,
    min_rule,
)
from ctrkit.errors import ConfigError
from tests.bidding.optimum.linear_program import solved

Floats = np.ndarray


def problem(seed: int) -> tuple[Floats, Floats, Limits]:
    """Auctions and limits of every kind: with and without target, other outcome, groups, budget."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 200))
    value, price = rng.lognormal(-1, 1, n), rng.lognormal(0, 1, n)
    if seed % 3 == 0:
        value[rng.random(n) < 0.1] = 0.0
        price[rng.random(n) < 0.1] = 0.0
    group = rng.integers(0, 4, n) if seed % 5 < 3 else None
    caps = rng.uniform(0, 0.5, 4) * price.sum() if group is not None else None
    if caps is not None and seed % 7 == 0:
        caps[1] = np.inf
    return value, price, Limits(
        budget=rng.uniform(0, 0.7) * price.sum() if seed % 6 else np.inf,
        target=rng.uniform(0.1, 4) if seed % 4 else None,
        outcome=rng.lognormal(-1, 1, n) if seed % 2 else None,
        group=group,
        group_budget=caps,
    )  # fmt: skip


def dual_value(value: Floats, price: Floats, limits: Limits, found: Purchase) -> float:
    """What the multipliers bound the value by; it equals the value at the optimum and nowhere else."""
    target = limits.target or 0.0
    outcome = value if limits.outcome is None else limits.outcome
    factor = value + found.target_multiplier * (outcome - target * price) - found.budget_multiplier * price
    bound = 0.0
    if limits.group is not None and limits.group_budget is not None:
        factor = factor - found.group_multiplier[limits.group] * price
        bound += sum(m * b for m, b in zip(found.group_multiplier, limits.group_budget, strict=True) if m > 0)
    if found.budget_multiplier > 0:
        bound += found.budget_multiplier * limits.budget
    return float(np.maximum(factor, 0.0).sum() + bound)


@pytest.mark.parametrize("seed", range(48))
def test_dual_search_is_the_linear_programs_optimum(seed: int) -> None:
    value, price, limits = problem(seed)
    found, program = constrained_optimum(value, price, limits), solved(value, price, limits)
    assert found.value == pytest.approx(program.value, rel=1e-7, abs=1e-9)
    for one in (found, program):
        assert dual_value(value, price, limits, one) == pytest.approx(one.value, rel=1e-6, abs=1e-9)
    # And it keeps to every limit.
    assert ((found.share >= 0) & (found.share <= 1)).all()
    assert found.spend <= limits.budget * (1 + 1e-12)
    if limits.target is not None:
        assert found.outcome >= limits.target * found.spend * (1 - 1e-9) - 1e-12
    if limits.group is not None and limits.group_budget is not None:
        spent = np.bincount(limits.group, price * found.share, len(limits.group_budget))
        assert (spent <= limits.group_budget * (1 + 1e-12)).all()


def test_without_a_target_or_groups_it_is_the_knapsack() -> None:
    rng = np.random.default_rng(0)
    value, price = rng.lognormal(0, 1, 500), rng.lognormal(0, 1, 500)
    found, known = constrained_optimum(value, price, Limits(100.0)), hindsight_optimum(value, price, 100.0)
    assert (found.value, found.budget_multiplier) == (known.value, known.multiplier)


def test_a_multiplier_is_the_value_of_one_more_unit() -> None:
    rng = np.random.default_rng(3)
    n = 20_000
    value, price, outcome = rng.lognormal(0, 1, n), rng.lognormal(0, 1, n), rng.lognormal(0, 1, n)
    hour = rng.integers(0, 3, n)
    caps = np.array([1000.0, 2000.0, np.inf])

    def optimum(budget: float, cap: float) -> Purchase:
        limits = Limits(budget, 3.0, outcome, hour, np.array([cap, *caps[1:]]))
        return constrained_optimum(value, price, limits)

    found = optimum(5000.0, 1000.0)
    more = optimum(5010.0, 1000.0).value - optimum(4990.0, 1000.0).value
    assert min(found.budget_multiplier, found.target_multiplier, found.group_multiplier[0]) > 0
    assert found.group_multiplier[2] == 0.0
    assert more / 20 == pytest.approx(found.budget_multiplier, rel=0.02)
    later = optimum(5000.0, 1010.0).value - optimum(5000.0, 990.0).value
    assert later / 20 == pytest.approx(found.group_multiplier[0], rel=0.05)


@pytest.mark.parametrize(("budget", "target"), [(0.1, 0.5), (0.3, 1.2), (0.6, 1.5), (0.3, None)])
def test_the_min_rule_buys_the_optimum_where_the_target_counts_value(
    budget: float, target: float | None
) -> None:
    rng = np.random.default_rng(4)
    value, price = rng.lognormal(0, 1, 20_000), rng.lognormal(0, 1, 20_000)
    money = budget * price.sum()
    optimum = solved(value, price, Limits(money, target))
    # Each multiplier comes from its own limit alone.
    of_budget = constrained_optimum(value, price, Limits(money)).budget_multiplier
    of_target = constrained_optimum(value, price, Limits(target=target)).target_multiplier
    won = min_rule(value, of_budget, of_target, target or 1.0) >= price
    assert value[won].sum() == pytest.approx(optimum.value, rel=1e-3)
    assert price[won].sum() <= money * (1 + 1e-3)
    if target is not None:
        assert value[won].sum() >= target * price[won].sum() * (1 - 1e-3)


def test_with_another_outcome_only_the_joint_rule_keeps_both_limits() -> None:
    rng = np.random.default_rng(5)
    n = 20_000
    price = rng.lognormal(0, 1, n)
    value, outcome = price**0.5 * rng.lognormal(0, 0.5, n), rng.lognormal(0, 1, n)
    budget, target = 0.3 * price.sum(), 2.2
    optimum = solved(value, price, Limits(budget, target, outcome))
    assert min(optimum.budget_multiplier, optimum.target_multiplier) > 0

    def bought(bids: Floats) -> tuple[float, float, float]:
        won = bids >= price
        return (
            value[won].sum() / optimum.value,
            price[won].sum() / budget,
            outcome[won].sum() / price[won].sum() / target,
        )

    joint = joint_rule(value, optimum.budget_multiplier, optimum.target_multiplier, target, outcome)
    np.testing.assert_allclose(bought(joint), 1.0, atol=2e-3)
    of_budget = constrained_optimum(value, price, Limits(budget)).budget_multiplier
    of_target = constrained_optimum(value, price, Limits(target=target, outcome=outcome)).target_multiplier
    share, spent, kept = bought(min_rule(value, of_budget, of_target, target, outcome))
    assert 0.9 < share < 0.999
    assert spent < 1
    assert kept < 0.95


def test_the_rules_in_numbers() -> None:
    value = np.array([3.0, 0.0])
    # 3/2 against (3 + 0.5·3)/(0.5·4) = 2.25, and jointly 4.5/(2 + 2).
    assert min_rule(value, 2.0, 0.5, 4.0).tolist() == [1.5, 0.0]
    assert joint_rule(value, 2.0, 0.5, 4.0).tolist() == [1.125, 0.0]
    assert min_rule(value, 0.0, 0.5, 4.0).tolist() == [2.25, 0.0]
    assert min_rule(value, 0.0, 0.0, 4.0).tolist() == [np.inf, 0.0]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"budget": -1.0}, "budget is -1"),
        ({"target": 0.0}, "target return is 0"),
        ({"group": np.zeros(2, int)}, "groups need budgets"),
        ({"group": np.ones(2, int), "group_budget": np.ones(1)}, "a group lacks a budget"),
    ],
)
def test_limits_that_make_no_sense(limits: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Limits(**limits)  # type: ignore[arg-type]
