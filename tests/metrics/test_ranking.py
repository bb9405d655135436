"""AUC and average precision against scikit-learn, GAUC against a loop over groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics import auc, gauc, grouped_auc, ranking
from ctrkit.metrics.ranking import average_precision


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


@pytest.mark.parametrize("decimals", [15, 1, 0], ids=["no ties", "many ties", "a few scores"])
@pytest.mark.parametrize("weighted", [False, True])
def test_average_precision_equals_scikit_learn(decimals: int, weighted: bool) -> None:
    random = np.random.default_rng(decimals)
    scores = np.round(random.normal(size=3000), decimals)
    labels = random.random(3000) < 1 / (1 + np.exp(3 - scores))
    weight = random.integers(0, 3, 3000) * random.random(3000) if weighted else None
    expected = average_precision_score(labels, scores, sample_weight=weight)
    assert average_precision(labels, scores, weight) == pytest.approx(expected, abs=1e-12)
    assert type(average_precision(labels, scores, weight)) is float


def test_average_precision_by_hand() -> None:
    # From the top: a hit, then a tie of a hit and a miss, which enter together, then a miss.
    assert average_precision([1, 1, 0, 0], [3, 2, 2, 1]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3, abs=1e-15)
    assert average_precision([1, 1], [3, 2]) == 1.0
    assert average_precision([0, 1, 0, 0], [5, 5, 5, 5]) == 0.25
    with pytest.raises(DataError, match="average precision needs at least one positive"):
        average_precision([0, 0], [0.1, 0.2])
    with pytest.raises(DataError, match="average precision needs at least one positive"):
        average_precision([0, 1], [0.1, 0.2], weight=[1, 0])


@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(-1e300, 1e300), st.integers(0, 3)), min_size=2, max_size=30
    ).filter(lambda rows: {label for label, _, weight in rows if weight} == {False, True})
)
def test_a_whole_weight_counts_as_copies(rows: list[tuple[bool, float, int]]) -> None:
    labels, scores, weight = (list(column) for column in zip(*rows, strict=True))
    copied = [np.repeat(column, weight) for column in (labels, scores)]
    for metric in (auc, average_precision):
        assert metric(labels, scores, weight) == pytest.approx(metric(*copied), abs=1e-12)
    positive, negative = (copied[1][copied[0] == label] for label in (True, False))
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    assert auc(*copied) == pytest.approx(wins.mean(), abs=1e-15)


def test_auc_of_sorted_rows_is_that_of_shuffled_rows() -> None:
    random = np.random.default_rng(0)
    scores, labels = np.sort(np.round(random.normal(size=500), 1)), random.integers(0, 2, 500)
    shuffled = random.permutation(500)
    assert auc(labels, scores) == pytest.approx(auc(labels[shuffled], scores[shuffled]), abs=1e-15)


def loop_over_groups(labels, scores, groups, weight, by="impressions"):  # type: ignore[no-untyped-def]
    total = counted = rows = number = 0.0
    for group in set(groups.tolist()):
        inside = groups == group
        if 0 < labels[inside].sum() < inside.sum():
            clicks = labels[inside] if by == "clicks" else 1
            mass = (weight[inside] * clicks).sum()
            total += mass * roc_auc_score(labels[inside], scores[inside], sample_weight=weight[inside])
            counted, rows, number = counted + mass, rows + inside.sum(), number + 1
    return total / counted, rows, number


@pytest.mark.parametrize("by", ["impressions", "clicks"])
@pytest.mark.parametrize("names", [False, True], ids=["numbers", "names"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gauc_equals_a_loop_over_groups(
    names: bool, weighted: bool, by: ranking.By, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(7)
    groups = random.integers(-50, 70, 1000)
    scores = np.round(random.normal(size=1000) + groups / 100, 1)
    labels = (random.random(1000) < 0.2).astype(int)
    weight = random.exponential(size=1000) if weighted else np.ones(1000)
    groups = np.array([f"user {g}" for g in groups]) if names else groups
    value, rows, number = loop_over_groups(labels, scores, groups, weight, by)
    for compiled_from in (0, 10**9):  # many rows go another way than few
        monkeypatch.setattr(ranking, "COMPILED_FROM", compiled_from)
        found = grouped_auc(labels, scores, groups, weight if weighted else None, by)
        assert found.value == pytest.approx(value, abs=1e-12)
        assert (found.rows_counted, found.groups_counted) == (rows, number)
        assert (found.rows, found.groups) == (1000, len(set(groups.tolist())))
        assert found.groups_left_out == found.groups - number > 0
        assert gauc(labels, scores, groups, weight, by) == pytest.approx(value, abs=1e-12)


def test_gauc_of_many_rows_takes_columns_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(8)
    table = np.stack([random.integers(0, 2, 600), random.normal(size=600), random.exponential(size=600)], 1)
    groups = random.integers(0, 50, 600)
    expected = gauc(*table.T[:2].copy(), groups, table[:, 2].copy())
    table.flags.writeable = groups.flags.writeable = False
    monkeypatch.setattr(ranking, "COMPILED_FROM", 0)
    assert gauc(table[:, 0], table[:, 1], groups, table[:, 2]) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(DataError, match="no group holds both"):
        gauc(np.zeros(600), table[:, 1], groups)


def test_unknown_weight_of_groups() -> None:
    with pytest.raises(ConfigError, match=r"unknown weight of groups 'click'.*'clicks'"):
        gauc([0, 1], [0.1, 0.2], [0, 0], by="click")  # type: ignore[arg-type]


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
    with pytest.raises(DataError, match=r"argument `labels`: AUC needs rows of both classes.*no negative"):
        auc([1, 1], [0.2, 0.3])
    with pytest.raises(DataError, match="no positive"):
        auc([1, 0], [0.2, 0.3], weight=[0, 1])
    with pytest.raises(DataError, match="no group holds both"):
        gauc([1, 1, 0], [0.1, 0.2, 0.3], ["a", "a", "b"])
