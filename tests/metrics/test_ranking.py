"""AUC against scikit-learn, GAUC against a loop over groups."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ctrkit.errors import DataError
from ctrkit.metrics import auc, gauc, grouped_auc


@pytest.mark.parametrize("decimals", [15, 1, 0], ids=["no ties", "many ties", "a few scores"])
@pytest.mark.parametrize("weighted", [False, True])
def test_auc_equals_scikit_learn(decimals: int, weighted: bool) -> None:
    random = np.random.default_rng(decimals)
    scores = np.round(random.normal(size=3000), decimals)
    labels = random.random(3000) < 1 / (1 + np.exp(3 - scores))
    weight = random.exponential(size=3000) if weighted else None
    expected = roc_auc_score(labels, scores, sample_weight=weight)
    assert auc(labels, scores, weight) == pytest.approx(expected, abs=1e-12)
    assert type(auc(labels, scores, weight)) is float


def test_auc_counts_pairs_and_halves_ties() -> None:
    # Pairs (positive, negative): 3 > 1, 3 > 2, 2 > 1, 2 = 2.
    assert auc([1, 1, 0, 0], [3, 2, 1, 2]) == 3.5 / 4
    assert auc([0, 0, 1], [0.1, 0.2, 0.3]) == 1.0
    assert auc([0, 1, 0, 1], [5, 5, 5, 5]) == 0.5


def test_auc_of_sorted_rows_is_that_of_shuffled_rows() -> None:
    random = np.random.default_rng(0)
    scores, labels = np.sort(np.round(random.normal(size=500), 1)), random.integers(0, 2, 500)
    shuffled = random.permutation(500)
    assert auc(labels, scores) == pytest.approx(auc(labels[shuffled], scores[shuffled]), abs=1e-15)


def loop_over_groups(labels, scores, groups, weight):  # type: ignore[no-untyped-def]
    total = counted = rows = number = 0.0
    for group in set(groups.tolist()):
        inside = groups == group
        if 0 < labels[inside].sum() < inside.sum():
            mass = weight[inside].sum()
            total += mass * roc_auc_score(labels[inside], scores[inside], sample_weight=weight[inside])
            counted, rows, number = counted + mass, rows + inside.sum(), number + 1
    return total / counted, rows, number


@pytest.mark.parametrize("names", [False, True], ids=["numbers", "names"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gauc_equals_a_loop_over_groups(names: bool, weighted: bool) -> None:
    random = np.random.default_rng(7)
    groups = random.integers(-50, 250, 2000)
    scores = np.round(random.normal(size=2000) + groups / 100, 1)
    labels = (random.random(2000) < 0.2).astype(int)
    weight = random.exponential(size=2000) if weighted else np.ones(2000)
    groups = np.array([f"user {g}" for g in groups]) if names else groups
    value, rows, number = loop_over_groups(labels, scores, groups, weight)
    found = grouped_auc(labels, scores, groups, weight if weighted else None)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert (found.rows_counted, found.groups_counted) == (rows, number)
    assert (found.rows, found.groups) == (2000, len(set(groups.tolist())))
    assert gauc(labels, scores, groups, weight) == pytest.approx(value, abs=1e-12)


def test_gauc_of_one_group_is_auc() -> None:
    random = np.random.default_rng(1)
    labels, scores = random.integers(0, 2, 300), random.normal(size=300)
    assert gauc(labels, scores, np.zeros(300)) == pytest.approx(auc(labels, scores), abs=1e-15)


def test_gauc_ignores_what_shifts_a_whole_group() -> None:
    random = np.random.default_rng(2)
    groups, scores = random.integers(0, 20, 400), random.normal(size=400)
    labels = random.integers(0, 2, 400)
    shifted = scores + 10.0 * groups
    assert gauc(labels, shifted, groups) == pytest.approx(gauc(labels, scores, groups), abs=1e-15)
    assert auc(labels, shifted) != pytest.approx(auc(labels, scores), abs=1e-3)


def test_one_class_has_no_auc() -> None:
    with pytest.raises(DataError, match=r"column 'labels': AUC needs rows of both classes.*no negative"):
        auc([1, 1], [0.2, 0.3])
    with pytest.raises(DataError, match="no positive"):
        auc([1, 0], [0.2, 0.3], weight=[0, 1])
    with pytest.raises(DataError, match="no group holds both"):
        gauc([1, 1, 0], [0.1, 0.2, 0.3], ["a", "a", "b"])
