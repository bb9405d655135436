"""What every policy promises, over the registry."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.policies import (
    POLICIES,
    LastLayerPosterior,
    Policy,
    ScoreUncertainty,
    candidate_mask,
    padded,
    policy_config,
)

ROWS = 40


def scorer(context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
    """Depends on the row and the candidate; coarse, so that there are ties."""
    mask = candidate_mask(candidates)
    ids = padded(candidates, fill=0.0)
    scores = np.round(2 * np.sin(1.3 * ids + context["x"].to_numpy()[:, None]))
    return np.where(mask, scores, np.nan)


# What is read is the score, whose weight is 1, give or take.
BELIEF = ScoreUncertainty(
    lambda context, candidates: scorer(context, candidates)[:, :, None],
    LastLayerPosterior(np.array([1.0, 0.0]), np.eye(2)),
)


@pytest.fixture(params=sorted(POLICIES))
def policy(request: pytest.FixtureRequest) -> Policy:
    config = policy_config({"name": request.param, "temperature": 0.7, "epsilon": 0.2})
    return config.policy(scorer, BELIEF)


@pytest.fixture
def log() -> tuple[pl.DataFrame, pl.Series]:
    rng = np.random.default_rng(0)
    lists = [rng.permutation(12)[: rng.integers(1, 9)].tolist() for _ in range(ROWS)]
    return pl.DataFrame({"x": rng.normal(size=ROWS)}), pl.Series("candidates", lists)


def test_rows_sum_to_one(policy: Policy, log: tuple[pl.DataFrame, pl.Series]) -> None:
    probabilities = policy.probabilities(*log)
    assert probabilities.dtype == np.float64
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-12)


def test_missing_places_have_probability_zero(policy: Policy, log: tuple[pl.DataFrame, pl.Series]) -> None:
    mask = candidate_mask(log[1])
    probabilities = policy.probabilities(*log)
    assert probabilities.shape == mask.shape
    assert not mask.all()
    assert (probabilities[~mask] == 0).all()


def test_order_of_candidates_does_not_matter(policy: Policy, log: tuple[pl.DataFrame, pl.Series]) -> None:
    context, candidates = log
    mask = candidate_mask(candidates)
    forward = policy.probabilities(context, candidates)
    backward = policy.probabilities(context, candidates.list.reverse())
    for row, count in enumerate(mask.sum(axis=1)):
        np.testing.assert_allclose(forward[row, :count], backward[row, :count][::-1], rtol=1e-12)


def test_rows_do_not_depend_on_one_another(policy: Policy, log: tuple[pl.DataFrame, pl.Series]) -> None:
    context, candidates = log
    whole = policy.probabilities(context, candidates)
    for row in range(ROWS):
        alone = policy.probabilities(context[row], candidates[row : row + 1])
        np.testing.assert_allclose(alone[0], whole[row, : alone.shape[1]], rtol=1e-12)


def test_deterministic(policy: Policy, log: tuple[pl.DataFrame, pl.Series]) -> None:
    np.testing.assert_array_equal(policy.probabilities(*log), policy.probabilities(*log))
