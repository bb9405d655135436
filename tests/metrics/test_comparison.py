"""Paired differences against DeLong by pairs, the jackknife, the t test, resampling and uniform p-values."""

from __future__ import annotations

import json
from functools import partial
from inspect import signature

import numpy as np
import pytest
from scipy import stats

from ctrkit import metrics
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.comparison import compare
from ctrkit.metrics.fields import field_ece
from ctrkit.metrics.influence import LINEARISED
from ctrkit.metrics.probability import relative_information_gain
from ctrkit.metrics.ranking import average_precision
from ctrkit.metrics.top_k import mean_reciprocal_rank, ndcg_at

OF_GROUPS = [metrics.gauc, partial(ndcg_at, k=3), mean_reciprocal_rank]


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def two_models(random: np.random.Generator, users: int, each: int = 10, gain: float = 0.0):  # type: ignore[no-untyped-def]
    """Labels, two models' probabilities and users; equally good models unless the first has a gain."""
    user = np.repeat(np.arange(users), each)
    signal, taste = random.normal(size=user.size), random.normal(0, 0.7, users)[user]
    labels = random.random(user.size) < sigmoid(-1.5 + signal + taste)
    noise = random.normal(0, 0.7, (2, user.size))
    first, second = (sigmoid(-1.5 + signal + n) for n in (noise[0] * (1 - gain), noise[1]))
    return labels.astype(float), first, second, user


def test_auc_difference_is_delongs() -> None:
    labels, first, second, _ = two_models(np.random.default_rng(0), 20)
    first = np.round(first, 2)  # with ties
    of_positive, of_negative, area = [], [], []
    for scores in (first, second):
        positive, negative = scores[labels == 1], scores[labels == 0]
        wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        of_positive.append(wins.mean(1))
        of_negative.append(wins.mean(0))
        area.append(wins.mean())
    covariance = np.cov(of_positive) / labels.sum() + np.cov(of_negative) / (1 - labels).sum()
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    difference = area[0] - area[1]
    found = compare(metrics.auc, labels, first, second)
    assert found.method == "linearised"
    assert found.difference.value == pytest.approx(difference, abs=1e-12)
    half = stats.norm.ppf(0.975) * np.sqrt(variance)
    assert found.difference.low == pytest.approx(difference - half, abs=1e-12)
    assert found.difference.high == pytest.approx(difference + half, abs=1e-12)
    z = abs(difference) / np.sqrt(variance)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(z), rel=1e-9)
    assert found.first == metrics.interval(metrics.auc, labels, first)
    assert found.second == metrics.interval(metrics.auc, labels, second)


@pytest.mark.parametrize("metric", [metrics.log_loss, metrics.brier])
def test_mean_losses_are_compared_by_the_paired_t_test(metric) -> None:  # type: ignore[no-untyped-def]
    labels, first, second, _ = two_models(np.random.default_rng(1), 100)

    def losses(p: np.ndarray) -> np.ndarray:
        return (p - labels) ** 2 if metric is metrics.brier else -np.log(np.where(labels == 1, p, 1 - p))

    expected = stats.ttest_rel(losses(first), losses(second))
    found = compare(metric, labels, first, second)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(expected.statistic)), rel=1e-9)
    assert found.difference.value == pytest.approx(losses(first).mean() - losses(second).mean(), abs=1e-14)


