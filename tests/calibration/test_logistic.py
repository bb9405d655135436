"""Temperature and Platt scaling against scipy.optimize and scikit-learn, and on rows without a maximum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ctrkit.calibration import CalibrationWarning, PlattScaling, TemperatureScaling, logistic
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
    with (
        pytest.warns(CalibrationWarning, match="platt was fitted with only 2 positive rows"),
        pytest.warns(CalibrationWarning, match="platt: the logit separates the 5 rows perfectly"),
    ):
        fitted = PlattScaling().fit(logits, labels)
    target = np.where(labels == 1, 3 / 4, 1 / 5)

    def loss(line: np.ndarray) -> float:
        z = line[0] * logits + line[1]
        return float(np.sum(np.logaddexp(0, z) - target * z))

    expected = minimize(loss, [1.0, 0.0], tol=1e-12).x
    assert (fitted.slope, fitted.intercept) == pytest.approx(tuple(expected), abs=1e-4)
    with (
        pytest.warns(CalibrationWarning, match="with only 2 positive rows"),
        pytest.warns(CalibrationWarning, match="temperature: the logit separates"),
    ):
        assert 0 < TemperatureScaling().fit(logits, labels).temperature < np.inf


def test_many_rows_begun_with_few_give_the_same_line() -> None:
    # Above 200,000 rows a tenth to a half of them is fitted first; the answer must be that of all rows.
    random = np.random.default_rng(6)
    logits = np.sort(random.normal(-3, 1.5, 250_000))
    labels = (random.random(250_000) < expit(0.6 * logits - 0.3)).astype(float)
    weight = random.exponential(size=250_000)

    def loss_and_gradient(line: np.ndarray) -> tuple[float, np.ndarray]:
        z = line[0] * logits + line[1]
        residual = weight * (expit(z) - labels) / weight.sum()
        loss = np.average(np.logaddexp(0, z) - labels * z, weights=weight)
        return float(loss), np.array([residual @ logits, residual.sum()])

    fitted = PlattScaling().fit(logits, labels, weight)
    line = np.array([fitted.slope, fitted.intercept])
    best = minimize(loss_and_gradient, [1.0, 0.0], jac=True, method="BFGS", options={"gtol": 1e-9})
    assert line == pytest.approx(best.x, rel=1e-7)
    assert loss_and_gradient(line)[0] <= best.fun + 1e-12
    assert np.abs(loss_and_gradient(line)[1]).max() < 1e-11
    # Rows of which the first of every two are all negative are begun with nothing, and still fitted.
    twice = np.repeat(logits, 2)
    halved = np.stack([np.zeros(250_000), labels], axis=1).reshape(-1)
    turned = PlattScaling().fit(twice[::-1], halved[::-1])
    assert turned(twice[:9]) == pytest.approx(PlattScaling().fit(twice, halved)(twice[:9]), rel=1e-9)


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


def test_the_compiled_pass_equals_numpy() -> None:
    random = np.random.default_rng(8)
    z = np.concatenate([random.normal(-2, 3, 30_000), [0.0, -0.0, 40.0, -40.0, 800.0, -800.0, 1e300, -1e300]])
    target, weight = random.random(len(z)), random.exponential(size=len(z))
    for scale, shift, slope, intercept in (
        (1.0, 0.0, 1.0, 0.0),
        (0.3, -1.2, 2.5, -3.0),
        (1.0, 5.0, 0.0, 0.7),
    ):
        inside = slice(0, -2)  # squares of the last two overflow
        found = logistic.sums(
            logistic.Design((z[inside],), (scale,), (shift,)),
            target[inside],
            weight[inside],
            np.array([slope, intercept]),
        )
        x = z[inside] * scale - shift
        t = slope * x + intercept
        p = expit(t)
        design, rest = np.stack([x, np.ones_like(x)]), weight[inside] * (p - target[inside])
        loss = weight[inside] @ (np.logaddexp(0, t) - target[inside] * t)
        assert found.loss == pytest.approx(loss, rel=1e-13)
        assert found.gradient == pytest.approx(design @ rest, rel=1e-11, abs=1e-9)
        hessian = (design * weight[inside] * p * expit(-t)) @ design.T
        assert found.hessian == pytest.approx(hessian, rel=1e-12)
    # One row as large as can be: the loss is its distance, and nothing overflows.
    far = logistic.Design((np.full(20_000, 1e300),), (1.0,), (0.0,))
    huge = logistic.sums(far, np.zeros(20_000), np.ones(20_000), np.array([1e-290, 0.0]))
    assert huge.loss == pytest.approx(20_000 * 1e10, rel=1e-12)
