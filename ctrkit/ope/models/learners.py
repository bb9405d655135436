"""Learners of a mean from features: boosted trees and a linear model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import ConfigError, nearest
from ctrkit.ope.models.reward_features import Features
from ctrkit.ope.models.tree_scores import TreeScores

# With fewer targets that differ from the most frequent one, only their mean is learnt.
LEAST_TARGETS = 10
SLOW_TREES = (
    "ctrkit cannot read the trees of this version of scikit-learn, so scikit-learn makes the predictions: "
    "they are the same, about ten times slower."
)
# With more features, such as long vectors, Newton's method is slower than many passes of L-BFGS.
MOST_NEWTON = 50


class Learner(ABC):
    """Learns the mean of a target given features; no rows are kept after the fit.

    Args:
        seed: seed of all random draws.

    Attributes:
        notes: sentences about the fit, for people; empty before it.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def fit(self, features: Features, targets: Floats, weights: Floats, binary: bool) -> Self:
        """Fit to targets; a row of weight 2 counts as two rows of weight 1.

        Args:
            features: the features of M rows.
            targets: [M].
            weights: [M], above 0.
            binary: whether to learn a probability from targets 0 and 1 by the log loss, or else a mean by the
                squared error.
        """

    @abstractmethod
    def predict(self, features: Features) -> Floats:
        """Predicted means or probabilities, [M]."""


class Constant(Learner):
    """Predicts the mean target for all features."""

    value: float

    def fit(self, features: Features, targets: Floats, weights: Floats, binary: bool) -> Self:
        self.value = float(np.average(targets, weights=weights))
        return self

    def predict(self, features: Features) -> Floats:
        return np.full(len(features), self.value)


