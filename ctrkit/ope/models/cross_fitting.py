"""Models that never predict for a row they have seen, in whatever batch or order the rows come."""

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
    """The fold [N] of each unit (see `BanditLog.units`): a hash, so that it is the same wherever it is read.

    All rows of a user stand in one fold. The folds are of about the same size where units are many.
    """
    # Hashed twice, so that the units of another seed are no shift of these.
    with np.errstate(over="ignore"):
        salt = mixed(np.array([seed], dtype=np.int64).view(np.uint64) + GOLDEN)
        return (mixed(units.astype(np.uint64) + salt) % np.uint64(folds)).astype(np.int64)


@dataclass(frozen=True)
class CrossFitted:
    """A learner a fold, each fitted on a sample's other folds.

    Chernozhukov et al., Double/Debiased Machine Learning for Treatment and Structural Parameters, 2018.

    Attributes:
        learners: that of fold f has not seen the units of fold f.
        seed: of the folds.
    """

    learners: tuple[Learner, ...]
    seed: int

    @classmethod
    def fit(cls, sample: BanditLog, folds: int, seed: int, fit: Callable[[Booleans], Learner]) -> Self:
        """Fit a learner for each fold.

        Args:
            fit: gives the learner of the rows of the sample that are marked, [N].

        Raises:
            ConfigError: for fewer than 2 folds.
            DataError: all rows of the sample stand in one fold, such as those of a single user.
        """
        if folds < 2:
            raise ConfigError(f"{folds} folds leave no row to fit on", hint="Give at least 2 folds")
        fold = fold_of(sample.units, folds, seed)
        if (fold == fold[0]).all():
            raise DataError(
                "a model is fitted on some users and used on others, and all rows stand in one fold",
                file=sample.file,
                hint="Give a longer log, or leave out the estimators dm and dr",
            )
        return cls(tuple(fit(fold != held) for held in range(folds)), seed)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the learners have to say, each sentence once."""
        return tuple(dict.fromkeys(note for learner in self.learners for note in learner.notes))

    def fold(self, units: Words) -> Integers:
        """The fold of each row, [N]."""
        return fold_of(units, len(self.learners), self.seed)

    def predict(self, units: Words, features: Features) -> Floats:
        """[M] predictions for the candidates of B rows, each by the learner of the row's fold.

        Args:
            units: [B].
        """
        fold = self.fold(units)
        found = np.empty(len(features))
        for number, learner in enumerate(self.learners):
            mine = fold == number
            if mine.any():
                found[mine[features.row]] = learner.predict(features.of_rows(mine))
        return found
