"""Temperature and Platt scaling against scipy.optimize and scikit-learn, and on rows without a maximum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ctrkit.calibration import CalibrationWarning, PlattScaling, TemperatureScaling
from ctrkit.metrics import auc, pcoc


@pytest.fixture(params=[0, 1, 2])
def rows(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(request.param)
    logits = random.normal(-3, 1.5, 5000)
    labels = random.random(5000) < expit(0.6 * logits - 0.3)
    return logits, labels.astype(float), random.exponential(size=5000)


def test_temperature_minimises_the_loss(rows: tuple[np.ndarray, ...]) -> None:
    logits, labels, weight = rows

    def loss(log_temperature: float) -> float:
        z = logits / np.exp(log_temperature)
        return float(weight @ (np.logaddexp(0, z) - labels * z))

    expected = np.exp(minimize_scalar(loss, bracket=(-1, 1), tol=1e-12).x)
    fitted = TemperatureScaling().fit(logits, labels, weight)
    assert fitted.temperature == pytest.approx(expected, rel=1e-6)
    assert fitted(logits) == pytest.approx(expit(logits / fitted.temperature), rel=1e-12)


def test_platt_equals_scipy_and_scikit_learn(rows: tuple[np.ndarray, ...]) -> None:
    logits, labels, weight = rows

    def loss(line: np.ndarray) -> float:
        z = line[0] * logits + line[1]
        return float(np.average(np.logaddexp(0, z) - labels * z, weights=weight))

    def gradient(line: np.ndarray) -> np.ndarray:
        residual = weight * (expit(line[0] * logits + line[1]) - labels) / weight.sum()
        return np.array([residual @ logits, residual.sum()])

    fitted = PlattScaling().fit(logits, labels, weight)
    expected = minimize(loss, [1.0, 0.0], jac=gradient, method="BFGS", options={"gtol": 1e-10}).x
    assert (fitted.slope, fitted.intercept) == pytest.approx(tuple(expected), rel=1e-6)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits[:, None], labels, weight)
    assert fitted.slope == pytest.approx(peer.coef_[0, 0], rel=1e-5)
    assert fitted.intercept == pytest.approx(peer.intercept_[0], rel=1e-5)
    assert pcoc(labels, fitted(logits), weight) == pytest.approx(1.0, abs=1e-9)
    # At the minimum the gradient vanishes, to the last digits that a sum of 5,000 rows has.
    assert np.abs(gradient(np.array([fitted.slope, fitted.intercept]))).max() < 1e-11


def test_platt_finds_the_line_from_any_scale() -> None:
    random = np.random.default_rng(3)
    logits = random.normal(size=20_000)
    labels = random.random(20_000) < expit(2 * logits - 4)
    plain = PlattScaling().fit(logits, labels)
    for scale, shift in ((1e-8, 0.0), (1e8, 0.0), (1.0, 1e4), (1e150, 1e152)):
        other = PlattScaling().fit(scale * logits + shift, labels)
        assert other.slope * scale == pytest.approx(plain.slope, rel=1e-6)
        assert other(scale * logits + shift) == pytest.approx(plain(logits), rel=1e-6)


def test_perfectly_separated_rows_get_platts_smoothed_targets() -> None:
    logits, labels = np.array([-4.0, -3.0, -2.0, 1.0, 2.0]), np.array([0, 0, 0, 1, 1])
    with pytest.warns(CalibrationWarning, match="platt: the logit separates the 5 rows perfectly"):
        fitted = PlattScaling().fit(logits, labels)
    target = np.where(labels == 1, 3 / 4, 1 / 5)

    def loss(line: np.ndarray) -> float:
        z = line[0] * logits + line[1]
        return float(np.sum(np.logaddexp(0, z) - target * z))

    expected = minimize(loss, [1.0, 0.0], tol=1e-12).x
    assert (fitted.slope, fitted.intercept) == pytest.approx(tuple(expected), abs=1e-4)
    with pytest.warns(CalibrationWarning, match="temperature: the logit separates"):
        assert 0 < TemperatureScaling().fit(logits, labels).temperature < np.inf


@pytest.mark.parametrize("kind", [TemperatureScaling, PlattScaling])
def test_a_model_that_orders_rows_backwards_is_said_loudly(kind) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(4)
    logits = random.normal(size=2000)
    labels = random.random(2000) < expit(-logits)
    with pytest.warns(
        CalibrationWarning, match=r"higher logits do not go with more positives \(fitted slope -\d"
    ):
        fitted = kind().fit(logits, labels)
    probabilities = fitted(logits)
    # The order is kept, and so is the model's AUC, though it is below a half.
    assert auc(labels, probabilities) == auc(labels, logits) < 0.5
    assert probabilities == pytest.approx(np.full(2000, 0.5), abs=0.03)
