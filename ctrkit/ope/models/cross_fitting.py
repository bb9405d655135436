"""Cross-fitting: no model predicts for a row that it was fitted on, in any batch or order of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.errors import ConfigError, DataError
from ctrkit.hashing import GOLDEN, Words, mixed
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.models.learners import Learner
from ctrkit.ope.models.reward_features import Features


def fold_of(units: Words, folds: int, seed: int = 0) -> Integers:
    """The fold [N] of each unit (see `BanditLog.units`). It is a hash: a unit has one fold everywhere.

    All rows of a user are in one fold. Folds have about the same size where units are many.
    """
    # Hashed twice, so that the folds of another seed are independent of these.
    with np.errstate(over="ignore"):
        salt = mixed(np.array([seed], dtype=np.int64).view(np.uint64) + GOLDEN)
        return (mixed(units.astype(np.uint64) + salt) % np.uint64(folds)).astype(np.int64)


@dataclass(frozen=True)
class CrossFitted:
    """One learner for each fold, fitted on the other folds of a sample.

    Chernozhukov et al., Double/Debiased Machine Learning for Treatment and Structural Parameters, 2018.

    Attributes:
        learners: learner f was not fitted on the units of fold f.
        seed: seed of the folds.
    """

    learners: tuple[Learner, ...]
    seed: int

    @classmethod
    def fit(cls, sample: BanditLog, folds: int, seed: int, fit: Callable[[Booleans], Learner]) -> Self:
        """Fit a learner for each fold.

        Args:
            sample: the log to fit on.
            folds: number of folds, at least 2.
            seed: seed of the folds.
            fit: takes a mask [N] of rows of the sample, and gives a learner fitted on them.

        Raises:
            ConfigError: there are fewer than 2 folds.
            DataError: all rows of the sample are in one fold, for example those of a single user.
        """
        if folds < 2:
            raise ConfigError(f"cross-fitting needs at least 2 folds, not {folds}", hint="Give 2 or more")
        fold = fold_of(sample.units, folds, seed)
        if (fold == fold[0]).all():
            raise DataError(
                "cross-fitting needs rows in several folds, and all rows are in one (of a single user?)",
                file=sample.file,
                hint="Give a longer log, or leave out the estimators dm and dr",
            )
        return cls(tuple(fit(fold != held) for held in range(folds)), seed)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of all learners, without repeats."""
        return tuple(dict.fromkeys(note for learner in self.learners for note in learner.notes))

    def fold(self, units: Words) -> Integers:
        """The fold of each row, [N]."""
        return fold_of(units, len(self.learners), self.seed)

    def predict(self, units: Words, features: Features) -> Floats:
        """Predictions [M] for the candidates of B rows, each by the learner of the row's fold.

        Args:
            units: [B] keys of the rows' units.
            features: the features of the M candidates.
        """
        fold = self.fold(units)
        found = np.empty(len(features))
        for number, learner in enumerate(self.learners):
            mine = fold == number
            if mine.any():
                found[mine[features.row]] = learner.predict(features.of_rows(mine))
        return found