@pytest.mark.parametrize("metric", [*LINEARISED, *OF_GROUPS])
def test_variance_by_user_is_the_jackknifes(metric) -> None:  # type: ignore[no-untyped-def]
    labels, first, second, user = two_models(np.random.default_rng(2), 150)
    by_user = [user] if metric in OF_GROUPS else []
    left_out = []
    for one in range(150):
        kept = user != one
        groups = [user[kept] for user in by_user]
        left_out.append(
            metric(labels[kept], first[kept], *groups) - metric(labels[kept], second[kept], *groups)
        )
    deviation = np.sqrt(149 / 150 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    found = compare(metric, labels, first, second, user)
    half = (found.difference.high - found.difference.low) / 2
    assert half == pytest.approx(stats.norm.ppf(0.975) * deviation, rel=0.04)


@pytest.mark.parametrize(
    ("metric", "weighted"),
    [*((m, False) for m in (*LINEARISED, *OF_GROUPS)), *((m, True) for m in (*LINEARISED, metrics.gauc))],
)
def test_linearised_and_bootstrapped_differences_agree(metric, weighted) -> None:  # type: ignore[no-untyped-def]
    labels, first, second, user = two_models(np.random.default_rng(3), 300, gain=0.05)
    weight = np.random.default_rng(0).choice([0.5, 1.5], len(labels)) if weighted else None
    closed = compare(metric, labels, first, second, user, weight=weight)

    def unknown(*columns: np.ndarray, **named: np.ndarray) -> float:
        return float(metric(*columns, **named))

    unknown.__signature__ = signature(metric)  # type: ignore[attr-defined]
    drawn = compare(unknown, labels, first, second, user, draws=400, weight=weight)
    assert (closed.method, drawn.method) == ("linearised", "bootstrap")
    assert drawn.difference.value == pytest.approx(closed.difference.value, abs=1e-12)
    width = closed.difference.high - closed.difference.low
    assert drawn.difference.high - drawn.difference.low == pytest.approx(width, rel=0.2)
    assert drawn.p_value == pytest.approx(closed.p_value, abs=0.1)


def test_a_difference_is_surer_than_the_values() -> None:
    random = np.random.default_rng(4)
    labels, first, _, user = two_models(random, 800)
    second = sigmoid(np.log(first / (1 - first)) + random.normal(0, 0.7, len(first)))  # much the same
    for metric in (metrics.auc, metrics.gauc, average_precision):
        found = compare(metric, labels, first, second, user)
        assert found.first.low < found.second.high  # the single intervals overlap
        assert found.second.low < found.first.high
        narrow, wide = found.difference.high - found.difference.low, found.first.high - found.first.low
        assert narrow < 0.8 * wide
        turned = compare(metric, labels, second, first, user)
        assert turned.p_value == pytest.approx(found.p_value, rel=1e-9)
        assert turned.difference.low == pytest.approx(-found.difference.high, rel=1e-9)
    auc = compare(metrics.auc, labels, first, second, user)
    assert auc.p_value < 0.01
    assert auc.difference.low > 0


@pytest.mark.parametrize(
    "metric",
    [metrics.auc, metrics.gauc, metrics.log_loss, metrics.pcoc, relative_information_gain, average_precision],
)
def test_p_values_of_equal_models_are_uniform(metric) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(5)
    p_values = [compare(metric, *two_models(random, 120)).p_value for _ in range(250)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.085  # 2.5 standard errors


@pytest.mark.slow
def test_p_values_of_the_paired_bootstrap_are_uniform() -> None:
    random = np.random.default_rng(6)
    metric = partial(metrics.ece, bins=5)
    found = [compare(metric, *two_models(random, 60), draws=99, seed=turn) for turn in range(120)]
    assert {each.method for each in found} == {"bootstrap"}
    p_values = [each.p_value for each in found]
    assert min(p_values) >= 2 / 100
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_models_that_are_the_same_do_not_differ() -> None:
    labels, first, _, user = two_models(np.random.default_rng(7), 50)
    for metric in (*LINEARISED, *OF_GROUPS, metrics.ece, metrics.debiased_ece):
        found = compare(metric, labels, first, first, user, draws=20)
        assert (found.difference.low, found.difference.value, found.difference.high) == (0, 0, 0)
        assert found.p_value == 1.0


def test_other_metrics_are_bootstrapped_on_the_same_draws() -> None:
    labels, first, second, user = two_models(np.random.default_rng(8), 100)

    def top_clicks(labels: np.ndarray, values: np.ndarray, groups: np.ndarray, k: int) -> float:
        order = np.lexsort((-values, groups))
        rank = np.arange(len(labels)) - np.searchsorted(groups[order], groups[order])
        return float(labels[order][rank < k].sum() / len(np.unique(groups)))

    found = compare(partial(top_clicks, k=2), labels, first, second, user, draws=60, seed=1)
    by_user = []
    for values in (first, second):
        ranked = np.argsort(-values.reshape(100, 10), axis=1)[:, :2]
        by_user.append(np.take_along_axis(labels.reshape(100, 10), ranked, axis=1).sum(axis=1))
    difference = by_user[0] - by_user[1]
    random = np.random.default_rng(1)
    drawn = np.array([difference[random.integers(100, size=100)].mean() for _ in range(60)])
    value = difference.mean()
    low, high = 2 * value - np.quantile(drawn, [0.975, 0.025])
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high), abs=1e-12)
    assert found == compare(partial(top_clicks, k=2), labels, first, second, user, draws=60, seed=1)
    beyond = min(np.sum(drawn >= 2 * value - 1e-12), np.sum(drawn <= 2 * value + 1e-12))
    assert found.p_value == pytest.approx(min(1, 2 * (beyond + 1) / 61), abs=0.05)


def test_columns_stay_beside_their_rows() -> None:
    labels, first, _, user = two_models(np.random.default_rng(9), 200)
    site = np.where(np.random.default_rng(0).random(2000) < 0.5, "a", "b")
    bad = np.where(site == "a", np.minimum(1.8 * first, 1), first)
    found = compare(field_ece, labels, bad, first, user, columns={"fields": site}, draws=60)
    assert found.difference.value == field_ece(labels, bad, site) - field_ece(labels, first, site)
    assert found.difference.low > 0
    assert found.p_value <= 2 / 61 + 1e-12


def test_to_dict_is_plain_data() -> None:
    found = compare(metrics.brier, *two_models(np.random.default_rng(10), 20))
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["difference"]["low"] == found.difference.low
    assert set(plain) == {"first", "second", "difference", "p_value", "method"}


def test_bad_input_is_named() -> None:
    labels, first, second = [0, 1, 1, 0], [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]
    for metric in (metrics.brier, metrics.ece):
        with pytest.raises(DataError, match="argument `second`: labels has 4 rows and second has 2"):
            compare(metric, labels, first, second[:2])
        with pytest.raises(DataError, match=r"argument `second`, row index 0.*1.4.*not logits"):
            compare(metric, labels, first, [1.4, 0.3, 0.2, 0.1])
        with pytest.raises(DataError, match=r"argument `first`, row index 1.*missing"):
            compare(metric, labels, [0.1, np.nan, 0.2, 0.3], second)
        with pytest.raises(DataError, match=r"argument `labels`, row index 3.*this is 7"):
            compare(metric, [0, 1, 1, 7], first, second)
    with pytest.raises(DataError, match="GAUC needs groups"):
        compare(metrics.gauc, labels, first, second)
    with pytest.raises(DataError, match="there is no negative one"):
        compare(metrics.auc, [1, 1, 1, 1], first, second)
    with pytest.raises(DataError, match="does not vary from row to row"):
        compare(metrics.auc, [0, 0, 1, 1], first, second)
    with pytest.raises(ConfigError, match="confidence"):
        compare(metrics.auc, labels, first, second, confidence=95)
    with pytest.raises(ConfigError, match="draws"):
        compare(metrics.ece, labels, first, second, draws=3)
