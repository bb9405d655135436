"""A policy: the probability with which each candidate is chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats
from ctrkit.errors import RunError
from ctrkit.policies.candidates import candidate_mask
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.settings import checked


class Policy(ABC):
    """Decides over the candidates of a row.

    A policy sees nothing but the row: its probabilities depend neither on the other rows nor on the order
    of the candidates.
    """

    name: ClassVar[str]

    @abstractmethod
    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The probability of choosing each candidate.

        Args:
            context: B rows of a log.
            candidates: list column of action ids, one list a row; K is the longest.

        Returns:
            float64 [B, K], rows sum to 1, exactly 0 where a row has no such candidate.
        """


@dataclass(frozen=True)
class ScoreUncertainty:
    """How sure a scorer is of its scores.

    Attributes:
        reader: gives what the last layer reads for the candidates.
        posterior: of the last layer.
    """

    reader: HiddenReader
    posterior: LastLayerPosterior


@checked
class PolicyConfig(ABC):
    """The settings of a policy, of which a scorer makes the policy.

    Attributes:
        needs_belief: whether the policy needs to know how sure the scorer is.
    """

    what: ClassVar[str] = "policy"
    name: ClassVar[str]
    needs_belief: ClassVar[bool] = False

    @abstractmethod
    def policy(self, scorer: Scorer, belief: ScoreUncertainty | None = None) -> Policy:
        """The policy.

        Args:
            scorer: gives the scores of the candidates.
            belief: how sure they are.

        Raises:
            ConfigError: the policy needs a belief, and there is none.
        """


class HiddenReader(Protocol):
    """Gives what the last layer reads for the candidates of rows: a model handed in from outside."""

    def __call__(self, context: pl.DataFrame, candidates: pl.Series) -> NDArray[np.floating[Any]]:
        """Hidden values [B, K, D]; what stands at places without a candidate is ignored."""
        ...


class Scorer(Protocol):
    """Scores the candidates of rows, the higher the better: usually a model handed in from outside."""

    def __call__(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """Scores [B, K]; what stands at places without a candidate is ignored."""
        ...


class ScoredPolicy(Policy):
    """A policy that depends on its row through the scores of the candidates alone.

    Args:
        scorer: gives the scores.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    @abstractmethod
    def choose(self, scores: Floats, mask: Booleans) -> Floats:
        """Probabilities [B, K] from finite scores [B, K], which are -inf where `mask` is False."""

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The probability of choosing each candidate, [B, K] (see `Policy`).

        Raises:
            RunError: when the scorer gives the wrong shape, or a candidate without a finite score.
        """
        mask = candidate_mask(candidates)
        scores = np.asarray(self.scorer(context, candidates), dtype=np.float64)
        if scores.shape != mask.shape:
            raise RunError(f"the scorer gave scores of shape {scores.shape} for candidates {mask.shape}")
        wrong = np.argwhere(mask & ~np.isfinite(scores))
        if wrong.size:
            row, place = (int(index) for index in wrong[0])
            raise RunError(f"the score of candidate {place} of row {row} is {scores[row, place]}")
        return self.choose(np.where(mask, scores, -np.inf), mask)
