from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, logit
from sklearn.linear_model import LogisticRegression

from ctrkit.errors import ConfigError, DataError
from ctrkit.policies.laplace import Floats, LastLayerPosterior, with_bias
from ctrkit.policies.logistic_bandit import CampaignPrior, DiagonalPosterior


def rare(n: int, weight: list[float], intercept: float, seed: int = 0) -> tuple[Floats, Floats]:
    """Features, and clicks of a linear logistic truth."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, len(weight)))
    return hidden, (rng.random(n) < expit(hidden @ weight + intercept)).astype(np.float64)


def batches(n: int, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, n, size)]


def test_it_begins_at_the_populations_rate_and_is_as_sure_as_its_impressions() -> None:
    prior = CampaignPrior(0.01, precision=4.0, impressions=5000.0).prior(3)
    hidden = np.random.default_rng(0).normal(size=(7, 3))
    mean, spread = prior.score_moments(hidden)
    np.testing.assert_allclose(expit(mean), 0.01)
    np.testing.assert_allclose(spread**2, (hidden**2).sum(axis=1) / 4.0 + 1 / (5000 * 0.01 * 0.99))
    # A rate of n impressions has the deviation √(p(1 − p)/n); the logit's, carried over, is the same.
    rates = np.random.default_rng(1).binomial(5000, 0.01, 200_000) / 5000
    assert 0.01 * 0.99 * prior.score_moments(np.zeros((1, 3)))[1][0] == pytest.approx(rates.std(), rel=0.01)


def test_agrees_with_brute_force_integration_online() -> None:
    """One feature and the intercept at 2 % clicks: the exact posterior on a grid."""
    hidden, clicks = rare(8000, [0.7], logit(0.02))
    prior = CampaignPrior(0.01, precision=1.0, impressions=200.0).prior(1)
    posterior = prior
    for rows in batches(8000, 400):
        posterior = posterior.update(hidden[rows], clicks[rows])
    spread = np.sqrt(np.diag(np.linalg.inv(posterior.precision)))
    axes = [np.linspace(m - 6 * s, m + 6 * s, 81) for m, s in zip(posterior.mean, spread, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.concatenate(
        [
            log_expit((2 * clicks - 1) * (part @ with_bias(hidden).T)).sum(axis=1)
            for part in np.split(grid, 81)
        ]
    )
    density -= 0.5 * ((grid - prior.mean) ** 2 @ np.diag(prior.precision))
    mass = np.exp(density - density.max())
    mass /= mass.sum()
    mean = mass @ grid
    covariance = (grid - mean).T @ ((grid - mean) * mass[:, None])
    # A Laplace posterior is at the mode, and the mode of so few clicks not quite the mean.
    np.testing.assert_allclose(posterior.mean, mean, atol=0.3 * spread.min())
    np.testing.assert_allclose(np.linalg.inv(posterior.precision), covariance, rtol=0.1)


def test_finds_sklearns_map_where_the_intercepts_prior_is_weak() -> None:
    hidden, clicks = rare(5000, [0.5, -0.5, 0.2], logit(0.05))
    prior = CampaignPrior(0.03, precision=2.5, impressions=1e-6).prior(3)
    model = LogisticRegression(C=1 / 2.5, tol=1e-12, max_iter=1000).fit(hidden, clicks)
    expected = [*model.coef_[0], model.intercept_[0]]
    np.testing.assert_allclose(prior.update(hidden, clicks).mean, expected, atol=1e-5)


def test_the_diagonal_is_algorithm_3() -> None:
    hidden, clicks = rare(1200, [0.8, -0.3], logit(0.05))
    posterior = CampaignPrior(0.04, precision=2.0, impressions=100.0).prior(2, diagonal=True)
    x, m, q = with_bias(hidden), posterior.mean.copy(), np.array([2.0, 2.0, 100 * 0.04 * 0.96])
    for rows in batches(1200, 300):
        features, sign = x[rows], 2 * clicks[rows] - 1

        def loss(
            w: Floats, m: Floats = m, q: Floats = q, features: Floats = features, sign: Floats = sign
        ) -> float:
            return float(0.5 * q @ (w - m) ** 2 + np.log1p(np.exp(-sign * (features @ w))).sum())

        m = minimize(loss, m, method="BFGS", options={"gtol": 1e-9, "xrtol": 1e-12}).x
        p = 1 / (1 + np.exp(-features @ m))
        q = q + (features**2 * (p * (1 - p))[:, None]).sum(axis=0)
        posterior = posterior.update(hidden[rows], clicks[rows])
    assert isinstance(posterior, DiagonalPosterior)
    np.testing.assert_allclose(posterior.mean, m, atol=1e-5)
    np.testing.assert_allclose(posterior.precision, np.diag(q), rtol=1e-5)


def test_the_diagonal_draws_as_it_says() -> None:
    posterior = DiagonalPosterior(np.array([0.5, -4.0]), np.diag([4.0, 25.0]))
    drawn = posterior.sample(np.random.default_rng(0), 200_000)
    np.testing.assert_allclose(drawn.mean(axis=0), [0.5, -4.0], atol=0.005)
    np.testing.assert_allclose(np.cov(drawn.T), np.diag([0.25, 0.04]), atol=0.003)
    _, spread = posterior.score_moments(np.array([[2.0]]))
    assert spread[0] == pytest.approx(np.sqrt(4 * 0.25 + 0.04))
    centred = posterior.centred()
    assert isinstance(centred, DiagonalPosterior)
    assert not centred.mean.any()


def test_a_diagonal_is_too_sure_of_features_that_go_together() -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(size=(4000, 1))
    hidden = common + 0.1 * rng.normal(size=(4000, 2))
    clicks = (rng.random(4000) < expit(hidden.sum(axis=1) * 0.3 - 3)).astype(np.float64)
    population = CampaignPrior(0.05, precision=1.0)
    full, diagonal = (population.prior(2, kind).update(hidden, clicks) for kind in (False, True))
    np.testing.assert_allclose(full.mean, diagonal.mean)
    assert (full.score_moments([[1.0, -1.0]])[1] > 3 * diagonal.score_moments([[1.0, -1.0]])[1]).all()


def test_the_precision_by_evidence_is_the_best_of_all() -> None:
    """Against the Laplace evidence written out, with a flat intercept, and maximised numerically."""
    rng = np.random.default_rng(4)
    weight = rng.normal(0, 0.5, 20)
    hidden, clicks = rare(20_000, list(weight), logit(0.05), seed=5)
    found = CampaignPrior.fit(hidden, clicks)
    assert found.click_rate == clicks.mean()
    x, sign = with_bias(hidden), 2 * clicks - 1

    def minus_evidence(log_tau: float) -> float:
        prior = np.diag(np.append(np.full(20, np.exp(log_tau)), 1e-9))
        fitted = LastLayerPosterior(np.zeros(21), prior).update(hidden, clicks)
        w = fitted.mean
        value = log_expit(sign * (x @ w)).sum() - 0.5 * np.exp(log_tau) * (w[:-1] @ w[:-1])
        return -float(value + 0.5 * 20 * log_tau - 0.5 * np.linalg.slogdet(fitted.precision)[1])

    best = minimize_scalar(minus_evidence, bounds=(-3, 6), method="bounded", options={"xatol": 1e-3})
    # MacKay's fixed point leaves out how the curvature moves with τ; here that is little.
    assert np.log(found.precision) == pytest.approx(best.x, abs=0.1)
    assert found.precision == pytest.approx(1 / 0.25, rel=0.6)
    assert CampaignPrior.fit(hidden, clicks, precision=7.0).precision == 7.0


def test_features_that_tell_nothing_get_a_strong_prior() -> None:
    rng = np.random.default_rng(6)
    hidden, clicks = rng.normal(size=(3000, 5)), (rng.random(3000) < 0.03).astype(np.float64)
    assert CampaignPrior.fit(hidden, clicks).precision > 50


def test_a_prior_around_one_half_is_far_worse_at_rare_clicks() -> None:
    """Log loss of the predictions made before each of the first batches."""
    hidden, clicks = rare(2000, [0.4, -0.4], logit(0.01), seed=7)
    losses = []
    for posterior in (
        CampaignPrior(0.012, precision=4.0).prior(2),
        LastLayerPosterior(np.zeros(3), np.eye(3)),
    ):
        total, now = 0.0, posterior
        for rows in batches(2000, 50):
            total -= log_expit((2 * clicks[rows] - 1) * now.score_moments(hidden[rows])[0]).sum()
            now = now.update(hidden[rows], clicks[rows])
        losses.append(total)
    assert losses[1] > 1.2 * losses[0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"click_rate": 0.0, "precision": 1.0}, "click_rate is 0"),
        ({"click_rate": 1.5, "precision": 1.0}, "click_rate is 1.5"),
        ({"click_rate": np.nan, "precision": 1.0}, "click_rate is nan"),
        ({"click_rate": 0.1, "precision": 0.0}, "precision is 0"),
        ({"click_rate": 0.1, "precision": 1.0, "impressions": np.inf}, "impressions is inf"),
    ],
)
def test_a_population_out_of_range(given: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        CampaignPrior(**given)


@pytest.mark.parametrize("clicks", [[], [0.0, 0.0], [1.0, 1.0]])
def test_a_population_without_a_rate(clicks: list[float]) -> None:
    with pytest.raises(DataError, match="rate is unknown") as error:
        CampaignPrior.fit(np.zeros((len(clicks), 2)), clicks)
    assert error.value.hint
