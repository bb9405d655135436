"""The optimum over pages with several slots and under frequency caps, against linear programs."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ctrkit.bidding import hindsight_optimum
from ctrkit.bidding.market.clearing import clear
from ctrkit.bidding.market.frequency import FrequencyCap, TimesShown
from ctrkit.bidding.market.rules import AuctionRule
from ctrkit.bidding.market.slots import effect_of
from ctrkit.bidding.optimum.hindsight import hindsight_optimum_shown

Floats = NDArray[np.float64]
EFFECTS = (1.0, 0.6, 0.5)


def program(
    value: Floats, price: Floats, budget: float, effects: Floats, group: NDArray[Any] | None, most: int
) -> tuple[float, float]:
    """Value and multiplier of the linear program, as it reads."""
    had = np.isfinite(price)
    x: Any = cp.Variable(price.shape, nonneg=True)
    within: Any = cp.sum(cp.multiply(effects * np.where(had, price, 0.0), x)) <= budget
    constraints = [within, cp.sum(x, axis=1) <= 1, x <= had.astype(np.float64)]
    if group is not None:
        belongs = (group == np.arange(group.max() + 1)[:, None]).astype(np.float64)
        constraints.append(belongs @ cp.sum(x, axis=1) <= most)
    problem: Any = cp.Problem(cp.Maximize(cp.sum(cp.multiply(effects * value[:, None], x))), constraints)
    problem.solve(solver=cp.HIGHS)
    assert problem.status == "optimal"
    return float(problem.value), float(within.dual_value)


def market(seed: int, n: int, slots: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Values, some of nothing; prices, some nothing, and some slots that cannot be had; three to a group."""
    rng = np.random.default_rng(seed)
    value, price = rng.lognormal(0, 1, n), -np.sort(-rng.lognormal(0, 1, (n, slots)), axis=1)
    value[rng.random(n) < 0.1] = 0.0
    price[rng.random(n) < 0.1, -1] = 0.0
    price[rng.random(n) < 0.1, 0] = np.inf
    return value, price, rng.integers(0, max(n // 3, 1), n)


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("most", [None, 1, 2])
@pytest.mark.parametrize("n", [1, 9, 200])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.2, 2.0])
def test_is_the_linear_programs_optimum(slots: int, most: int | None, n: int, part: float) -> None:
    value, price, group = market(n + slots, n, slots)
    effects = np.array(EFFECTS[:slots])
    budget = part * float(price[np.isfinite(price)].sum()) / slots
    capped = None if most is None else group
    found = hindsight_optimum_shown(
        value, price, budget, slot_effects=effects.tolist(), group=capped, most=most or 1
    )
    best, multiplier = program(value, price, budget, effects, capped, most or 1)
    assert found.value == pytest.approx(best, rel=1e-7, abs=1e-9)
    if n == 200 and part:  # where it is one number; at a kink of the budget, it is any of an interval
        assert found.multiplier == pytest.approx(multiplier, rel=1e-6, abs=1e-9)

    # What is said to be bought can be bought, and comes to what is said.
    share = found.share[:, None] if found.slot_share is None else found.slot_share
    assert (slots == 1) == (found.slot_share is None)
    assert ((share >= 0) & (share <= np.isfinite(price))).all()
    np.testing.assert_allclose(found.share, share.sum(axis=1), rtol=1e-15)
    assert found.share.max() <= 1 + 1e-15
    if most is not None:
        assert np.bincount(group, found.share).max() <= most * (1 + 1e-12)
    paid = effects * np.where(share > 0, price, 0.0) * share
    assert found.spend == pytest.approx(paid.sum(), rel=1e-12)
    assert found.spend <= budget * (1 + 1e-12)
    assert found.value == pytest.approx((effects * value[:, None] * share).sum(), rel=1e-12)
    assert found.multiplier == 0 or found.spend == pytest.approx(budget, rel=1e-9)


