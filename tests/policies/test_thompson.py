from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from ctrkit.errors import ConfigError, RunError
from ctrkit.policies.laplace import Floats, LastLayerPosterior, with_bias
from ctrkit.policies.thompson import ThompsonPolicy

FEATURES = {1: [1.0, 0.0], 2: [0.5, 1.0], 3: [-0.5, 0.3], 4: [0.5, 1.0]}
POSTERIOR = LastLayerPosterior(
    np.array([0.3, 0.1, -2.0]), np.array([[3.0, 1.0, 0.2], [1.0, 2.0, 0.1], [0.2, 0.1, 5.0]])
)
CONTEXT = pl.DataFrame({"user": [1, 2, 3]})


def reader(context: pl.DataFrame, candidates: pl.Series) -> Floats:
    longest = max(len(row) for row in candidates)
    hidden = np.full((len(candidates), longest, 2), np.nan)
    for i, row in enumerate(candidates):
        for k, ad in enumerate(row):
            hidden[i, k] = FEATURES[ad]
    return hidden


def test_two_candidates_have_the_probability_in_closed_form() -> None:
    found = ThompsonPolicy(reader, POSTERIOR).probabilities(CONTEXT[:2], pl.Series([[1, 2], [2, 4]]))
    difference = np.array([*np.subtract(FEATURES[1], FEATURES[2]), 0.0])
    deviation = np.sqrt(difference @ np.linalg.inv(POSTERIOR.precision) @ difference)
    expected = norm.cdf(difference @ POSTERIOR.mean / deviation)
    np.testing.assert_allclose(found, [[expected, 1 - expected], [0.5, 0.5]], rtol=1e-12)
    scores = (
        POSTERIOR.sample(np.random.default_rng(0), 40_000) @ with_bias(np.array([FEATURES[1], FEATURES[2]])).T
    )
    assert (scores[:, 0] > scores[:, 1]).mean() == pytest.approx(expected, abs=0.01)


def test_rows_sum_to_one_and_missing_candidates_get_nothing() -> None:
    found = ThompsonPolicy(reader, POSTERIOR).probabilities(CONTEXT, pl.Series([[1, 2, 3], [3], [2, 1]]))
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert found[1].tolist() == [1.0, 0.0, 0.0]
    assert found[2, 2] == 0.0
    assert found.dtype == np.float64


def test_neither_other_rows_nor_the_order_of_candidates_matter() -> None:
    policy = ThompsonPolicy(reader, POSTERIOR)
    found = policy.probabilities(CONTEXT, pl.Series([[1, 2, 3], [3, 1, 2], [1, 2]]))
    np.testing.assert_allclose(found[0], found[1][[1, 2, 0]])
    np.testing.assert_array_equal(policy.probabilities(CONTEXT[:1], pl.Series([[1, 2, 3]]))[0], found[0])


def test_equal_candidates_share() -> None:
    found = ThompsonPolicy(reader, POSTERIOR).probabilities(CONTEXT[:1], pl.Series([[2, 1, 4]]))[0]
    assert found[0] == found[2] > 0


def test_a_sure_posterior_is_greedy_and_a_seed_makes_the_policy() -> None:
    sure = LastLayerPosterior(POSTERIOR.mean, 1e12 * np.eye(3))
    lists = pl.Series([[1, 2, 3]])
    assert ThompsonPolicy(reader, sure).probabilities(CONTEXT[:1], lists).tolist() == [[1.0, 0.0, 0.0]]
    one, again, other = (
        ThompsonPolicy(reader, POSTERIOR, seed=s).probabilities(CONTEXT[:1], lists) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_faults_of_the_reader_are_said() -> None:
    lists = pl.Series([[1, 2]])
    with pytest.raises(RunError, match="shape"):
        ThompsonPolicy(lambda c, a: np.zeros((1, 2, 5)), POSTERIOR).probabilities(CONTEXT[:1], lists)
    with pytest.raises(RunError, match="candidate 1 of row 0 is not finite"):
        ThompsonPolicy(lambda c, a: np.array([[[0, 0], [0, np.inf]]]), POSTERIOR).probabilities(
            CONTEXT[:1], lists
        )
    with pytest.raises(ConfigError, match="draws"):
        ThompsonPolicy(reader, POSTERIOR, draws=0)
