"""What learns a mean from features: boosted trees, and a linear model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import ConfigError, nearest
from ctrkit.ope.models.reward_features import Features
from ctrkit.ope.models.tree_scores import TreeScores

# With fewer targets that differ from the commonest, all that is learnt is their mean.
LEAST_TARGETS = 10
SLOW_TREES = (
    "This version of scikit-learn keeps its trees in a way unknown to ctrkit: scikit-learn itself gives the"
    " fitted models' predictions, the same, about ten times slower."
)
# With more features, as of long vectors, Newton's method takes longer than many passes of a plain one.
MOST_NEWTON = 50


class Learner(ABC):
    """Learns the mean of a target given features; keeps none of the rows.

    Args:
        seed: of whatever is drawn.

    Attributes:
        notes: sentences on how it came about, once it is fitted.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def fit(self, features: Features, targets: Floats, weights: Floats, binary: bool) -> Self:
        """Fit to targets [M] with weights [M] above 0: one of weight 2 tells as much as two of weight 1.

        Args:
            binary: learn a probability, by the log loss, from targets 0 and 1; else a mean, by squares.
        """

    @abstractmethod
    def predict(self, features: Features) -> Floats:
        """Means [M], or probabilities."""


class Constant(Learner):
    """The mean, whatever the features."""

    value: float

    def fit(self, features: Features, targets: Floats, weights: Floats, binary: bool) -> Self:
        """See `Learner`."""
        self.value = float(np.average(targets, weights=weights))
        return self

    def predict(self, features: Features) -> Floats:
        """See `Learner`."""
        return np.full(len(features), self.value)


class Trees(Learner):
    """Gradient boosting of small trees (sklearn's histogram trees; Ke et al., LightGBM, NeurIPS 2017).

    Finds thresholds and interactions by itself, such as of a user's segment with the action.
    """

    def fit(self, features: Features, targets: Floats, weights: Floats, binary: bool) -> Self:
        """See `Learner`."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingClassifier if binary else HistGradientBoostingRegressor
        # Clicks are rare and say little of one row: trees that do no better on rows held out than those
        # before them would only add noise to the estimates.
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
        """See `Learner`."""
        if self.scores is not None:
            scores = self.scores(features)
            return _sigmoid(scores) if self.binary else scores
        matrix, model = features.matrix, self.model
        return np.asarray(model.predict_proba(matrix)[:, 1] if self.binary else model.predict(matrix))


class Linear(Learner):
    """Ridge regression, logistic where targets are binary: log-odds are a sum over the features.

    Numbers are standardised, each with an indicator of the missing ones; categories have a coefficient each.
    The penalty is half the sum of squares of the coefficients, as from a normal prior of deviation 1, which
    holds those of rare categories. Knows no interactions: what an action does to the log-odds is the same in
    every context.
    """

    def fit(self, features: Features, targets: Floats, weights: Floats, binary: bool) -> Self:
        """See `Learner`."""
        from sklearn.linear_model import LogisticRegression, Ridge

        matrix = features.matrix
        self._measure(matrix, weights, np.array(features.is_categorical))
        design = self._design(matrix)
        model: Any  # sklearn is untyped
        if binary:
            # One-hot columns make a poorly shaped problem: with 80 actions lbfgs was still 1 % away from the
            # answer after 300 passes, where six of Newton's reach it. One of those takes D² a row.
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
        """See `Learner`."""
        width = features.context.shape[1]
        scores = self._scores(features.own, width)
        # What the row adds is the same for all of its candidates.
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
        # The values' coefficients of each column, and after them the one of "missing".
        highest = np.where(finite, matrix, -1.0).max(axis=0)
        self.values = np.where(is_categorical, highest.astype(np.int64) + 1, 1)
        self.start = np.concatenate([[0], np.cumsum(self.values + 1)])

    def _cells(self, column: Floats, index: int) -> tuple[Integers, Floats]:
        """Which coefficient of its column each value [M] takes, and by what it is multiplied."""
        values = self.values[index]
        if self.is_categorical[index]:
            known = column < values  # NaN is not
            return np.where(known, column, values).astype(np.int64), np.ones(len(column))
        known = np.isfinite(column)
        standard = np.where(known, (column - self.mean[index]) / self.scale[index], 1.0)
        return np.where(known, 0, 1), standard

    def _design(self, matrix: Floats) -> csr_matrix:
        """One cell for each column of a row: [M, P]."""
        rows, columns = matrix.shape
        index = np.empty((rows, columns), dtype=np.int32)
        value = np.empty((rows, columns))
        for column in range(columns):
            cell, value[:, column] = self._cells(matrix[:, column], column)
            index[:, column] = cell + self.start[column]
        ends = np.arange(rows + 1, dtype=np.int64) * columns
        return csr_matrix((value.ravel(), index.ravel(), ends), shape=(rows, self.start[-1]))

    def _scores(self, matrix: Floats, first: int) -> Floats:
        """The sum over some columns, of which the first has the index `first`; [M]."""
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
    """Weights as scikit-learn takes them: None where all are 1, which is the quicker way to the same fit."""
    return None if (weights == 1).all() else weights


def learn(
    kind: str, features: Features, targets: Floats, weights: Floats, binary: bool, seed: int
) -> Learner:
    """Fit a learner of a kind to rows of any weights, those of weight 0 left out; all alike where all are 0.

    Where too few rows have another target than the commonest (`LEAST_TARGETS`), it is their mean. Rows are
    counted for this as they are there: what was dropped beside them told nothing.

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
