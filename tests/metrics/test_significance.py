"""Intervals against textbook formulas, against each other, and by how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from ctrkit import metrics
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics import bootstrap, interval

CLOSED = [
    metrics.auc, metrics.pcoc, metrics.log_loss, metrics.brier, metrics.normalized_entropy,
    metrics.debiased_ece,
]  # fmt: skip


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def clustered_rows(random: np.random.Generator, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten rows a user, whose own taste the model does not see: labels, probabilities, users."""
    user = np.repeat(np.arange(groups), 10)
    logit = random.normal(-2, 1, user.size)
    labels = random.random(user.size) < sigmoid(logit + random.normal(0, 1, groups)[user])
    return labels.astype(float), sigmoid(logit), user


def test_auc_interval_is_delongs() -> None:
    random = np.random.default_rng(0)
    scores = np.round(random.normal(size=200), 1)
    labels = random.random(200) < sigmoid(scores - 1)
    positive, negative = scores[labels], scores[~labels]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    area = wins.mean()
    variance = wins.mean(1).var(ddof=1) / len(positive) + wins.mean(0).var(ddof=1) / len(negative)
    half = norm.ppf(0.975) * np.sqrt(variance) / (area * (1 - area))
    found = interval(metrics.auc, labels, scores)
    ends = sigmoid(np.log(area / (1 - area)) + np.array([-half, half]))
    assert found.value == pytest.approx(area, abs=1e-12)
    # Alike up to the factor √(N / (N - 1)) of the clustered form.
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=3e-4)


def test_pcoc_interval_is_the_log_ratios() -> None:
    labels, probabilities, _ = clustered_rows(np.random.default_rng(1), 300)
    rows = len(labels)
    covariance = np.cov(np.stack([probabilities, labels]))
    mean_p, mean_y = probabilities.mean(), labels.mean()
    variance = (
        covariance[0, 0] / mean_p**2 + covariance[1, 1] / mean_y**2 - 2 * covariance[0, 1] / mean_p / mean_y
    )
    half = norm.ppf(0.95) * np.sqrt(variance / rows)
    found = interval(metrics.pcoc, labels, probabilities, confidence=0.9)
    expected = mean_p / mean_y * np.exp([-half, half])
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-9)


@pytest.mark.parametrize(
    "metric", [metrics.auc, metrics.pcoc, metrics.log_loss, metrics.brier, metrics.normalized_entropy]
)
@pytest.mark.parametrize("grouped", [False, True])
def test_linearised_and_bootstrapped_widths_agree(metric, grouped) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities, user = clustered_rows(np.random.default_rng(2), 400)
    groups = user if grouped else None
    closed = interval(metric, labels, probabilities, groups)
    drawn = bootstrap(metric, labels, probabilities, groups, draws=800)
    assert closed.value == pytest.approx(drawn.value, rel=1e-12)
    assert closed.low < closed.value < closed.high
    assert closed.high - closed.low == pytest.approx(drawn.high - drawn.low, rel=0.12)


def test_gauc_interval_agrees_with_drawing_users() -> None:
    random = np.random.default_rng(3)
    labels, probabilities, user = clustered_rows(random, 300)
    closed = interval(metrics.gauc, labels, probabilities, user)
    drawn = []
    for _ in range(400):
        chosen = random.integers(300, size=300)
        rows = np.concatenate([np.arange(10 * u, 10 * u + 10) for u in chosen])
        drawn.append(metrics.gauc(labels[rows], probabilities[rows], np.repeat(np.arange(300), 10)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert closed.value == metrics.gauc(labels, probabilities, user)
    assert closed.high - closed.low == pytest.approx(high - low, rel=0.15)


@pytest.mark.parametrize("metric", CLOSED)
def test_copies_of_rows_add_nothing_when_grouped(metric) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities, _ = clustered_rows(np.random.default_rng(4), 100)
    copies = np.repeat(np.arange(len(labels)), 3)
    once = interval(metric, labels, probabilities)
    thrice = interval(metric, labels[copies], probabilities[copies], groups=copies)
    naive = interval(metric, labels[copies], probabilities[copies])
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), rel=4e-3)
    assert naive.low > once.low  # copies taken for rows of their own make it surer than it is


