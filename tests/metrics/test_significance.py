"""Intervals against textbook formulas, against each other, and by how often they hold the truth."""

from __future__ import annotations

from functools import partial
from inspect import signature

import numpy as np
import pytest
from scipy.stats import norm

from ctrkit import metrics
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics import bootstrap, interval
from ctrkit.metrics.fields import field_ece
from ctrkit.metrics.influence import GROUP_MEANS, LINEARISED, contributions
from ctrkit.metrics.probability import relative_information_gain
from ctrkit.metrics.ranking import average_precision
from ctrkit.metrics.smooth import ks_calibration_error, smooth_ece
from ctrkit.metrics.top_k import hit_rate_at

CLOSED = [
    metrics.auc, average_precision, metrics.pcoc, metrics.log_loss, metrics.brier,
    metrics.normalized_entropy, relative_information_gain, metrics.debiased_ece,
]  # fmt: skip
# Means over groups, with the options that they need.
OF_GROUPS = [
    partial(metric, k=3) if "k" in signature(metric).parameters else metric for metric in GROUP_MEANS
]


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
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=1e-12)


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


@pytest.mark.parametrize("metric", LINEARISED)
@pytest.mark.parametrize("weighted", [False, True])
def test_contributions_are_the_jackknifes(metric, weighted) -> None:  # type: ignore[no-untyped-def]
    # Leaving row i out moves a metric by about what i contributes, which is its slope in the row's weight.
    random = np.random.default_rng(10)
    probabilities = np.round(random.beta(2, 5, 400), 2)  # with ties
    labels = (random.random(400) < probabilities).astype(float)
    weight = random.exponential(size=400) + 0.2 if weighted else np.ones(400)
    found = contributions(metric, labels, probabilities, None, weight)
    step = 1e-6
    slopes = np.empty(400)
    for row in range(400):
        nudged = weight.copy()
        nudged[row] += step
        slopes[row] = (metric(labels, probabilities, weight=nudged) - found.value) / step
    assert found.value == metric(labels, probabilities, weight=weight)
    # AUC's carry the square root of m / (m - 1) for each class.
    factor = 1.0
    if metric is metrics.auc:
        count = np.where(labels == 1, labels.sum(), 400 - labels.sum())
        factor = np.sqrt(count / (count - 1))
    np.testing.assert_allclose(found.by_cluster, slopes * weight * factor, atol=2e-8, rtol=1e-4)
    assert abs(found.by_cluster.sum()) < 1e-3 * np.abs(found.by_cluster).sum()


@pytest.mark.parametrize("metric", LINEARISED)
@pytest.mark.parametrize("grouped", [False, True])
def test_linearised_and_bootstrapped_widths_agree(metric, grouped) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities, user = clustered_rows(np.random.default_rng(2), 400)
    groups = user if grouped else None
    closed = interval(metric, labels, probabilities, groups)
    drawn = bootstrap(metric, labels, probabilities, groups, draws=800)
    assert closed.value == pytest.approx(drawn.value, rel=1e-12)
    assert closed.low < closed.value < closed.high
    assert closed.high - closed.low == pytest.approx(drawn.high - drawn.low, rel=0.12)


