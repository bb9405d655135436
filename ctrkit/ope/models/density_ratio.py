"""Weights from a classifier, for logs whose propensities are unknown or doubtful."""

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

# About the number of candidates that a classifier is fitted on, but at least `LEAST_LINES` for each row.
LINES = 2_000_000
LEAST_LINES = 4
# Number of candidates whose features are in memory at once, before thinning.
BLOCK = 500_000
# Probabilities are kept at least this far from 0 and 1.
CERTAIN = 1e-12


@dataclass(frozen=True)
class DensityRatio:
    """w(x, a) = π(a | x) / μ(a | x) as the odds of a classifier, fitted on a sample of a log.

    Sondhi, Arbour and Dimmery, Balanced Off-Policy Evaluation in General Action Spaces, AISTATS 2020. A
    classifier learns to separate pairs (x, a) with a drawn by the policy from the logged pairs; its odds are
    the weights. The paper draws one action for each row. Here every candidate counts with the policy's
    probability: the same in expectation, without the noise of draws. (In large samples improbable candidates
    are thinned at random, and the ones that are left count for the others, which does not bias the fit.)

    The classifier is cross-fitted by the folds of `cross_fitting.fold_of`. Its scores are calibrated by Platt
    scaling on rows that it was not fitted on, so that they are true odds. It reads neither propensities nor
    rewards. It assumes that the logging policy chose by the given columns alone, which no data can verify.

    Attributes:
        features: the encoding of rows and candidates.
        models: the cross-fitted classifiers.
        calibrators: one for each fold's scores, fitted without that fold.
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
            sample: the log to fit on.
            policy_probabilities: gives the policy's probabilities of all candidates of some rows.
            columns: context columns; by default those of `reward_features.context_columns`.
            folds: number of folds, at least 2.
            seed: seed of the folds, of the thinning and of the models.
            kind: a name of `learners.LEARNERS`. `logistic` has no interactions of context and action, so it
                fits only policies whose ratio of probabilities is the same in every context.

        Raises:
            ConfigError: the kind is unknown, or there are too few folds.
            DataError: a context column cannot be read, the probabilities have another shape than the
                candidates, or the sample has a single user or row.
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
        # A fold's own rows are left out of its calibration. The models of the other folds were fitted on
        # them, but a calibrator has two parameters and cannot remember single rows.
        scores = _logits(models.predict(sample.units, lines))
        fold = models.fold(sample.units)[lines.row]
        calibrators = tuple(
            _calibrator(scores[fold != held], target[fold != held], weight[fold != held])
            for held in range(folds)
        )
        return cls(features, models, calibrators)

    def weights(self, log: BanditLog) -> Floats:
        """Weights w [N] of the logged actions of any part of the log; their mean is about 1."""
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
    """Features [M, L] of candidates, their rows [M] and the policy's mass on each [M], about 1 for each row.

    A candidate of probability p is kept with probability min(1, p · most). If kept, it also counts for those
    that are not.
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
                f"the policy gives probabilities of shape {given.shape} for candidates of shape {mask.shape}",
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
        # A slope that is not above 0 means that the classifier found no difference, for example if the
        # policy is the logging policy. Then all odds are about 1, as they should be.
        warnings.simplefilter("ignore", CalibrationWarning)
        calibrator = PlattScaling()
        calibrator.fit(scores, target, weight)
    return calibrator


def _logits(probabilities: Floats) -> Floats:
    return np.asarray(logit(probabilities.clip(CERTAIN, 1 - CERTAIN)))