class Trees(Learner):
    """Gradient boosting of small trees (sklearn's histogram trees; Ke et al., LightGBM, NeurIPS 2017).

    Trees find thresholds and interactions, for example of a user's segment with the action.
    """

    def fit(self, features: Features, targets: Floats, weights: Floats, binary: bool) -> Self:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingClassifier if binary else HistGradientBoostingRegressor
        # Clicks are rare and one row says little. Trees that do not improve the loss on held-out rows
        # would only add noise to the estimates.
        model = kind(
            max_iter=200,
            max_leaf_nodes=8,
            min_samples_leaf=max(min(100, len(targets) // 20), 1),
            l2_regularization=10.0,
            categorical_features=list(features.is_categorical),
            early_stopping=True,
            validation_fraction=0.2,
            n_iter_no_change=5,
            random_state=self.seed,
        ).fit(features.matrix, targets, sample_weight(weights))
        self.binary = binary
        self.scores = TreeScores.of(model, features)
        if self.scores is None:
            self.model, self.notes = model, (SLOW_TREES,)
        return self

    def predict(self, features: Features) -> Floats:
        if self.scores is not None:
            scores = self.scores(features)
            return _sigmoid(scores) if self.binary else scores
        matrix, model = features.matrix, self.model
        return np.asarray(model.predict_proba(matrix)[:, 1] if self.binary else model.predict(matrix))


class Linear(Learner):
    """Ridge regression; logistic regression with the same penalty where targets are binary.

    Numbers are standardised, each with an indicator of missing values; each category has a coefficient. The
    penalty is half the sum of squares of the coefficients, as from a normal prior of deviation 1, which
    shrinks the coefficients of rare categories. There are no interactions: an action changes the log-odds by
    the same amount in every context.
    """

    def fit(self, features: Features, targets: Floats, weights: Floats, binary: bool) -> Self:
        from sklearn.linear_model import LogisticRegression, Ridge

        matrix = features.matrix
        self._measure(matrix, weights, np.array(features.is_categorical))
        design = self._design(matrix)
        model: Any  # sklearn is untyped
        if binary:
            # One-hot columns make an ill-conditioned problem: with 80 actions lbfgs was still 1 % off after
            # 300 passes, while Newton's method needs six. But one of its passes costs D² for each row.
            solver = "newton-cholesky" if matrix.shape[1] <= MOST_NEWTON else "lbfgs"
            model = LogisticRegression(C=1.0, solver=solver, tol=1e-6, max_iter=1000)
            model.fit(design, targets, sample_weight(weights))
        else:
            model = Ridge(alpha=1.0, tol=1e-8).fit(design, targets, sample_weight(weights))
        self.binary = binary
        self.intercept = float(np.ravel(model.intercept_)[0])
        self.coefficients = np.ravel(model.coef_)
        return self

    def predict(self, features: Features) -> Floats:
        width = features.context.shape[1]
        scores = self._scores(features.own, width)
        # The context adds the same to all candidates of a row.
        scores += (self._scores(features.context, 0) + self.intercept)[features.row]
        return _sigmoid(scores) if self.binary else scores

    def _measure(self, matrix: Floats, weights: Floats, is_categorical: Any) -> None:
        """Mean, deviation and first coefficient of each column, [D] each."""
        finite = np.isfinite(matrix)
        total = weights @ finite
        total[total == 0] = 1.0
        self.mean = weights @ np.where(finite, matrix, 0.0) / total
        spread = np.sqrt(weights @ np.where(finite, matrix - self.mean, 0.0) ** 2 / total)
        self.scale = np.where(spread > 1e-12 * np.abs(self.mean), spread, 1.0)
        self.is_categorical = is_categorical
        # Each column has coefficients for its values, and after them one for "missing".
        highest = np.where(finite, matrix, -1.0).max(axis=0)
        self.values = np.where(is_categorical, highest.astype(np.int64) + 1, 1)
        self.start = np.concatenate([[0], np.cumsum(self.values + 1)])

    def _cells(self, column: Floats, index: int) -> tuple[Integers, Floats]:
        """For each value [M]: which coefficient of its column it uses, and its factor."""
        values = self.values[index]
        if self.is_categorical[index]:
            known = column < values  # NaN is not
            return np.where(known, column, values).astype(np.int64), np.ones(len(column))
        known = np.isfinite(column)
        standard = np.where(known, (column - self.mean[index]) / self.scale[index], 1.0)
        return np.where(known, 0, 1), standard

    def _design(self, matrix: Floats) -> csr_matrix:
        """The sparse design matrix [M, P], with one cell for each column of a row."""
        rows, columns = matrix.shape
        index = np.empty((rows, columns), dtype=np.int32)
        value = np.empty((rows, columns))
        for column in range(columns):
            cell, value[:, column] = self._cells(matrix[:, column], column)
            index[:, column] = cell + self.start[column]
        ends = np.arange(rows + 1, dtype=np.int64) * columns
        return csr_matrix((value.ravel(), index.ravel(), ends), shape=(rows, self.start[-1]))

    def _scores(self, matrix: Floats, first: int) -> Floats:
        """The sum over the columns of a matrix, the first of which has the index `first`; [M]."""
        scores = np.zeros(len(matrix))
        for index, column in enumerate(matrix.T, start=first):
            cell, value = self._cells(column, index)
            scores += self.coefficients[self.start[index] :][cell] * value
        return scores


def _sigmoid(scores: Floats) -> Floats:
    from scipy.special import expit

    return np.asarray(expit(scores))


LEARNERS: dict[str, type[Learner]] = {"trees": Trees, "logistic": Linear}


def sample_weight(weights: Floats) -> Floats | None:
    """Weights for scikit-learn: None where all are 1, which is faster and gives the same fit."""
    return None if (weights == 1).all() else weights


def learn(
    kind: str, features: Features, targets: Floats, weights: Floats, binary: bool, seed: int
) -> Learner:
    """Fit a learner to weighted rows, without those of weight 0; if all weights are 0, rows count equally.

    If fewer than `LEAST_TARGETS` rows have another target than the most frequent one, it predicts the mean.

    Args:
        kind: a name of `LEARNERS`.
        features: the features of M rows.
        targets: [M].
        weights: [M], at least 0.
        binary: whether to learn a probability (see `Learner.fit`).
        seed: seed of all random draws.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in LEARNERS:
        raise ConfigError(f"there is no reward model '{kind}'", hint=nearest(kind, LEARNERS))
    if not weights.any():
        weights = np.ones(len(weights))
    weighty = weights > 0
    features = Features(
        features.context, features.own[weighty], features.row[weighty], features.is_categorical
    )
    targets, weights = targets[weighty], weights[weighty]
    _, rows = np.unique(targets, return_counts=True)
    few = len(targets) - rows.max() < LEAST_TARGETS
    learner = Constant() if few else LEARNERS[kind](seed)
    return learner.fit(features, targets, weights, binary)
