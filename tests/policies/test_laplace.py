from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from sklearn.linear_model import LogisticRegression

from ctrkit.errors import DataError
from ctrkit.policies.laplace import Floats, LastLayerPosterior, evidence_precision, with_bias


def logs(n: int, width: int = 4, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Hidden values, clicks, and the weights (bias last) that made them."""
    rng = np.random.default_rng(seed)
    hidden, true = rng.normal(size=(n, width)), np.append(rng.normal(size=width), -1.0)
    return hidden, (rng.random(n) < expit(with_bias(hidden) @ true)).astype(float), true


def test_agrees_with_brute_force_integration() -> None:
    hidden, clicks, _ = logs(400, width=1)
    prior = LastLayerPosterior(np.array([0.3, -0.5]), np.array([[2.0, 0.3], [0.3, 1.0]]))
    posterior = prior.update(hidden, clicks)
    # The exact posterior of two weights on a fine grid.
    side = [
        np.linspace(m - 6 * s, m + 6 * s, 121)
        for m, s in zip(posterior.mean, _deviations(posterior), strict=True)
    ]
    grid = np.stack(np.meshgrid(*side, indexing="ij"), axis=-1).reshape(-1, 2)
    away = grid - prior.mean
    log_density = log_expit((2 * clicks - 1) * (grid @ with_bias(hidden).T)).sum(axis=1)
    log_density -= 0.5 * np.einsum("ni,ij,nj->n", away, prior.precision, away)
    mass = np.exp(log_density - log_density.max())
    mass /= mass.sum()
    mean = mass @ grid
    covariance = (grid - mean).T @ ((grid - mean) * mass[:, None])
    np.testing.assert_allclose(posterior.mean, mean, atol=0.1 * _deviations(posterior).min())
    np.testing.assert_allclose(np.linalg.inv(posterior.precision), covariance, rtol=0.05)
    np.testing.assert_allclose(
        posterior.mean, grid[mass.argmax()], atol=6 / 60 * _deviations(posterior).max()
    )


_FINE = {"maxfev": 20_000, "xatol": 1e-9, "fatol": 1e-12}


def _deviations(posterior: LastLayerPosterior) -> Floats:
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(posterior.precision))))


def test_the_update_finds_sklearns_ridge_solution() -> None:
    hidden, clicks, _ = logs(2000)
    flat_bias = LastLayerPosterior(np.zeros(5), np.diag([3.0, 3.0, 3.0, 3.0, 1e-9]))
    model = LogisticRegression(C=1 / 3.0, tol=1e-12, max_iter=1000).fit(hidden, clicks)
    np.testing.assert_allclose(
        flat_bias.update(hidden, clicks).mean, [*model.coef_[0], model.intercept_[0]], atol=1e-5
    )


def test_the_update_finds_what_a_generic_optimiser_finds() -> None:
    """Correlated weights, an offset, a prior away from 0; the precision is the numeric curvature."""
    hidden, clicks, _ = logs(300)
    rng = np.random.default_rng(5)
    offset, root = rng.normal(-1, 1, 300), rng.normal(size=(5, 5))
    prior = LastLayerPosterior(rng.normal(size=5), root @ root.T + np.eye(5))
    sign = 2 * clicks - 1

    def minus_log_density(w: Floats) -> float:
        logits, away = with_bias(hidden) @ w + offset, w - prior.mean
        return float(0.5 * away @ prior.precision @ away + np.logaddexp(0, -sign * logits).sum())

    found = prior.update(hidden, clicks, offset)
    best = minimize(minus_log_density, prior.mean, method="Nelder-Mead", options={"maxiter": 20_000, **_FINE})
    assert minus_log_density(found.mean) <= best.fun + 1e-9
    np.testing.assert_allclose(found.mean, best.x, atol=1e-5)
    h = 1e-4 * np.eye(5)
    curvature = [
        [
            (
                minus_log_density(found.mean + a + b)
                - minus_log_density(found.mean + a - b)
                - minus_log_density(found.mean - a + b)
                + minus_log_density(found.mean - a - b)
            )
            / 4e-8
            for b in h
        ]
        for a in h
    ]
    np.testing.assert_allclose(found.precision, curvature, atol=1e-4 * np.abs(found.precision).max())


def test_fit_after_training_equals_the_update_from_the_prior() -> None:
    hidden, clicks, _ = logs(2000)
    prior = LastLayerPosterior(np.zeros(5), np.diag([3.0, 3.0, 3.0, 3.0, 0.0]) + 1e-12 * np.eye(5))
    updated = prior.update(hidden, clicks)
    fitted = LastLayerPosterior.fit(hidden, updated.mean[:-1], float(updated.mean[-1]), prior_precision=3.0)
    np.testing.assert_allclose(fitted.precision, updated.precision, rtol=1e-9, atol=1e-9)


def test_an_update_in_parts_comes_near_the_update_at_once() -> None:
    hidden, clicks, _ = logs(4000)
    prior = LastLayerPosterior(np.zeros(5), np.eye(5))
    whole, parts = prior.update(hidden, clicks), prior
    for start in range(0, 4000, 200):
        parts = parts.update(hidden[start : start + 200], clicks[start : start + 200])
    np.testing.assert_allclose(parts.mean, whole.mean, atol=float(_deviations(whole).min()))


def test_an_offset_is_a_known_part_of_the_logit() -> None:
    hidden, clicks, _ = logs(500)
    prior = LastLayerPosterior(np.full(5, 0.2), 2.0 * np.eye(5))
    moved = prior.centred().update(hidden, clicks, offset=with_bias(hidden) @ prior.mean)
    np.testing.assert_allclose(moved.mean + prior.mean, prior.update(hidden, clicks).mean, atol=1e-6)


def test_an_update_far_from_the_prior_settles() -> None:
    hidden = np.full((50, 1), 100.0)
    posterior = LastLayerPosterior(np.array([5.0, 0.0]), 1e-4 * np.eye(2)).update(hidden, np.zeros(50))
    slope = 1e-4 * (posterior.mean - [5.0, 0.0]) + with_bias(hidden).T @ expit(
        with_bias(hidden) @ posterior.mean
    )
    np.testing.assert_allclose(slope, 0.0, atol=1e-4)
    assert posterior.mean[0] < 0


def test_no_rows_change_nothing() -> None:
    prior = LastLayerPosterior(np.ones(3), 2 * np.eye(3))
    after = prior.update(np.empty((0, 2)), np.empty(0))
    np.testing.assert_array_equal(after.mean, prior.mean)
    np.testing.assert_array_equal(after.precision, prior.precision)


def test_draws_have_the_posteriors_mean_and_covariance() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    posterior = LastLayerPosterior(rng.normal(size=4), root @ root.T + np.eye(4))
    draws = posterior.sample(rng, 200_000)
    np.testing.assert_allclose(draws.mean(axis=0), posterior.mean, atol=0.01)
    np.testing.assert_allclose(np.cov(draws.T), np.linalg.inv(posterior.precision), atol=0.01)


def test_the_root_and_the_factor_are_those_of_the_precision() -> None:
    for width in (1, 3, 17, 60):
        rng = np.random.default_rng(width)
        part = rng.normal(size=(width, width))
        posterior = LastLayerPosterior(np.zeros(width), part @ part.T + 0.1 * np.eye(width))
        np.testing.assert_allclose(
            posterior.factor @ posterior.factor.T, posterior.precision, rtol=1e-9, atol=1e-9
        )
        np.testing.assert_allclose(
            posterior.root @ posterior.root.T @ posterior.precision, np.eye(width), atol=1e-9
        )
        features = rng.normal(size=(2, 3, width))
        variance = np.einsum("abi,ij,abj->ab", features, np.linalg.inv(posterior.precision), features)
        np.testing.assert_allclose(posterior.deviation(features) ** 2, variance, rtol=1e-8)


def test_score_moments_are_those_of_the_draws() -> None:
    hidden, clicks, _ = logs(300)
    posterior = LastLayerPosterior(np.zeros(5), np.eye(5)).update(hidden, clicks)
    mean, deviation = posterior.score_moments(hidden[:6].reshape(2, 3, 4))
    scores = with_bias(hidden[:6]) @ posterior.sample(np.random.default_rng(1), 100_000).T
    np.testing.assert_allclose(mean.ravel(), scores.mean(axis=1), atol=0.01)
    np.testing.assert_allclose(deviation.ravel(), scores.std(axis=1), rtol=0.02)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_prior_precision_has_the_highest_evidence(scale: float) -> None:
    hidden, clicks, _ = logs(300, width=6)
    hidden = hidden * scale
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(hidden / scale, clicks)
    mean = np.append(model.coef_[0] / scale, model.intercept_[0])
    curvature = LastLayerPosterior.fit(hidden, mean[:-1], float(mean[-1]), prior_precision=0.0).precision

    def evidence(tau: float) -> float:
        precision = curvature + tau * np.diag([1.0] * 6 + [0.0])
        return float(
            3 * np.log(tau) - 0.5 * tau * mean[:-1] @ mean[:-1] - 0.5 * np.linalg.slogdet(precision)[1]
        )

    best = evidence_precision(curvature, mean)
    grid = best * 10.0 ** np.linspace(-3, 3, 601)
    assert evidence(best) >= max(evidence(tau) for tau in grid)
    assert LastLayerPosterior.fit(hidden, mean[:-1], float(mean[-1])).precision[0, 0] == pytest.approx(
        curvature[0, 0] + best
    )


def test_the_prior_precision_finds_the_spread_of_many_weights() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.2, 60)
    hidden = rng.normal(size=(20_000, 60))
    curvature = LastLayerPosterior.fit(hidden, weight, -1.0, prior_precision=0.0).precision
    assert evidence_precision(curvature, np.append(weight, -1.0)) == pytest.approx(25.0, rel=0.3)


def test_state_goes_and_comes_back() -> None:
    posterior = LastLayerPosterior(np.arange(3.0), 2 * np.eye(3))
    again = LastLayerPosterior.from_state(posterior.state())
    np.testing.assert_array_equal(again.mean, posterior.mean)
    np.testing.assert_array_equal(again.precision, posterior.precision)


def test_what_cannot_be_fitted_is_said() -> None:
    hidden, _, _ = logs(10)
    with pytest.raises(DataError, match="does not go with a last layer of 3 weights"):
        LastLayerPosterior.fit(hidden, np.ones(3), 0.0)
    with pytest.raises(DataError, match="not finite"):
        LastLayerPosterior.fit(np.full((3, 1), np.nan), np.ones(1), 0.0)
    with pytest.raises(DataError, match="all the same"):
        LastLayerPosterior.fit(np.ones((3, 2)), np.ones(2), 0.0)
    with pytest.raises(DataError, match="needs a precision"):
        LastLayerPosterior(np.zeros(2), np.eye(3))
    with pytest.raises(DataError, match="not positive definite"):
        LastLayerPosterior(np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]])).deviation(np.ones((1, 2)))


def test_an_update_refuses_what_is_not_finite() -> None:
    prior = LastLayerPosterior(np.zeros(2), np.eye(2))
    with pytest.raises(DataError, match="not finite"):
        prior.update(np.full((2, 1), np.nan), np.ones(2))


def test_a_row_of_weight_c_is_c_rows() -> None:
    hidden, _, true = logs(300)
    weight = np.random.default_rng(4).integers(0, 4, 300)
    copies = np.repeat(np.arange(300), weight)
    weighted = LastLayerPosterior.fit(hidden, true[:-1], true[-1], row_weight=weight)
    copied = LastLayerPosterior.fit(hidden[copies], true[:-1], true[-1])
    np.testing.assert_allclose(weighted.precision, copied.precision, rtol=1e-9)
    for bad in ([1.0], np.full(300, -1.0), np.full(300, np.nan)):
        with pytest.raises(DataError, match="argument `row_weight`"):
            LastLayerPosterior.fit(hidden, true[:-1], true[-1], row_weight=bad)
