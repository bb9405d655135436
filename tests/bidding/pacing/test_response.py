from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from ctrkit.bidding.optimum.hindsight import hindsight_optimum
from ctrkit.bidding.pacing.response import ResponseCurve, auction_curve, fit_curve, joined_curve
from ctrkit.errors import DataError


def test_the_curve_of_auctions_is_the_best_purchase_at_every_spend() -> None:
    rng = np.random.default_rng(0)
    value, price = rng.lognormal(-1, 1, 40), rng.lognormal(0, 1, 40)
    value[:3] = 0.0
    price[2:6] = 0.0
    curve = auction_curve(value, price, knots=1000)
    for share in (0.0, 0.01, 0.2, 0.5, 0.9, 1.0, 1.5):
        budget = share * price.sum()
        program = linprog(-value, A_ub=price[None], b_ub=[budget], bounds=(0, 1))
        assert curve(budget) == pytest.approx(-program.fun, rel=1e-9)
        assert curve.marginal(budget) == pytest.approx(
            hindsight_optimum(value, price, budget).multiplier, rel=1e-9
        )
    assert curve.largest_spend == pytest.approx(price[value > 0].sum())


@pytest.mark.parametrize(("knots", "loss"), [(10, 0.03), (20, 0.005), (50, 0.0008)])
def test_few_knots_lose_little_and_never_promise_more(knots: int, loss: float) -> None:
    rng = np.random.default_rng(1)
    value, price = rng.lognormal(-4, 1, 20_000), rng.lognormal(3, 1, 20_000)
    order = np.argsort(-value / price)
    spend, bought = np.cumsum(price[order]), np.cumsum(value[order])
    curve = auction_curve(value, price, knots)
    gap = bought - curve(spend)
    assert len(curve.spend) == knots
    assert gap.min() >= -1e-9 * bought[-1]
    assert gap.max() <= loss * bought[-1]
    assert curve.largest_spend == pytest.approx(spend[-1])


def test_auctions_worth_nothing_and_none_at_all() -> None:
    for value, price in ((np.zeros(3), np.ones(3)), (np.zeros(0), np.zeros(0))):
        curve = auction_curve(value, price)
        assert (curve.largest_spend, float(curve(5.0)), curve.marginal(0.0)) == (0.0, 0.0, 0.0)


def test_a_large_sum_that_swallows_small_prices() -> None:
    curve = auction_curve(np.array([1e20, 1e-9, 1.0]), np.array([1e18, 1e-10, 1.0]))
    assert curve.largest_spend == 1e18


def test_curves_together_are_the_curve_of_all_auctions() -> None:
    rng = np.random.default_rng(6)
    value, price, hour = rng.lognormal(0, 1, 90), rng.lognormal(0, 1, 90), rng.integers(0, 3, 90)
    price[:4] = 0.0
    apart = [auction_curve(value[hour == h], price[hour == h], 1000) for h in range(3)]
    joined, known = joined_curve(apart, 1000), auction_curve(value, price, 1000)
    at = np.linspace(0, 1.1 * known.largest_spend, 40)
    np.testing.assert_allclose(joined(at), known(at), rtol=1e-9)


def test_concave_points_stay_where_they_are() -> None:
    rng = np.random.default_rng(2)
    spend = np.sort(rng.uniform(0, 1000, 30))
    value = 3 + 40 * np.log1p(spend / 90)
    curve = fit_curve(spend, value)
    np.testing.assert_allclose(curve(spend), value, rtol=1e-9)


