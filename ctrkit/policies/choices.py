"""The policies that need nothing but scores: greedy, softmax, epsilon-greedy, uniform."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from ctrkit.arrays import Booleans, Floats
from ctrkit.policies.base import Policy, PolicyConfig, ScoredPolicy, Scorer, ScoreUncertainty
from ctrkit.policies.candidates import candidate_mask
from ctrkit.settings import Positive, UnitInterval, checked


def _share(mask: Booleans) -> Floats:
    """Probability shared equally by the True places of each row."""
    return np.asarray(mask / mask.sum(axis=1, keepdims=True))


class GreedyPolicy(ScoredPolicy):
    """Chooses the candidate with the highest score; equal ones share the probability."""

    name: ClassVar[str] = "greedy"

    def choose(self, scores: Floats, mask: Booleans) -> Floats:
        return _share(scores == scores.max(axis=1, keepdims=True))


class SoftmaxPolicy(ScoredPolicy):
    """Chooses with probability proportional to exp(score / temperature).

    Args:
        temperature: above 0, in units of the scores; near 0 the policy is greedy, at infinity uniform.
    """

    name: ClassVar[str] = "softmax"

    def __init__(self, scorer: Scorer, temperature: float = 1.0) -> None:
        super().__init__(scorer)
        self.temperature = temperature

    def choose(self, scores: Floats, mask: Booleans) -> Floats:
        odds = np.exp((scores - scores.max(axis=1, keepdims=True)) / self.temperature)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))


class EpsilonGreedyPolicy(GreedyPolicy):
    """Greedy with probability 1 - epsilon, any candidate at random with probability epsilon.

    Args:
        epsilon: from 0 to 1.
    """

    name: ClassVar[str] = "epsilon-greedy"

    def __init__(self, scorer: Scorer, epsilon: float = 0.1) -> None:
        super().__init__(scorer)
        self.epsilon = epsilon

    def choose(self, scores: Floats, mask: Booleans) -> Floats:
        return (1 - self.epsilon) * super().choose(scores, mask) + self.epsilon * _share(mask)


class UniformPolicy(Policy):
    """Any candidate with the same probability."""

    name: ClassVar[str] = "uniform"

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        return _share(candidate_mask(candidates))


@checked
class GreedyConfig(PolicyConfig):
    """The candidate with the highest score; equal ones share the probability."""

    name = "greedy"

    def policy(self, scorer: Scorer, belief: ScoreUncertainty | None = None) -> Policy:
        return GreedyPolicy(scorer)


@checked
class SoftmaxConfig(PolicyConfig):
    """With probability proportional to exp(score / temperature)."""

    name = "softmax"
    temperature: Positive = Field(default=1.0, description="in units of the scores")

    def policy(self, scorer: Scorer, belief: ScoreUncertainty | None = None) -> Policy:
        return SoftmaxPolicy(scorer, self.temperature)


@checked
class EpsilonGreedyConfig(PolicyConfig):
    """The candidate with the highest score, and now and then any at random."""

    name = "epsilon-greedy"
    epsilon: UnitInterval = Field(default=0.1, description="the share of decisions made at random")

    def policy(self, scorer: Scorer, belief: ScoreUncertainty | None = None) -> Policy:
        return EpsilonGreedyPolicy(scorer, self.epsilon)


@checked
class UniformConfig(PolicyConfig):
    """Any candidate with the same probability."""

    name = "uniform"

    def policy(self, scorer: Scorer, belief: ScoreUncertainty | None = None) -> Policy:
        return UniformPolicy()