@given(
    value=arrays(np.float64, 12, elements=st.floats(0, 10, width=16)),
    price=arrays(np.float64, 12, elements=st.floats(0, 10, width=16)),
    budget=st.floats(0, 60, width=16),
    most=st.one_of(st.none(), st.integers(12, 15)),
)
def test_is_the_closed_form_with_one_slot_and_no_cap(
    value: Floats, price: Floats, budget: float, most: int | None
) -> None:
    """Or one that is never reached."""
    group = None if most is None else np.zeros(12, np.int64)
    found = hindsight_optimum_shown(value, price, budget, group=group, most=most or 1)
    plain = hindsight_optimum(value, price, budget)
    assert found.value == pytest.approx(plain.value, rel=1e-11)
    assert found.spend == pytest.approx(plain.spend, rel=1e-11)
    if found.multiplier != plain.multiplier:  # at a kink: both are dual optima
        at = np.array([found.multiplier, plain.multiplier])[:, None]
        dual = np.maximum(value - at * price, 0).sum(axis=1) + at[:, 0] * budget
        np.testing.assert_allclose(dual, plain.value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spread", [0.5, 4.0, 12.0])
def test_the_search_ends_whatever_the_spread_of_prices(spread: float) -> None:
    """And its multiplier proves it: no dual function's value is below a value that can be bought."""
    rng = np.random.default_rng(8)
    value, price = rng.lognormal(0, spread, 2000), rng.lognormal(0, spread, (2000, 3))
    price = -np.sort(-price, axis=1)
    for budget in price.sum() * np.exp([-25.0, -9.0, -3.0, -1.0]):
        found = hindsight_optimum_shown(value, price, budget, slot_effects=EFFECTS)
        net = np.array(EFFECTS) * (value[:, None] - found.multiplier * price)
        bound = np.maximum(net.max(axis=1), 0).sum() + found.multiplier * budget
        assert found.value == pytest.approx(bound, rel=1e-9)


def test_next_to_free_is_free() -> None:
    found = hindsight_optimum_shown(np.array([1.0, 1.0, 2.0]), np.array([5e-324, 1e-310, 8.0]), 2.0)
    assert (found.value, found.spend, found.multiplier) == (2.5, 2.0, 0.25)


def test_of_equal_purchases_the_cheaper_is_made() -> None:
    """Two slots that are as good, and impressions that are worth the same to a user who is shown one."""
    value, price = np.ones(3), np.array([[5.0, 4.0], [3.0, 2.0], [7.0, 6.0]])
    found = hindsight_optimum_shown(
        value, price, 100.0, slot_effects=(1.0, 1.0), group=np.zeros(3, np.int64), most=1
    )
    assert found.slot_share is not None
    assert found.slot_share.tolist() == [[0, 0], [0, 1], [0, 0]]
    assert (found.value, found.spend, found.multiplier) == (1.0, 2.0, 0.0)


@pytest.mark.parametrize("limit", [None, 1, 3])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_no_bids_buy_more(limit: int | None, scale: float) -> None:
    """Bids in the exchange itself keep within it, and good ones come near."""
    rng = np.random.default_rng(4)
    n, rule = 3000, AuctionRule("gsp", slot_effects=EFFECTS)
    value, user = rng.lognormal(0, 1, n), rng.integers(0, 500, n)
    price = -np.sort(-rng.lognormal(0, 1, (n, 3)), axis=1)
    cap = None if limit is None else FrequencyCap(limit)
    best = hindsight_optimum_shown(
        value, price, 300.0, slot_effects=EFFECTS, group=None if cap is None else cap.groups(user),
        most=limit or 1,
    )  # fmt: skip
    cleared = clear(
        scale * value / best.multiplier, price[:, 0], 300.0, 0.0, rule=rule, slot_price=price,
        audience=None if cap is None else TimesShown(cap).meet(user),
    )  # fmt: skip
    assert cleared.slot is not None
    bought = float(effect_of(cleared.slot, rule) @ value)
    assert bought <= best.value
    assert scale != 1.0 or bought > 0.5 * best.value
