"""The reward model of the direct and the doubly robust method, cross-fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from ctrkit.errors import DataError
from ctrkit.ope.log import BanditLog
from ctrkit.ope.moments import Floats, Ints
from ctrkit.ope.reward_features import CandidateFeatures
from ctrkit.policies.candidates import candidate_mask


class RewardModel:
    """Predicts the reward of every candidate by boosted trees.

    Cross-fitted (Chernozhukov et al., Double/Debiased Machine Learning, 2018): a row's predictions come from
    trees that have not seen its fold, and all rows of a user stand in one fold. Predicts a probability
    where rewards are 0 or 1, else a mean.

    Args:
        log: the log to fit on and to predict for.
        columns: context columns; by default those of `reward_features.context_columns`.
        folds: at least 2; fewer are made where the log has fewer users.
        seed: of the splits.

    Raises:
        DataError: for a context column that cannot be read, and for a log of a single user or row.
    """

    def __init__(
        self, log: BanditLog, columns: Sequence[str] | None = None, folds: int = 3, seed: int = 0
    ) -> None:
        self.features = CandidateFeatures(log, columns)
        self._log = log
        self._fold = _folds(log, folds, seed)
        logged = self.features.of_logged_actions()
        self._models = [
            _fit(logged[others], log.reward[others], log.binary, self.features.is_categorical, seed)
            for others in (self._fold != fold for fold in range(self._fold.max() + 1))
        ]

    def predict(self, rows: slice) -> Floats:
        """q [B, K] of the candidates of some rows; 0 at missing places."""
        mask = candidate_mask(self._log.candidates(rows))
        features = self.features.of_candidates(rows)
        fold = np.repeat(self._fold[rows], mask.sum(axis=1))
        flat = np.empty(len(features))
        for number, model in enumerate(self._models):
            mine = fold == number
            if mine.any():
                flat[mine] = _predict(model, features[mine])
        q = np.zeros(mask.shape)
        q[mask] = flat
        return q


# With fewer rewards that differ from the commonest, a model predicts their mean.
LEAST_REWARDS = 10

# sklearn is untyped: trees, or the one reward that all rows had.
_Model: TypeAlias = Any


def _folds(log: BanditLog, folds: int, seed: int) -> Ints:
    """A fold for each row [N], the same for all rows of a user."""
    unit = log.users if log.users is not None else np.arange(len(log))
    units = int(unit.max()) + 1
    if min(units, folds) < 2:
        raise DataError(
            "a reward model is fitted on some users and used on others, and the log has one",
            file=log.file,
            mend="Give a longer log, or leave out the estimators dm and dr",
        )
    fold = np.random.default_rng(seed).permutation(units) % min(units, folds)
    return np.asarray(fold[unit])


def _fit(features: Floats, rewards: Floats, binary: bool, categorical: list[bool], seed: int) -> _Model:
    _, counts = np.unique(rewards, return_counts=True)
    if len(rewards) - counts.max() < LEAST_REWARDS:
        return float(rewards.mean())
    kind = HistGradientBoostingClassifier if binary else HistGradientBoostingRegressor
    # Clicks are rare and say little of one row: trees that do no better on rows held out than those before
    # them would only add noise to the estimates.
    return kind(
        max_iter=200,
        max_leaf_nodes=8,
        min_samples_leaf=max(min(100, len(rewards) // 20), 1),
        l2_regularization=10.0,
        categorical_features=categorical,
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=5,
        random_state=seed,
    ).fit(features, rewards)


def _predict(model: _Model, features: Floats) -> Floats:
    if isinstance(model, float):
        return np.full(len(features), model)
    if isinstance(model, HistGradientBoostingClassifier):
        return np.asarray(model.predict_proba(features)[:, 1])
    return np.asarray(model.predict(features))
