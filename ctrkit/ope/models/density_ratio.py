"""Weights from a classifier, where the logging policy's probabilities are not known or not trusted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from scipy.special import logit

from ctrkit.arrays import Floats, Integers
from ctrkit.calibration import PlattScaling
from ctrkit.calibration.base import CalibrationWarning
from ctrkit.errors import DataError
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.models.cross_fitting import CrossFitted
from ctrkit.ope.models.learners import learn
from ctrkit.ope.models.reward_features import CandidateFeatures, Features
from ctrkit.policies.candidates import candidate_mask

# (log, rows) -> a policy's probabilities of the rows' candidates, [B, K].
PolicyProbabilities: TypeAlias = Callable[[BanditLog, slice], Floats]

# Candidates that a classifier is fitted on, about, but not fewer than `LEAST_LINES` a row.
LINES = 2_000_000
LEAST_LINES = 4
# Candidates whose features are in memory before they are thinned out.
BLOCK = 500_000
# Probabilities nearer to 0 or 1 are as good as certain.
CERTAIN = 1e-12


@dataclass(frozen=True)
class DensityRatio:
    """w(x, a) = π(a | x) / μ(a | x) as the odds of a classifier, fitted on a sample of a log.

    Sondhi, Arbour and Dimmery, Balanced Off-Policy Evaluation in General Action Spaces, AISTATS 2020: a
    classifier tells pairs (x, a) with a as the policy would draw it from the pairs logged; its odds are the
    weights. Where the paper draws an action a row, each candidate counts here with the policy's probability:
    the same in expectation, without the draws' noise. (In large samples the improbable ones are thinned out
    at random and what is left of them counts for all, which does not bias the fit.)

    Cross-fitted by the folds of `cross_fitting.fold_of`; scores are calibrated by Platt scaling on rows that
    their classifier has not seen, so that the odds are odds. Reads neither propensities nor rewards, so that
    no weight leans towards a reward. Rests on what cannot be checked: that the logging policy chose by
    nothing but the columns given.

    Attributes:
        features: what it reads.
        calibrators: of each fold's scores, fitted without that fold.
    """

    features: CandidateFeatures
    models: CrossFitted
    calibrators: tuple[PlattScaling, ...]

    @classmethod
    def fit(
        cls,
        sample: BanditLog,
        policy_probabilities: PolicyProbabilities,
        columns: Sequence[str] | None = None,
        folds: int = 3,
        seed: int = 0,
        kind: str = "trees",
    ) -> Self:
        """Fit a classifier for each fold.

        Args:
            policy_probabilities: gives the policy's probabilities of all candidates of some rows.
            columns: context columns; by default those of `reward_features.context_columns`.
            folds: at least 2.
            seed: of the folds, the thinning and what the models draw.
            kind: a name of `learners.LEARNERS`. `logistic` knows no interactions of context and action, and
                so fits only where both policies choose alike in every context.

        Raises:
            ConfigError: for an unknown kind or too few folds.
            DataError: for a context column that cannot be read, probabilities of another shape than the
                candidates, and a sample of a single user or row.
        """
        features = CandidateFeatures.fit(sample, columns)
        own, row, mass = _candidates(sample, features, policy_probabilities, seed)
        mass = mass * sample.counts[row]
        logged = features.of_logged_actions(sample)
        lines = Features(
            logged.context,
            np.concatenate([logged.own, own]),
            np.concatenate([logged.row, row]),
            logged.is_categorical,
        )
        target = np.repeat([0.0, 1.0], [len(logged), len(mass)])
        weight = np.concatenate([sample.counts, mass])

        models = CrossFitted.fit(
            sample,
            folds,
            seed,
            lambda rows: learn(
                kind,
                lines.of_rows(rows),
                target[rows[lines.row]],
                weight[rows[lines.row]],
                binary=True,
                seed=seed,
            ),
        )
        # A fold's own lines are left out of its calibration. The models of the other folds have seen them,
        # but two numbers fitted to all the others' scores cannot remember an action.
        scores = _logits(models.predict(sample.units, lines))
        fold = models.fold(sample.units)[lines.row]
        calibrators = tuple(
            _calibrator(scores[fold != held], target[fold != held], weight[fold != held])
            for held in range(folds)
        )
        return cls(features, models, calibrators)

    def weights(self, log: BanditLog) -> Floats:
        """w [N] of the logged actions of any part of the log, their mean about 1."""
        scores = _logits(self.models.predict(log.units, self.features.of_logged_actions(log)))
        fold = self.models.fold(log.units)
        weights = np.empty(len(log))
        for held, calibrator in enumerate(self.calibrators):
            probabilities = calibrator(scores[fold == held])
            weights[fold == held] = probabilities / (1 - probabilities)
        return weights


def _candidates(
    sample: BanditLog, features: CandidateFeatures, policy_probabilities: PolicyProbabilities, seed: int
) -> tuple[Floats, Integers, Floats]:
    """Own features [M, L] of candidates, their rows [M] and the policy's mass on each [M], a row's about 1.

    A candidate of probability p is kept with probability min(1, p · most) and then counts for those that
    are not.
    """
    rng = np.random.default_rng(seed)
    most = max(LINES // len(sample), LEAST_LINES)
    step = max(BLOCK // sample.width, 1)
    own, row, mass = [], [], []
    for start in range(0, len(sample), step):
        rows = slice(start, min(start + step, len(sample)))
        mask = candidate_mask(sample.candidates(rows))
        given = policy_probabilities(sample, rows)
        if given.shape != mask.shape:
            raise DataError(
                f"a policy gives probabilities of shape {given.shape} for candidates {mask.shape}",
                file=sample.file,
            )
        probability = given[mask]
        kept = rng.random(len(probability)) < probability * most
        found = features.of_candidates(sample, rows)
        own.append(found.own[kept])
        row.append(found.row[kept] + start)
        mass.append(np.maximum(probability[kept], 1 / most))
    return np.concatenate(own), np.concatenate(row), np.concatenate(mass)


def _calibrator(scores: Floats, target: Floats, weight: Floats) -> PlattScaling:
    with warnings.catch_warnings():
        # A slope that is not above 0 says that the classifier tells nothing, as of a policy that is the
        # logging policy: then all odds are about 1, as they should be.
        warnings.simplefilter("ignore", CalibrationWarning)
        calibrator = PlattScaling()
        calibrator.fit(scores, target, weight)
    return calibrator


def _logits(probabilities: Floats) -> Floats:
    return np.asarray(logit(probabilities.clip(CERTAIN, 1 - CERTAIN)))
