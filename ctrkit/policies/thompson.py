"""Thompson sampling as a policy: each candidate is chosen as often as it is the best under the posterior."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import Field
from scipy.special import ndtr

from ctrkit.arrays import Booleans, Floats
from ctrkit.errors import ConfigError, RunError
from ctrkit.policies.base import HiddenReader, Policy, PolicyConfig, Scorer, ScoreUncertainty
from ctrkit.policies.candidates import candidate_mask
from ctrkit.policies.laplace import LastLayerPosterior, with_bias
from ctrkit.settings import Count, Whole, check, checked

# Rows are taken in blocks of about so many scores (rows · candidates · draws): 64 MB.
_SCORES_AT_ONCE = 8_000_000


class ThompsonPolicy(Policy):
    """P(candidate is best) under a last-layer posterior.

    Of two candidates in closed form: with d the difference of what the last layer reads for them, the
    difference of their scores is normal, and P(first is best) = Φ(d·mean / √(d·precision⁻¹d)). Of more by
    Monte Carlo: the weights are shared by the candidates, so they are drawn jointly, and one draw scores them
    all. The draws are made once and serve every row; a probability has the standard error √(p(1−p)/draws).

    Args:
        reader: gives the hidden values.
        posterior: of the last layer.
        draws: number of weight vectors drawn, at least 1.
        seed: of the draws; the same seed gives the same policy.

    Raises:
        ConfigError: draws below 1.
    """

    name: ClassVar[str] = "thompson"

    def __init__(
        self, reader: HiddenReader, posterior: LastLayerPosterior, draws: int = 1000, seed: int = 0
    ) -> None:
        check(Count, draws, "policy 'thompson': draws")
        self.reader = reader
        self.posterior = posterior
        self.weights = posterior.sample(np.random.default_rng(seed), draws)

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The probability of choosing each candidate, [B, K] (see `Policy`).

        Raises:
            RunError: when the reader gives the wrong shape, or a candidate a value that is not finite.
        """
        mask = candidate_mask(candidates)
        hidden = np.asarray(self.reader(context, candidates), dtype=np.float64)
        shape = (*mask.shape, self.weights.shape[1] - 1)
        if hidden.shape != shape:
            raise RunError(f"the reader gave hidden values of shape {hidden.shape}, and {shape} is needed")
        wrong = np.argwhere(mask & ~np.isfinite(hidden).all(axis=2))
        if wrong.size:
            row, place = (int(index) for index in wrong[0])
            raise RunError(f"a hidden value of candidate {place} of row {row} is not finite")
        features = with_bias(np.where(mask[:, :, None], hidden, 0.0))
        found = np.zeros(mask.shape)
        pairs = mask.sum(axis=1) == 2
        if pairs.any():
            found[np.ix_(pairs, [0, 1])] = self._of_two(features[pairs, 0] - features[pairs, 1])
        others = np.flatnonzero(~pairs)
        block = max(1, _SCORES_AT_ONCE // max(1, mask.shape[1] * len(self.weights)))
        for start in range(0, len(others), block):
            rows = others[start : start + block]
            found[rows] = self._frequencies(features[rows], mask[rows])
        return found

    def _of_two(self, difference: Floats) -> Floats:
        """[B, 2] from the differences of what is read for both, [B, D + 1], the bias' being 0."""
        deviation = self.posterior.deviation(difference)
        gap = difference @ self.posterior.mean
        # Where nothing tells them apart they share.
        first = np.where(gap == 0, 0.5, (gap > 0).astype(np.float64))
        told = deviation > 0
        first[told] = ndtr(gap[told] / deviation[told])
        return np.stack([first, 1 - first], axis=1)

    def _frequencies(self, features: Floats, mask: Booleans) -> Floats:
        """How often each candidate is the best; equal ones share the draw."""
        scores = np.where(mask[:, :, None], features @ self.weights.T, -np.inf)
        best = scores == scores.max(axis=1, keepdims=True)
        return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=2))


@checked
class ThompsonConfig(PolicyConfig):
    """Each candidate is chosen as often as it is the best under the posterior of the model's last layer."""

    name = "thompson"
    needs_belief = True
    draws: Count = Field(
        default=1000,
        description="from the posterior; a probability has the standard error √(p(1−p)/draws)",
    )
    seed: Whole = Field(default=0, ge=0, description="of the draws")

    def policy(self, scorer: Scorer, belief: ScoreUncertainty | None = None) -> Policy:
        if belief is None:
            raise ConfigError(
                "policy 'thompson' draws from a posterior, and here are scores alone",
                hint="Give an artifact with a posterior, or choose another policy",
            )
        return ThompsonPolicy(belief.reader, belief.posterior, self.draws, self.seed)
