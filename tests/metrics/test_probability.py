"""Log loss and Brier score against scikit-learn, normalised entropy against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from ctrkit.errors import DataError
from ctrkit.metrics import brier, log_loss, normalized_entropy


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    probabilities = random.beta(1, 20, 5000)
    return (random.random(5000) < probabilities).astype(int), probabilities, random.exponential(size=5000)


@pytest.mark.parametrize("weighted", [False, True])
def test_equal_scikit_learn(rows: tuple[np.ndarray, ...], weighted: bool) -> None:
    labels, probabilities, weight = rows
    mass = weight if weighted else None
    expected = sklearn.metrics.log_loss(labels, probabilities, sample_weight=mass)
    assert log_loss(labels, probabilities, mass) == pytest.approx(expected, rel=1e-12)
    expected = sklearn.metrics.brier_score_loss(labels, probabilities, sample_weight=mass)
    assert brier(labels, probabilities, mass) == pytest.approx(expected, rel=1e-12)


def test_certainty_that_is_wrong_costs_much_and_not_infinity() -> None:
    expected = sklearn.metrics.log_loss([0, 1, 1], [1.0, 1.0, 0.0])
    assert log_loss([0, 1, 1], [1.0, 1.0, 0.0]) == pytest.approx(expected, rel=1e-12)


def test_normalized_entropy_is_loss_over_entropy(rows: tuple[np.ndarray, ...]) -> None:
    labels, probabilities, weight = rows
    rate = np.average(labels, weights=weight)
    expected = sklearn.metrics.log_loss(labels, probabilities, sample_weight=weight) / scipy.stats.entropy(
        [rate, 1 - rate]
    )
    assert normalized_entropy(labels, probabilities, weight) == pytest.approx(expected, rel=1e-12)


def test_the_base_rate_has_normalized_entropy_1(rows: tuple[np.ndarray, ...]) -> None:
    labels = rows[0]
    assert normalized_entropy(labels, np.full(5000, labels.mean())) == pytest.approx(1.0, rel=1e-12)
    with pytest.raises(DataError, match="both classes"):
        normalized_entropy(np.zeros(10), np.full(10, 0.1))
