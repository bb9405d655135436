"""A reward model of bids: cross-fitted boosted trees of bid and context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingRegressor

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import DataError, nearest
from ctrkit.ope.bids.bid_log import BidLog
from ctrkit.ope.models.learners import sample_weight

# With fewer rows a reward model predicts the mean reward.
LEAST_ROWS = 40


class BidModel:
    """Predicts the reward of any bid in the rows of a log.

    A row is predicted by trees that were not fitted on its user (Chernozhukov et al., Double/Debiased Machine
    Learning, 2018).

    Args:
        context: [N, C] context of the rows.
        fold: [N] fold of each row.
        models: for each fold, a model fitted on all other rows, or a number that it predicts for every bid.
    """

    def __init__(self, context: Floats, fold: Integers, models: Sequence[Any]) -> None:
        self.context, self.fold, self.models = context, fold, models

    @classmethod
    def fit(cls, log: BidLog, columns: Sequence[str], folds: int, seed: int) -> Self:
        """Fit to a log.

        Args:
            log: the log of bids.
            columns: context columns, used besides the bid.
            folds: number of folds, at least 2.
            seed: seed of the folds and trees.

        Raises:
            DataError: the log has a single user, or a column is missing or holds neither numbers nor texts.
        """
        context = np.column_stack([np.empty((len(log), 0)), *(_encoded(log, name) for name in columns)])
        unit = log.users if log.users is not None else np.arange(len(log))
        units = int(unit.max()) + 1
        if min(units, folds) < 2:
            raise DataError(
                "a cross-fitted reward model needs at least two users, and the log has one",
                file=log.file,
                hint="Give a longer log, or a log with columns q_logged and q_policy",
            )
        fold = (np.random.default_rng(seed).permutation(units) % min(units, folds))[unit]
        found = cls(context, fold, [])
        found.models = [found._fitted(log, fold != number, seed) for number in range(int(fold.max()) + 1)]
        return found

    def _fitted(self, log: BidLog, rows: np.ndarray, seed: int) -> Any:
        count = int(rows.sum())
        if count < LEAST_ROWS:
            return float(np.average(log.reward[rows], weights=log.counts[rows]))
        return HistGradientBoostingRegressor(
            max_iter=100,
            max_leaf_nodes=8,
            min_samples_leaf=max(min(100, count // 20), 1),
            l2_regularization=10.0,
            early_stopping=True,
            random_state=seed,
        ).fit(
            np.column_stack([log.bid[rows], self.context[rows]]),
            log.reward[rows],
            sample_weight(log.counts[rows]),
        )

    def predict(self, bids: Floats) -> Floats:
        """Predicted rewards of the bids of each row, [N, ...] -> [N, ...]."""
        found = np.empty(bids.shape)
        for number, model in enumerate(self.models):
            mine = self.fold == number
            if isinstance(model, float):
                found[mine] = model
                continue
            asked = bids[mine].reshape(int(mine.sum()), -1)
            context = np.repeat(self.context[mine], asked.shape[1], axis=0)
            predicted = model.predict(np.column_stack([asked.ravel(), context]))
            found[mine] = predicted.reshape(found[mine].shape)
        return found


def _encoded(log: BidLog, name: str) -> Floats:
    """A context column as numbers; texts become their rank in sorted order."""
    if name not in log.table.columns:
        raise DataError(
            "no such context column", file=log.file, column=name, hint=nearest(name, log.table.columns)
        )
    values = log.table[name]
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        values = values.cast(pl.String).rank("dense")
    if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
        raise DataError(
            f"a reward model reads numbers and texts, not {values.dtype}",
            file=log.file,
            column=name,
            hint="Leave the column out or cast it",
        )
    return values.cast(pl.Float64).to_numpy()
