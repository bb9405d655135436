"""Beta calibration against betacal, scipy.optimize under the bounds, and scores that are beta distributed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit

from ctrkit.calibration import BetaCalibration, CalibrationWarning, PlattScaling
from ctrkit.metrics import auc


def draw(seed: int, a: float = 0.6, b: float = 1.7, c: float = -0.4) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    z = random.normal(-0.5, 1.5, 5000)
    true = a * np.log(expit(z)) - b * np.log(expit(-z)) + c
    return z, (random.random(5000) < expit(true)).astype(float), random.exponential(size=5000)


def loss(parameters: np.ndarray, z: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    a, b, c = parameters
    t = -a * np.logaddexp(0, -z) + b * np.logaddexp(0, z) + c
    return float(np.average(np.logaddexp(0, t) - y * t, weights=w))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_betacal_where_its_fit_is_free(seed: int) -> None:
    betacal = pytest.importorskip("betacal")
    z, y, _ = draw(seed)
    fitted = BetaCalibration().fit(z, y)
    peer = betacal.BetaCalibration(parameters="abm").fit(expit(z)[:, None], y)
    assert min(fitted.a, fitted.b) > 0
    # betacal's logistic regression is regularised by a prior of 1e-11 precision and stops at 1e-4.
    assert fitted(z) == pytest.approx(peer.predict(expit(z)[:, None]), abs=2e-4)


@pytest.mark.parametrize(("a", "b"), [(0.6, 1.7), (1.5, 0.05), (0.02, 1.2), (2.0, -0.8), (-0.7, 1.5)])
def test_minimises_the_loss_under_the_bounds(a: float, b: float) -> None:
    z, y, w = draw(3, a, b)
    fitted = BetaCalibration().fit(z, y, w)
    bounds = [(0, None), (0, None), (None, None)]
    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}
    best = minimize(loss, [1.0, 1.0, 0.0], args=(z, y, w), method="L-BFGS-B", bounds=bounds, options=options)
    found = loss(np.array([fitted.a, fitted.b, fitted.c]), z, y, w)
    assert found <= best.fun + 1e-11
    assert (fitted.a, fitted.b, fitted.c) == pytest.approx(tuple(best.x), abs=2e-3)
    # On the bound where the best is, and only there.
    assert ((fitted.a == 0), (fitted.b == 0)) == (best.x[0] < 1e-9, best.x[1] < 1e-9)
    assert (min(fitted.a, fitted.b) == 0) or min(a, b) > 0


def test_finds_the_map_of_beta_distributed_scores() -> None:
    # Densities Beta(p, q) of the classes' scores: odds are s^(p1 - p0) (1 - s)^(q1 - q0), up to a constant.
    random = np.random.default_rng(4)
    scores = np.concatenate([random.beta(3, 2, 40_000), random.beta(1.5, 4, 40_000)])
    fitted = BetaCalibration().fit(logit(scores), np.repeat([1.0, 0.0], 40_000))
    assert (fitted.a, fitted.b) == (pytest.approx(1.5, abs=0.1), pytest.approx(2.0, abs=0.1))


def test_equal_a_and_b_are_platt_scaling() -> None:
    random = np.random.default_rng(5)
    z = random.normal(0, 2, 200_000)
    y = (random.random(200_000) < expit(0.7 * z - 1)).astype(float)
    fitted, line = BetaCalibration().fit(z, y), PlattScaling().fit(z, y)
    assert (fitted.a, fitted.b) == (pytest.approx(0.7, abs=0.03), pytest.approx(0.7, abs=0.03))
    assert fitted(z[:1000]) == pytest.approx(line(z[:1000]), abs=0.005)


@given(st.integers(0, 1000), st.floats(-30, 30), st.floats(0.01, 20))
def test_is_never_worse_than_the_base_rate_and_keeps_the_order(seed: int, shift: float, scale: float) -> None:
    z, y, w = draw(seed)
    z, y, w = scale * z[:300] + shift, y[:300], w[:300]
    fitted = BetaCalibration().fit(z, y, w)
    rate = np.average(y, weights=w)
    own = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert loss(np.array([fitted.a, fitted.b, fitted.c]), z, y, w) <= own + 1e-9
    assert min(fitted.a, fitted.b) >= 0
    assert (np.diff(fitted(np.sort(z))) >= -1e-12).all()


def test_rows_ordered_backwards_are_said_loudly() -> None:
    z, y, _ = draw(6)
    with pytest.warns(CalibrationWarning, match="beta: higher logits do not go with more positives"):
        fitted = BetaCalibration().fit(-z, y)
    assert auc(y, fitted(-z)) == auc(y, -z) < 0.5
    assert fitted(-z).mean() == pytest.approx(y.mean(), rel=1e-6)


def test_perfectly_separated_rows_are_said_loudly() -> None:
    z = np.linspace(-3, 3, 60)
    with pytest.warns(CalibrationWarning, match="beta: the logit separates the 60 rows perfectly"):
        fitted = BetaCalibration().fit(z, z > 0)
    assert np.isfinite([fitted.a, fitted.b, fitted.c]).all()
