"""Each policy's own rule, and what bad scores and configs are told."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import softmax

from ctrkit.errors import ConfigError, RunError
from ctrkit.policies import (
    EpsilonGreedyConfig,
    EpsilonGreedyPolicy,
    GreedyPolicy,
    Scorer,
    SoftmaxConfig,
    SoftmaxPolicy,
    UniformPolicy,
    policy_config,
)

SCORES = np.array([[1.0, 3.0, 3.0], [0.5, -2.0, np.nan]])
CONTEXT = pl.DataFrame({"x": [0, 0]})
CANDIDATES = pl.Series("candidates", [[7, 8, 9], [7, 8]])


def fixed(scores: np.ndarray) -> Scorer:
    return lambda context, candidates: scores


def test_greedy_shares_ties_equally() -> None:
    chosen = GreedyPolicy(fixed(SCORES)).probabilities(CONTEXT, CANDIDATES)
    np.testing.assert_array_equal(chosen, [[0, 0.5, 0.5], [1, 0, 0]])


@pytest.mark.parametrize("temperature", [0.1, 1.0, 30.0])
def test_softmax_is_scipys(temperature: float) -> None:
    chosen = SoftmaxPolicy(fixed(SCORES), temperature).probabilities(CONTEXT, CANDIDATES)
    np.testing.assert_allclose(chosen[0], softmax(SCORES[0] / temperature), rtol=1e-12)
    np.testing.assert_allclose(chosen[1, :2], softmax(SCORES[1, :2] / temperature), rtol=1e-12)


def test_softmax_survives_huge_scores() -> None:
    chosen = SoftmaxPolicy(fixed(SCORES * 1e6)).probabilities(CONTEXT, CANDIDATES)
    np.testing.assert_array_equal(chosen, [[0, 0.5, 0.5], [1, 0, 0]])


def test_epsilon_greedy_mixes_greedy_and_uniform() -> None:
    chosen = EpsilonGreedyPolicy(fixed(SCORES), 0.3).probabilities(CONTEXT, CANDIDATES)
    np.testing.assert_allclose(chosen, [[0.1, 0.45, 0.45], [0.85, 0.15, 0]], rtol=1e-12)


def test_uniform() -> None:
    chosen = UniformPolicy().probabilities(CONTEXT, CANDIDATES)
    np.testing.assert_allclose(chosen, [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]], rtol=1e-15)


def test_scores_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(RunError, match=r"shape \(2, 2\) for candidates \(2, 3\)"):
        GreedyPolicy(fixed(SCORES[:, :2])).probabilities(CONTEXT, CANDIDATES)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_candidate_without_a_finite_score_is_refused(bad: float) -> None:
    scores = SCORES.copy()
    scores[1, 0] = bad
    with pytest.raises(RunError, match="candidate 0 of row 1"):
        GreedyPolicy(fixed(scores)).probabilities(CONTEXT, CANDIDATES)


def test_config_makes_the_policy_it_names() -> None:
    policy = SoftmaxConfig(temperature=2.0).policy(fixed(SCORES))
    assert isinstance(policy, SoftmaxPolicy)
    assert policy.temperature == 2.0
    epsilon_greedy = EpsilonGreedyConfig(epsilon=0.25).policy(fixed(SCORES))
    assert isinstance(epsilon_greedy, EpsilonGreedyPolicy)
    assert epsilon_greedy.epsilon == 0.25


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "softmx"}, "Did you mean 'softmax'"),
        ({"name": "softmax", "temperature": 0}, "temperature is 0 and must be above 0"),
        ({"name": "softmax", "temperature": float("inf")}, "temperature is inf and must be finite"),
        ({"name": "epsilon-greedy", "epsilon": 1.5}, "epsilon"),
        ({"name": "epsilon-greedy", "epsilom": 0.5}, "Did you mean 'epsilon'"),
        ({"epsilom": 0.5}, "unknown key 'epsilom'"),
    ],
)
def test_bad_configs(content: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy_config(content)