def test_bootstrap_weights_are_resampled_rows() -> None:
    random = np.random.default_rng(5)
    probabilities = np.sort(random.random(300))
    labels = (random.random(300) < probabilities).astype(float)
    found = bootstrap(metrics.brier, labels, probabilities, draws=50, seed=9)
    same_draws, values = np.random.default_rng(9), []
    for _ in range(50):
        rows = same_draws.integers(300, size=300)
        values.append(np.mean((probabilities[rows] - labels[rows]) ** 2))
    q_low, q_high = np.quantile(values, [0.025, 0.975])
    value = np.mean((probabilities - labels) ** 2)
    assert (found.low, found.high) == pytest.approx((2 * value - q_high, 2 * value - q_low), abs=1e-12)
    assert found == bootstrap(metrics.brier, labels, probabilities, draws=50, seed=9)


@pytest.mark.parametrize("metric", [metrics.pcoc, metrics.log_loss, metrics.normalized_entropy, metrics.auc])
def test_grouped_intervals_hold_the_truth(metric) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(6)
    found = [interval(metric, *clustered_rows(random, 150)) for _ in range(250)]
    # The truth has no simple form; a mean over much more rows than one interval sees stands in for it.
    truth = metric(*clustered_rows(random, 40_000)[:2])
    # 95 %, give or take 2.5 standard errors of 250 simulations.
    assert 0.91 <= np.mean([i.low <= truth <= i.high for i in found]) <= 0.985


def test_debiased_ece_interval_holds_the_truth() -> None:
    random = np.random.default_rng(7)

    def draw(rows: int, labelled: bool) -> tuple[np.ndarray, np.ndarray]:
        logit = random.normal(-2, 1, rows)
        truth = sigmoid(logit)
        return (random.random(rows) < truth).astype(float) if labelled else truth, sigmoid(1.4 * logit + 0.3)

    truth, predicted = draw(600_000, labelled=False)
    parts = np.array_split(np.argsort(predicted), 15)
    error = np.sqrt(np.mean([(truth[part].mean() - predicted[part].mean()) ** 2 for part in parts]))
    found = [interval(metrics.debiased_ece, *draw(3000, labelled=True)) for _ in range(250)]
    assert 0.91 <= np.mean([i.low <= error <= i.high for i in found]) <= 0.985
    assert np.mean([i.value for i in found]) == pytest.approx(error, rel=0.05)


def test_ece_is_bootstrapped_with_its_bias_off() -> None:
    labels, probabilities, user = clustered_rows(np.random.default_rng(8), 200)
    found = interval(metrics.ece, labels, probabilities, user, draws=100)
    assert found.method == "bootstrap"
    assert found.value == pytest.approx(metrics.ece(labels, probabilities), rel=1e-12)
    assert 0 <= found.low < found.high
    assert (found.low + found.high) / 2 < found.value  # noise only ever adds to ECE


def test_edges() -> None:
    perfect = interval(metrics.auc, [0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.8, 0.9])
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(0.025**0.5)  # two independent pairs, both won
    exact = interval(metrics.brier, [0, 1], [0.0, 1.0])
    assert (exact.low, exact.value, exact.high) == (0.0, 0.0, 0.0)
    with pytest.raises(DataError, match="GAUC needs groups"):
        interval(metrics.gauc, [0, 1], [0.1, 0.2])
    with pytest.raises(DataError, match="two rows of each class"):
        interval(metrics.auc, [0, 0, 1], [0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="at least two"):
        interval(metrics.pcoc, [0, 1], [0.1, 0.2], groups=["a", "a"])
    with pytest.raises(DataError, match="at least one positive"):
        interval(metrics.pcoc, [0, 0], [0.1, 0.2])
    with pytest.raises(DataError, match="undefined on most resamples"):
        bootstrap(metrics.auc, [0, 1], [0.1, 0.2], groups=["a", "b"], draws=20, seed=1)
    with pytest.raises(ConfigError, match="draws"):
        bootstrap(metrics.ece, [0, 1], [0.1, 0.2], draws=1)
    with pytest.raises(ConfigError, match="confidence"):
        interval(metrics.auc, [0, 1], [0.1, 0.2], confidence=95)


def test_to_dict_is_plain_data() -> None:
    found = interval(metrics.pcoc, [0, 1, 0], [0.1, 0.2, 0.4])
    assert set(found.to_dict()) == {"value", "low", "high", "confidence", "method"}
    assert all(type(found.to_dict()[end]) is float for end in ("value", "low", "high"))
