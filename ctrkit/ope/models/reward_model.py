"""The cross-fitted reward model of the direct and the doubly robust method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ctrkit.arrays import Booleans, Floats
from ctrkit.errors import DataError
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.models.cross_fitting import CrossFitted
from ctrkit.ope.models.learners import learn
from ctrkit.ope.models.reward_features import CandidateFeatures
from ctrkit.policies.candidates import candidate_mask


@dataclass(frozen=True)
class RewardModel:
    """Predicts the reward of every candidate of any part of a log, fitted on a sample of the log.

    A row's predictions come from a model that was fitted on no row of its user (cross-fitting), whether the
    row is in the sample or not. If all rewards of the sample are 0 or 1 the model predicts a probability,
    else a mean; predictions are clipped to the range of the sample's rewards. No rows are kept.

    Attributes:
        features: the encoding of rows and candidates.
        models: the cross-fitted learners.
        low: smallest reward of the sample.
        high: largest reward of the sample.
    """

    features: CandidateFeatures
    models: CrossFitted
    low: float
    high: float

    @classmethod
    def fit(
        cls,
        sample: BanditLog,
        columns: Sequence[str] | None = None,
        folds: int = 3,
        seed: int = 0,
        kind: str = "trees",
        row_weights: Floats | None = None,
    ) -> Self:
        """Fit a model for each fold.

        Args:
            sample: rows of the log, with all or some rows of a user.
            columns: context columns; by default those of `reward_features.context_columns`.
            folds: number of folds, at least 2.
            seed: seed of the folds and of the models.
            kind: a name of `learners.LEARNERS`.
            row_weights: [N] weights of the squared residuals; 0 leaves a row out. By default all are equal,
                and binary rewards are fitted by the log loss. In both cases a row also counts as the number
                of decisions that it stands for.

        Raises:
            ConfigError: the kind is unknown, or there are too few folds.
            DataError: a context column cannot be read; weights are negative, not finite or of another number;
                or the sample has a single user or row.
        """
        if row_weights is not None:
            _check_weights(row_weights, sample)
        features = CandidateFeatures.fit(sample, columns)
        logged = features.of_logged_actions(sample)
        binary = sample.binary and row_weights is None
        models = CrossFitted.fit(
            sample,
            folds,
            seed,
            lambda rows: learn(
                kind,
                logged.of_rows(rows),
                sample.reward[rows],
                sample.counts[rows]
                * (1.0 if row_weights is None else _scaled(row_weights, sample.counts, rows)),
                binary,
                seed,
            ),
        )
        return cls(features, models, float(sample.reward.min()), float(sample.reward.max()))

    def predict(self, log: BanditLog, rows: slice) -> Floats:
        """Predicted rewards q [B, K] of the candidates of some rows of a log; 0 as padding.

        Raises:
            DataError: a column of the sample is missing in this part of the log.
        """
        flat = self.models.predict(log.units[rows], self.features.of_candidates(log, rows))
        mask = candidate_mask(log.candidates(rows))
        q = np.zeros(mask.shape)
        # The true mean is within the range of rewards, so clipping moves a prediction towards it.
        q[mask] = flat.clip(self.low, self.high)
        return q


def mrdr_weights(policy_probability_of_logged: Floats, propensity: Floats) -> Floats:
    """Weights w² (1 - μ), [N], of the squared residuals, with which a reward model minimises DR's variance.

    Farajtabar, Chow and Ghavamzadeh, More Robust Doubly Robust Off-policy Evaluation, ICML 2018. With errors
    Δ(a) = q(a) - E[r | a], the model's part of the variance is, in each context, Σ_a π(a)² / μ(a) Δ(a)² -
    (Σ_a π(a) Δ(a))². If the errors of different actions are uncorrelated, this is Σ_a π(a)² (1 / μ(a) - 1)
    Δ(a)², and each row's share of it, divided by μ of the logged action, is (π / μ)² (1 - μ) (r - q)², up to
    a constant. For a deterministic policy this is exact, and it is the weight in the paper: (1 - μ) / μ²
    where the logged action is the policy's, else 0.

    Another common form has π instead of π². For stochastic policies that is an upper bound: it treats them as
    a mixture of deterministic ones.

    Args:
        policy_probability_of_logged: [N] π of the logged action.
        propensity: [N] μ of the logged action.
    """
    return np.asarray((policy_probability_of_logged / propensity) ** 2 * (1 - propensity))


def _scaled(weights: Floats, counts: Floats, rows: Booleans) -> Floats:
    """The weights of some rows, scaled to mean 1 over the decisions of weight above 0."""
    kept = rows & (weights > 0)
    return weights[rows] / np.average(weights[kept], weights=counts[kept]) if kept.any() else weights[rows]


def _check_weights(weights: Floats, sample: BanditLog) -> None:
    if weights.shape != (len(sample),):
        raise DataError(f"there are {len(weights)} row weights for {len(sample)} rows", file=sample.file)
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if wrong.size:
        raise DataError(
            f"the row weight {weights[wrong[0]]:g} is not a finite number of at least 0",
            file=sample.file,
            row=int(wrong[0]),
        )
