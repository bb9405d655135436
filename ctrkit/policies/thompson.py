"""Thompson sampling as a policy: each candidate is chosen as often as it is the best under the posterior."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.errors import ConfigError, RunError
from ctrkit.policies.base import Policy
from ctrkit.policies.candidates import Floats, Mask, candidate_mask
from ctrkit.policies.laplace import LastLayerPosterior, with_bias

# Rows are taken in blocks of about so many scores (rows · candidates · draws): 64 MB.
_SCORES_AT_ONCE = 8_000_000


class HiddenReader(Protocol):
    """Gives what the last layer reads for the candidates of rows: a model handed in from outside."""

    def __call__(self, context: pl.DataFrame, candidates: pl.Series) -> NDArray[np.floating[Any]]:
        """Hidden values [B, K, D]; what stands at places without a candidate is ignored."""
        ...


class ThompsonPolicy(Policy):
    """P(candidate is best) under a last-layer posterior, by Monte Carlo.

    The weights are shared by the candidates, so they are drawn jointly: one draw scores them all. The draws
    are made once and serve every row; a probability has the standard error √(p(1−p)/draws).

    Args:
        reader: gives the hidden values.
        posterior: of the last layer.
        draws: number of weight vectors drawn.
        seed: of the draws; the same seed gives the same policy.

    Raises:
        ConfigError: draws below 1.
    """

    name: ClassVar[str] = "thompson"

    def __init__(
        self, reader: HiddenReader, posterior: LastLayerPosterior, draws: int = 1000, seed: int = 0
    ) -> None:
        if draws < 1:
            raise ConfigError(f"policy 'thompson': draws is {draws} and must be at least 1")
        self.reader = reader
        self.weights = posterior.sample(np.random.default_rng(seed), draws)

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """See `Policy`.

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
        block = max(1, _SCORES_AT_ONCE // max(1, mask.shape[1] * len(self.weights)))
        return np.concatenate(
            [np.empty((0, mask.shape[1]))]
            + [
                self._frequencies(features[start : start + block], mask[start : start + block])
                for start in range(0, len(mask), block)
            ]
        )

    def _frequencies(self, features: Floats, mask: Mask) -> Floats:
        """How often each candidate is the best; equal ones share the draw."""
        scores = np.where(mask[:, :, None], features @ self.weights.T, -np.inf)
        best = scores == scores.max(axis=1, keepdims=True)
        return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=2))
