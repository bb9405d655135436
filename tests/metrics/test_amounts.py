"""Metrics of amounts: against loops over all pairs, scikit-learn and the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics import value_error, value_gini, value_interval, value_pcoc
from ctrkit.metrics.amounts import ValueMetric

METRICS = (value_pcoc, value_error, value_gini)


def drawn(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values with zeros and ties, rounded predictions, weights and groups."""
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(1, 1, n)
    values = np.round(mean * rng.lognormal(0, 0.7, n) * (rng.random(n) < 0.8), 1)
    return values, np.round(mean, 1), rng.integers(0, 4, n).astype(float), rng.integers(0, n // 3, n)


def gini(values: np.ndarray, order: np.ndarray, weight: np.ndarray) -> float:
    """Σ w w' v sign(order - order') over pairs, by loops."""
    return sum(
        weight[i] * weight[j] * values[i] * np.sign(order[i] - order[j])
        for i in range(len(values))
        for j in range(len(values))
    )


def test_values_are_those_of_loops_and_of_scikit_learn() -> None:
    v, p, w, _ = drawn()
    assert value_pcoc(v, p, w) == pytest.approx((w * p).sum() / (w * v).sum(), rel=1e-12)
    absolute = mean_absolute_error(v, p, sample_weight=w)
    assert value_error(v, p, w) == pytest.approx(absolute / np.average(v, weights=w), rel=1e-12)
    assert value_gini(v, p, w) == pytest.approx(gini(v, p, w) / gini(v, v, w), rel=1e-12)


def test_gini_is_the_area_between_lorenz_curves() -> None:
    """Without ties: the share of value in the lowest part of the rows, by prediction and by value."""
    rng = np.random.default_rng(1)
    v = rng.lognormal(size=500)
    p = v * rng.lognormal(size=500)

    def area(order: np.ndarray) -> float:
        lorenz = np.append(0.0, np.cumsum(v[np.argsort(order)]) / v.sum())
        return float(0.5 - np.trapezoid(lorenz, dx=1 / 500))

    assert value_gini(v, p) == pytest.approx(area(p) / area(v), rel=1e-12)
    assert value_gini(v, v) == 1
    assert value_gini(v, -v + v.max()) == pytest.approx(-1)
    assert value_gini(v, np.ones(500)) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_a_weight_is_a_number_of_rows(metric: ValueMetric) -> None:
    v, p, w, _ = drawn()
    times = w.astype(int)
    assert metric(v, p, w) == pytest.approx(metric(np.repeat(v, times), np.repeat(p, times)), rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_are_those_of_the_bootstrap(metric: ValueMetric) -> None:
    """Of whole groups: the standard errors agree to 10 %."""
    v, p, w, groups = drawn(1500, seed=2)
    w = w + 0.5
    found = value_interval(metric, v, p, groups, weight=w)
    assert found.low < found.value == metric(v, p, w) < found.high
    rng, units = np.random.default_rng(3), groups.max() + 1
    draws = []
    for _ in range(400):
        times = np.bincount(rng.integers(units, size=units), minlength=units)[groups]
        draws.append(metric(v, p, w * times))
    assert (found.high - found.low) / 3.92 == pytest.approx(np.std(draws), rel=0.1)


@pytest.mark.parametrize("metric", METRICS)
def test_faults_are_named(metric: ValueMetric) -> None:
    v, p, _, _ = drawn()
    with pytest.raises(DataError, match="values has 60 rows and predictions has 59"):
        metric(v, p[1:], None)
    with pytest.raises(DataError, match=r"argument `predictions`, row index 3: the amount is -1 and must"):
        metric(v, np.where(np.arange(60) == 3, -1.0, p), None)
    with pytest.raises(DataError, match="all values are"):
        metric(np.zeros(60), p, None)
    with pytest.raises(DataError, match="every weight is 0"):
        metric(v, p, np.zeros(60))
    with pytest.raises(DataError, match="at least two rows"):
        value_interval(metric, v[:1] + 1, p[:1])
    with pytest.raises(ConfigError, match="confidence"):
        value_interval(metric, v, p, confidence=2.0)
