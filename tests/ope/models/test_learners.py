"""Learners against scikit-learn's own predictions on the same numbers written out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from ctrkit.errors import ConfigError
from ctrkit.ope.intervals.moments import Floats
from ctrkit.ope.models import tree_scores
from ctrkit.ope.models.learners import LEARNERS, SLOW_TREES, Constant, Linear, Trees, learn
from ctrkit.ope.models.reward_features import Features
from ctrkit.ope.models.tree_scores import TreeScores

# Two numbers and a category of the context; a number and a category (the last) of the candidate.
CATEGORICAL = (False, True, False, False, True)


def draw(rows: int, seed: int, candidates: int = 1) -> Features:
    """Features with missing values and ties; the later seeds have categories that seed 0 has not."""
    rng = np.random.default_rng(seed)
    context = np.column_stack(
        [rng.normal(size=rows), rng.integers(3 + seed, size=rows), rng.integers(5, size=rows)]
    ).astype(float)
    own = np.column_stack(
        [rng.uniform(size=rows * candidates).round(2), rng.integers(20 + seed, size=rows * candidates)]
    )
    for matrix in (context, own):
        matrix[rng.random(matrix.shape) < 0.1] = np.nan
    return Features(context, own, np.repeat(np.arange(rows), candidates), CATEGORICAL)


def truth(features: Features) -> Floats:
    x, segment, step, price, action = np.nan_to_num(features.matrix, nan=1.0).T
    scores = 0.8 * x - 0.2 * step + (segment == action % 3) * 1.5 - price - 1.0
    return 1 / (1 + np.exp(-scores))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_tables_of_trees_give_what_sklearn_gives(binary: bool, weighted: bool) -> None:
    features = draw(4000, 0)
    rng = np.random.default_rng(1)
    targets = (rng.random(4000) < truth(features)) * (1.0 if binary else rng.gamma(2.0, size=4000))
    weights = rng.uniform(0.1, 3.0, size=4000) if weighted else None
    learner = Trees(7).fit(features, targets, np.ones(4000) if weights is None else weights, binary)
    kind = HistGradientBoostingClassifier if binary else HistGradientBoostingRegressor
    peer = kind(
        max_iter=200,
        max_leaf_nodes=8,
        min_samples_leaf=100,
        l2_regularization=10.0,
        categorical_features=list(CATEGORICAL),
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=5,
        random_state=7,
    ).fit(features.matrix, targets, weights)
    other = draw(200, 3, candidates=30)
    expected = peer.predict_proba(other.matrix)[:, 1] if binary else peer.predict(other.matrix)
    assert np.ptp(expected) > 0.2
    np.testing.assert_allclose(learner.predict(other), expected, rtol=1e-12)


@pytest.mark.parametrize("flags", [(False,) * 3, (True,) * 3])
def test_tables_of_trees_with_features_of_one_type_and_none_of_the_row(flags: tuple[bool, ...]) -> None:
    rng = np.random.default_rng(0)
    own = rng.integers(6, size=(3000, 3)).astype(float)
    targets = own[:, 0] * (own[:, 2] - 2) + rng.normal(size=3000)
    features = Features(np.empty((3000, 0)), own, np.arange(3000), flags)
    peer = HistGradientBoostingRegressor(
        max_iter=200,
        max_leaf_nodes=8,
        min_samples_leaf=100,
        l2_regularization=10.0,
        categorical_features=list(flags),
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=5,
        random_state=0,
    ).fit(own, targets)
    found = Trees(0).fit(features, targets, np.ones(len(targets)), binary=False).predict(features)
    np.testing.assert_allclose(found, peer.predict(own), rtol=1e-10, atol=1e-10)


def test_tables_of_trees_with_few_leaves() -> None:
    """Bits that stand for no leaf allow nothing."""
    features = draw(60, 0)
    targets = (np.random.default_rng(2).random(60) < truth(features)).astype(float)
    learner = Trees(0).fit(features, targets, np.ones(60), binary=True)
    assert learner.scores is not None
    assert (learner.scores.leaves != 0).sum(axis=1).max() == 2
    peer = HistGradientBoostingClassifier(
        max_iter=200,
        max_leaf_nodes=8,
        min_samples_leaf=3,
        l2_regularization=10.0,
        categorical_features=list(CATEGORICAL),
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=5,
        random_state=0,
    ).fit(features.matrix, targets)
    np.testing.assert_allclose(
        learner.predict(features), peer.predict_proba(features.matrix)[:, 1], rtol=1e-12
    )


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("change", ["a renamed part", "a part of another shape", "leaves in another order"])
def test_trees_laid_out_otherwise_are_left_to_sklearn(
    change: str, binary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, other = draw(1000, 0), draw(200, 3, candidates=30)
    targets = (np.random.default_rng(1).random(1000) < truth(features)).astype(float)
    expected = Trees().fit(features, targets, np.ones(1000), binary)
    assert expected.scores is not None
    assert expected.notes == ()

    read, below = TreeScores._read.__func__, tree_scores._leaves_below
    if change == "leaves in another order":
        monkeypatch.setattr(tree_scores, "_leaves_below", lambda nodes: below(nodes)[::-1])
    else:
        parts = {"_raw_predictors": ()} if change == "a renamed part" else {"_predictors": [[], []]}
        changed = SimpleNamespace(**parts)
        monkeypatch.setattr(TreeScores, "_read", classmethod(lambda cls, model, on: read(cls, changed, on)))
    found = Trees().fit(features, targets, np.ones(1000), binary)
    assert found.scores is None
    assert found.notes == (SLOW_TREES,)
    np.testing.assert_allclose(found.predict(other), expected.predict(other), rtol=1e-12)


def written_out(features: Features, of: Features, weights: Floats) -> Floats:
    """Dense columns: standardised numbers and "missing", one for each category and "missing"."""
    columns = []
    for place, categorical in enumerate(CATEGORICAL):
        fitted, values = of.matrix[:, place], features.matrix[:, place]
        if categorical:
            columns += [values == code for code in np.unique(fitted[~np.isnan(fitted)])]
            columns.append(~np.isin(values, fitted[~np.isnan(fitted)]))
        else:
            there = ~np.isnan(fitted)
            mean = np.average(fitted[there], weights=weights[there])
            spread = np.sqrt(np.average((fitted[there] - mean) ** 2, weights=weights[there]))
            standard = (values - mean) / spread
            columns += [np.nan_to_num(standard), np.isnan(values)]
    return np.column_stack(columns).astype(float)


@pytest.mark.parametrize("binary", [True, False])
def test_linear_gives_what_sklearn_gives_on_dense_columns(binary: bool) -> None:
    features, other = draw(3000, 0), draw(100, 2, candidates=10)
    rng = np.random.default_rng(1)
    targets = (rng.random(3000) < truth(features)) * (1.0 if binary else rng.gamma(2.0, size=3000))
    weights = rng.uniform(0.5, 1.5, size=3000)
    found = Linear().fit(features, targets, weights, binary).predict(other)
    dense, wanted = (written_out(each, features, weights) for each in (features, other))
    if binary:
        peer = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(dense, targets, weights)
        expected = peer.predict_proba(wanted)[:, 1]
    else:
        expected = Ridge(alpha=1.0, solver="cholesky").fit(dense, targets, weights).predict(wanted)
    assert np.ptp(expected) > 0.2
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_linear_takes_infinite_numbers_for_missing_ones() -> None:
    features = draw(500, 0)
    infinite = np.where(np.isnan(features.context), np.inf, features.context)
    infinite[:, 1] = features.context[:, 1]
    same = Features(infinite, features.own, features.row, CATEGORICAL)
    targets = (truth(features) > 0.3).astype(float)
    one, other = (Linear().fit(f, targets, np.ones(500), binary=True).predict(f) for f in (features, same))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_weight_of_two_is_two_rows_and_one_of_nothing_is_none(kind: str) -> None:
    features = draw(2000, 0)
    targets = (np.random.default_rng(1).random(2000) < truth(features)).astype(float)
    chosen = np.arange(2000) % 2 == 0
    half = learn(kind, features.of_rows(chosen), targets[chosen], np.ones(chosen.sum()), True, 0)
    zeros = learn(kind, features, targets, chosen * 1.0, True, 0)
    np.testing.assert_allclose(zeros.predict(features), half.predict(features), rtol=1e-12)
    if kind == "trees":
        return  # they hold rows out, and ask for so many in a leaf
    twice = learn(kind, features, targets, 1.0 + chosen, True, 0)
    copies = np.concatenate([np.arange(2000), np.flatnonzero(chosen)])
    more = Features(features.context[copies], features.own[copies], np.arange(len(copies)), CATEGORICAL)
    both = learn(kind, more, targets[copies], np.ones(len(copies)), True, 0)
    np.testing.assert_allclose(twice.predict(features), both.predict(features), rtol=1e-7)


def test_few_targets_that_differ_are_no_more_than_a_mean() -> None:
    features = draw(1000, 0)
    targets = np.zeros(1000)
    targets[:9] = 1
    weights = np.where(targets == 1, 2.0, 1.0)
    learner = learn("trees", features, targets, weights, True, 0)
    assert isinstance(learner, Constant)
    np.testing.assert_allclose(learner.predict(features), 18 / 1009)


def test_unknown_kind() -> None:
    features = draw(20, 0)
    with pytest.raises(ConfigError, match="Did you mean 'trees'"):
        learn("tree", features, np.zeros(20), np.ones(20), True, 0)