@pytest.mark.parametrize("metric", [*OF_GROUPS, partial(metrics.gauc, by="clicks")])
def test_intervals_of_means_over_groups_agree_with_drawing_users(metric) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(3)
    labels, probabilities, user = clustered_rows(random, 300)
    closed = interval(metric, labels, probabilities, user)
    drawn = []
    for _ in range(300):
        chosen = random.integers(300, size=300)
        rows = np.concatenate([np.arange(10 * u, 10 * u + 10) for u in chosen])
        drawn.append(metric(labels[rows], probabilities[rows], np.repeat(np.arange(300), 10)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert closed.value == pytest.approx(metric(labels, probabilities, user), rel=1e-14)
    assert closed.method == "linearised"
    assert closed.high - closed.low == pytest.approx(high - low, rel=0.15)
    assert closed == interval(metric, labels, probabilities, [f"user {u:03}" for u in user])


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


def test_a_metric_of_groups_sees_a_group_drawn_twice_as_two() -> None:
    labels, probabilities, user = clustered_rows(np.random.default_rng(11), 60)
    shuffled = np.random.default_rng(0).permutation(600)
    labels, probabilities, user = labels[shuffled], probabilities[shuffled], user[shuffled]

    def best_is_click(labels, values, users, share=1.0) -> float:  # type: ignore[no-untyped-def]
        found = [labels[users == u][np.argmax(values[users == u])] for u in np.unique(users)]
        return share * float(np.mean(found))

    found = bootstrap(partial(best_is_click, share=2.0), labels, probabilities, user, draws=40, seed=3)
    by_user = np.array([labels[user == u][np.argmax(probabilities[user == u])] for u in range(60)])
    random = np.random.default_rng(3)
    drawn = [2 * by_user[random.integers(60, size=60)].mean() for _ in range(40)]
    low, high = 2 * 2 * by_user.mean() - np.quantile(drawn, [0.975, 0.025])
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    with pytest.raises(DataError, match="the metric needs groups"):
        bootstrap(best_is_click, labels, probabilities)


def test_a_metric_without_weights_gets_copied_rows() -> None:
    labels, probabilities, user = clustered_rows(np.random.default_rng(12), 50)

    def plain(labels: np.ndarray, values: np.ndarray) -> float:
        return float(np.mean((labels - values) ** 2))

    for groups in (None, user):
        copied = bootstrap(plain, labels, probabilities, groups, draws=50, seed=1)
        weighted = bootstrap(metrics.brier, labels, probabilities, groups, draws=50, seed=1)
        assert copied.low == pytest.approx(weighted.low, rel=1e-12)
        assert copied.high == pytest.approx(weighted.high, rel=1e-12)


@pytest.mark.parametrize("metric", [ks_calibration_error, smooth_ece])
def test_metrics_without_bins_have_intervals(metric) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities, user = clustered_rows(np.random.default_rng(13), 100)
    found = interval(metric, labels, probabilities, user, draws=30)
    assert found.method == "bootstrap"
    assert found.value == pytest.approx(metric(labels, probabilities), rel=1e-9)
    assert 0 <= found.low < found.high


def test_columns_stay_beside_their_rows() -> None:
    random = np.random.default_rng(14)
    site = random.choice(["a", "b", "c"], 900)
    probabilities = random.random(900) * 0.5
    labels = (random.random(900) < probabilities * np.where(site == "a", 0.3, 1.2)).astype(float)
    found = interval(field_ece, labels, probabilities, columns={"fields": site}, draws=60, seed=2)
    assert found.value == field_ece(labels, probabilities, site)
    same_draws, drawn = np.random.default_rng(2), []
    for _ in range(60):
        rows = same_draws.integers(900, size=900)
        drawn.append(field_ece(labels[rows], probabilities[rows], site[rows]))
    low, high = 2 * found.value - np.quantile(drawn, [0.975, 0.025])
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    with pytest.raises(ConfigError, match=r"holds 'fields', one value per row.*in `columns`"):
        interval(partial(field_ece, fields=site), labels, probabilities)
    with pytest.raises(DataError, match=r"labels has 900 rows and fields has the shape \(2,\)"):
        interval(field_ece, labels, probabilities, columns={"fields": ["a", "b"]})


def test_weights_scale_what_rows_say_and_not_how_many_they_are() -> None:
    labels, probabilities, user = clustered_rows(np.random.default_rng(15), 200)
    plain = interval(metrics.log_loss, labels, probabilities, user)
    scaled = interval(metrics.log_loss, labels, probabilities, user, weight=np.full(2000, 7.0))
    assert (scaled.low, scaled.high) == pytest.approx((plain.low, plain.high), rel=1e-12)
    weight = np.random.default_rng(0).exponential(size=2000)
    closed = interval(metrics.log_loss, labels, probabilities, user, weight=weight)
    drawn = bootstrap(metrics.log_loss, labels, probabilities, user, draws=800, weight=weight)
    assert closed.value == pytest.approx(metrics.log_loss(labels, probabilities, weight), rel=1e-12)
    assert closed.high - closed.low == pytest.approx(drawn.high - drawn.low, rel=0.12)
    with pytest.raises(ConfigError, match="takes no weight"):
        interval(lambda labels, values: 0.5, labels, probabilities, weight=weight)


def test_debiased_ece_keeps_its_options() -> None:
    labels, probabilities, user = clustered_rows(np.random.default_rng(16), 100)
    metric = partial(metrics.debiased_ece, bins=5, strategy="width")
    found = interval(metric, labels, probabilities, user)
    assert found.method == "quadratic form"
    assert found.value == metric(labels, probabilities, groups=user)


def test_information_gain_mirrors_normalized_entropy() -> None:
    labels, probabilities, user = clustered_rows(np.random.default_rng(17), 100)
    entropy = interval(metrics.normalized_entropy, labels, probabilities, user)
    gain = interval(relative_information_gain, labels, probabilities, user)
    assert (gain.low, gain.high) == pytest.approx((1 - entropy.high, 1 - entropy.low), abs=1e-12)


def test_edges() -> None:
    perfect = interval(metrics.auc, [0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.8, 0.9])
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(0.025**0.5)  # two independent pairs, both won
    all_hit = interval(partial(hit_rate_at, k=1), [1, 1, 0, 1], [3, 2, 1, 2], groups=[0, 1, 1, 2])
    assert (all_hit.value, all_hit.high) == (1.0, 1.0)
    assert all_hit.low == pytest.approx(0.025 ** (1 / 3))  # three users, all hit
    exact = interval(metrics.brier, [0, 1], [0.0, 1.0])
    assert (exact.low, exact.value) == (0.0, 0.0)
    assert exact.high == pytest.approx(1 - 0.025**0.5)  # two rows without an error tell as much
    with pytest.raises(DataError, match="GAUC needs groups"):
        interval(metrics.gauc, [0, 1], [0.1, 0.2])
    with pytest.raises(DataError, match="the metric needs groups"):
        interval(partial(hit_rate_at, k=1), [0, 1], [0.1, 0.2])
    with pytest.raises(DataError, match="no group holds a positive"):
        interval(partial(hit_rate_at, k=1), [0, 0], [0.1, 0.2], [0, 1])
    with pytest.raises(DataError, match="different weights"):
        interval(
            partial(hit_rate_at, k=1), [0, 1, 1, 0], [0.1, 0.2, 0.1, 0.2], [0, 0, 1, 1], weight=[1, 2, 1, 1]
        )
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
