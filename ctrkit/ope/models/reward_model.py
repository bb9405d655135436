"""The reward model of the direct and the doubly robust method, cross-fitted."""

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

    Cross-fitted: a row's predictions come from a model that has seen no row of its user. Whether a row is in
    the sample or not makes no difference. Predicts a probability where the sample's rewards are all 0 or 1,
    else a mean; never beyond the least and the largest reward of the sample. Holds no rows.

    Attributes:
        features: what it reads.
        low, high: the sample's least and largest reward.
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
            sample: rows of the log, all of a user's or not.
            columns: context columns; by default those of `reward_features.context_columns`.
            folds: at least 2.
            seed: of the folds and of what the models draw.
            kind: a name of `learners.LEARNERS`.
            row_weights: [N] of the squared residuals of a decision; 0 leaves a row out. By default all alike,
                and binary rewards are fitted by the log loss. Either way a row weighs as many decisions as it
                stands for.

        Raises:
            ConfigError: for an unknown kind or too few folds.
            DataError: for a context column that cannot be read, weights that are negative, not finite or of
                another number, and a sample of a single user or row.
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
        """q [B, K] of the candidates of some rows of a log; 0 at missing places.

        Raises:
            DataError: for a column that the sample had and this part of the log has not.
        """
        flat = self.models.predict(log.units[rows], self.features.of_candidates(log, rows))
        mask = candidate_mask(log.candidates(rows))
        q = np.zeros(mask.shape)
        # The true mean is a mean of rewards: what a line says beyond them is nearer to it when cut off.
        q[mask] = flat.clip(self.low, self.high)
        return q


def mrdr_weights(policy_probability_of_logged: Floats, propensity: Floats) -> Floats:
    """The weights w² (1 - μ), [N], of squared residuals with which a model makes the DR estimate vary least.

    Farajtabar, Chow and Ghavamzadeh, More Robust Doubly Robust Off-policy Evaluation, ICML 2018. With errors
    Δ(a) = q(a) - E[r | a] the part of the variance that the model answers for is, in each context,
    Σ_a π(a)² / μ(a) Δ(a)² - (Σ_a π(a) Δ(a))². Where the errors of different actions do not go together, that
    is Σ_a π(a)² (1 / μ(a) - 1) Δ(a)², and each row's share of it, over μ of the logged action, is
    (π / μ)² (1 - μ) (r - q)², up to a constant. For a policy that always takes one action this is exact, and
    the weight in the paper: (1 - μ) / μ² where the logged action is the policy's, else 0.

    Another common form has π in place of π². That is an upper bound for policies that draw: it takes them as
    a mixture of policies that do not.

    Args:
        policy_probability_of_logged: [N] π of the logged action.
        propensity: [N] μ of the logged action.
    """
    return np.asarray((policy_probability_of_logged / propensity) ** 2 * (1 - propensity))


def _scaled(weights: Floats, counts: Floats, rows: Booleans) -> Floats:
    """The weights of some rows, of mean 1 a decision that has any, so that their unit is no matter."""
    kept = rows & (weights > 0)
    return weights[rows] / np.average(weights[kept], weights=counts[kept]) if kept.any() else weights[rows]


def _check_weights(weights: Floats, sample: BanditLog) -> None:
    if weights.shape != (len(sample),):
        raise DataError(f"there are {len(weights)} row weights for {len(sample)} rows", file=sample.file)
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if wrong.size:
        raise DataError(
            f"the row weight {weights[wrong[0]]:g} is no finite number from 0 up",
            file=sample.file,
            row=int(wrong[0]),
        )
