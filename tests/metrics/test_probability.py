"""Log loss and Brier score against scikit-learn, normalised entropy and Brier's parts by definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics import brier, log_loss, normalized_entropy
from ctrkit.metrics.probability import brier_decomposition, relative_information_gain


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


def test_information_gain_is_the_share_of_the_entropy_saved(rows: tuple[np.ndarray, ...]) -> None:
    labels, probabilities, weight = rows
    rate = np.average(labels, weights=weight)
    entropy = scipy.stats.entropy([rate, 1 - rate])
    saved = entropy - sklearn.metrics.log_loss(labels, probabilities, sample_weight=weight)
    found = relative_information_gain(labels, probabilities, weight)
    assert found == pytest.approx(saved / entropy, rel=1e-10)
    assert relative_information_gain(labels, np.full(5000, labels.mean())) == pytest.approx(0, abs=1e-12)
    with pytest.raises(DataError, match="both classes"):
        relative_information_gain(np.ones(10), np.full(10, 0.1))


def test_murphys_parts_of_the_brier_score() -> None:
    # By hand: 4 rows at 0.2 of which 1 is positive, 2 rows at 0.5 of which 2 are; the rate is 1/2.
    labels, probabilities = [1, 0, 0, 0, 1, 1], [0.2, 0.2, 0.2, 0.2, 0.5, 0.5]
    found = brier_decomposition(labels, probabilities)
    assert found.reliability == pytest.approx(4 / 6 * 0.05**2 + 2 / 6 * 0.5**2)
    assert found.resolution == pytest.approx(4 / 6 * 0.25**2 + 2 / 6 * 0.5**2)
    assert found.uncertainty == pytest.approx(0.25)
    assert found.within == 0.0
    assert found.to_dict()["reliability"] == found.reliability


@pytest.mark.parametrize("strategy", ["mass", "width"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bins", [None, 1, 10])
def test_parts_add_up_to_the_brier_score(rows, strategy, weighted, bins) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities, weight = rows
    if bins is None:
        probabilities = np.round(probabilities, 2)
    mass = weight if weighted else None
    found = brier_decomposition(labels, probabilities, bins, strategy, mass)
    expected = sklearn.metrics.brier_score_loss(labels, probabilities, sample_weight=mass)
    assert found.brier == pytest.approx(expected, rel=1e-12)
    parts = found.reliability - found.resolution + found.uncertainty + found.within
    assert parts == found.brier
    rate = np.average(labels, weights=mass)
    assert found.uncertainty == pytest.approx(rate * (1 - rate), rel=1e-12)


def test_the_part_within_bins_is_variance_less_covariance(rows: tuple[np.ndarray, ...]) -> None:
    labels, probabilities, _ = rows
    found = brier_decomposition(labels, probabilities, 4, "width")
    within = reliability = resolution = 0.0
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (probabilities >= low) & (probabilities < low + 0.25)
        if inside.any():
            covariance = np.cov(probabilities[inside], labels[inside], bias=True)
            within += inside.mean() * (covariance[0, 0] - 2 * covariance[0, 1])
            reliability += inside.mean() * (probabilities[inside].mean() - labels[inside].mean()) ** 2
            resolution += inside.mean() * (labels[inside].mean() - labels.mean()) ** 2
    assert found.within == pytest.approx(within, rel=1e-10)
    assert found.reliability == pytest.approx(reliability, rel=1e-10)
    assert found.resolution == pytest.approx(resolution, rel=1e-10)


def test_a_bin_of_no_weight_says_nothing() -> None:
    kept = brier_decomposition([0, 1, 1], [0.1, 0.1, 0.4])
    assert brier_decomposition([0, 1, 1, 0], [0.1, 0.1, 0.4, 0.9], weight=[1, 1, 1, 0]) == kept
    with pytest.raises(ConfigError, match="bins must be at least 1"):
        brier_decomposition([0, 1], [0.1, 0.2], bins=0)
    with pytest.raises(DataError, match="argument `probabilities`, row index 0"):
        brier_decomposition([0, 1], [-0.1, 0.2])