def test_noisy_points_get_the_nearest_concave_curve() -> None:
    rng = np.random.default_rng(3)
    spend = rng.uniform(0, 10, 12)
    value = np.maximum(5 * np.sqrt(spend) + rng.normal(0, 2, 12), 0)
    curve = fit_curve(spend, value)
    # A general solver on the values at the points, with concavity and monotony as constraints.
    order = np.argsort(spend)
    x, y = spend[order], value[order]
    x0 = np.concatenate(([0.0], x))
    rows = []
    for i in range(1, 12):
        row = np.zeros(13)
        row[i - 1 : i + 2] += [-1 / (x0[i] - x0[i - 1]), 1 / (x0[i] - x0[i - 1]), 0]
        row[i - 1 : i + 2] -= [0, -1 / (x0[i + 1] - x0[i]), 1 / (x0[i + 1] - x0[i])]
        rows.append(row)
    last = np.zeros(13)
    last[-2:] = [-1, 1]
    shape = np.array([*rows, last, np.eye(13)[0]])
    solved = minimize(
        lambda f: ((f[1:] - y) ** 2).sum(),
        5 * np.sqrt(x0) + 0.1,
        jac=lambda f: np.concatenate(([0.0], 2 * (f[1:] - y))),
        constraints={"type": "ineq", "fun": lambda f: shape @ f, "jac": lambda f: shape},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert solved.success
    assert ((curve(x) - y) ** 2).sum() == pytest.approx(solved.fun, rel=1e-6)


@pytest.mark.parametrize("shape", ["log", "hill"])
def test_parametric_curves_are_recovered(shape: str) -> None:
    rng = np.random.default_rng(4)
    spend = rng.uniform(0, 500, 400)
    truths = {
        "log": lambda s: 30 * np.log1p(s / 70),
        "hill": lambda s: 90 * s**0.8 / (s**0.8 + 120**0.8),
    }
    truth = truths[shape]
    curve = fit_curve(spend, np.maximum(truth(spend) + rng.normal(0, 1, 400), 0), shape, knots=40)  # type: ignore[arg-type]
    at = np.linspace(5, spend.max(), 50)
    np.testing.assert_allclose(curve(at), truth(at), rtol=0.02, atol=0.3)


def test_points_of_an_s_shape_get_a_hill_of_power_one_at_most() -> None:
    spend = np.linspace(0, 10, 50)
    curve = fit_curve(spend, spend**3 / (spend**3 + 64), "hill")
    assert (np.diff(curve.slopes) <= 1e-9).all()


def test_points_that_spent_or_brought_nothing_are_level() -> None:
    free = fit_curve(np.zeros(2), np.array([1.0, 2.0]))
    assert (free.largest_spend, float(free(3.0))) == (0.0, 1.5)
    for shape in ("concave", "log", "hill"):
        vain = fit_curve(np.array([1.0, 2.0]), np.zeros(2), shape)  # type: ignore[arg-type]
        assert (vain.largest_spend, float(vain(2.0)), vain.marginal(0.0)) == (2.0, 0.0, 0.0)


def test_scaled() -> None:
    curve = ResponseCurve(np.array([0.0, 2.0]), np.array([0.0, 6.0])).scaled(0.5)
    assert (curve.largest_spend, float(curve(1.0)), curve.marginal(0.5)) == (1.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("spend", "value", "said"),
    [
        ([0, 1, 2], [0, 1, 3], "not concave: after a spend of 1"),
        ([0, 1, 2], [0, 2, 1], "the curve falls"),
        ([1, 2], [0, 1], "must start at 0 and rise"),
        ([0, 1, 1], [0, 1, 2], "must start at 0 and rise"),
        ([0, 1], [0], "as many values as spends"),
        ([0, 1], [0, np.nan], "is not finite"),
    ],
)
def test_what_is_no_curve(spend: list[float], value: list[float], said: str) -> None:
    with pytest.raises(DataError, match=said):
        ResponseCurve(np.array(spend, float), np.array(value, float))


@pytest.mark.parametrize(
    ("spend", "value", "said"),
    [
        ([], [], "no points"),
        ([-1, 1], [1, 1], "below 0"),
        ([1], [np.inf], "finite"),
    ],
)
def test_what_cannot_be_fitted(spend: list[float], value: list[float], said: str) -> None:
    with pytest.raises(DataError, match=said):
        fit_curve(np.array(spend, float), np.array(value, float))
