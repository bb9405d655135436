"""Metrics of the top against scikit-learn, and ties against all orders of the tied rows."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.top_k import (
    grouped_ranking,
    hit_rate_at,
    mean_average_precision,
    mean_reciprocal_rank,
    ndcg_at,
    ranking_by_group,
)


def log(seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    groups = random.integers(0, 150, 1200) ** 2 % 97 - 40  # of very different sizes
    scores = np.round(random.normal(size=1200), decimals)
    return (random.random(1200) < 0.15).astype(int), scores, groups


def by_hand(labels: list[int], k: int) -> tuple[float, float, float, float]:
    """NDCG, AP, RR and hit of one ranked list, from the definitions."""
    found, gain, precisions, rank = 0, 0.0, 0.0, 0.0
    for place, label in enumerate(labels, start=1):
        if label:
            found += 1
            rank = rank or 1 / place
            if place <= k:
                gain += 1 / np.log2(place + 1)
                precisions += found / place
    relevant = min(sum(labels), k)
    best = sum(1 / np.log2(place + 1) for place in range(1, relevant + 1))
    return gain / best, precisions / relevant, rank, float(any(labels[:k]))


@pytest.mark.parametrize("decimals", [15, 1, 0], ids=["no ties", "many ties", "a few scores"])
@pytest.mark.parametrize("k", [1, 3, 10, 1000])
def test_ndcg_equals_scikit_learn_within_each_group(decimals: int, k: int) -> None:
    labels, scores, groups = log(decimals, decimals)
    expected = []
    for group in np.unique(groups):
        inside = groups == group
        if not labels[inside].any():
            expected.append(np.nan)
        elif inside.sum() == 1:
            expected.append(1.0)  # scikit-learn has no NDCG of a list of one
        else:
            expected.append(ndcg_score(labels[None, inside], scores[None, inside], k=k))
    found = ranking_by_group(labels, scores, groups, k).ndcg
    assert found == pytest.approx(np.array(expected), abs=1e-12, nan_ok=True)
    assert ndcg_at(labels, scores, groups, k) == pytest.approx(np.nanmean(expected), abs=1e-12)


def test_average_precision_without_ties_equals_scikit_learn_within_each_group() -> None:
    labels, scores, groups = log(1, 15)
    expected = [
        average_precision_score(labels[groups == group], scores[groups == group])
        for group in np.unique(groups)
        if labels[groups == group].any()
    ]
    assert mean_average_precision(labels, scores, groups) == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_all_equal_their_definitions_on_lists_without_ties(k: int) -> None:
    labels, scores, groups = log(2, 15)
    lists = [labels[groups == g][np.argsort(-scores[groups == g])].tolist() for g in np.unique(groups)]
    expected = np.mean([by_hand(ranked, k) for ranked in lists if any(ranked)], axis=0)
    assert ndcg_at(labels, scores, groups, k) == pytest.approx(expected[0], abs=1e-12)
    assert mean_average_precision(labels, scores, groups, k) == pytest.approx(expected[1], abs=1e-12)
    assert mean_reciprocal_rank(labels, scores, groups) == pytest.approx(expected[2], abs=1e-12)
    assert hit_rate_at(labels, scores, groups, k) == pytest.approx(expected[3], abs=1e-12)
    found = grouped_ranking(labels, scores, groups, k)
    assert found.groups == len(lists)
    assert found.left_out == sum(not any(ranked) for ranked in lists) > 0


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=1, max_size=6).filter(
        lambda rows: any(label for label, _ in rows)
    ),
    st.integers(1, 7),
)
def test_a_tie_counts_as_the_mean_over_all_orders_of_its_rows(rows: list[tuple[bool, int]], k: int) -> None:
    orders = [[rows[i] for i in order] for order in permutations(range(len(rows)))]
    ranked = [order for order in orders if all(a[1] >= b[1] for a, b in pairwise(order))]
    expected = np.mean([by_hand([int(label) for label, _ in order], k) for order in ranked], axis=0)
    labels, scores = [label for label, _ in rows], [score for _, score in rows]
    # A second group, whose rows all are relevant, must not leak into the first.
    found = ranking_by_group([*labels, 1, 1], [*scores, 9, 1], [5] * len(rows) + [4, 4], k)
    of_group = (found.ndcg, found.average_precision, found.reciprocal_rank, found.hit)
    assert [value[1] for value in of_group] == pytest.approx(expected, abs=1e-12)
    assert [value[0] for value in of_group] == pytest.approx([1, 1, 1, 1], abs=1e-12)


def test_long_ties_keep_their_digits() -> None:
    # One relevant row anywhere among n: the mean reciprocal rank is the harmonic number over n.
    n = 20_000
    labels = np.zeros(n)
    labels[7] = 1
    expected = np.sum(1 / np.arange(1, n + 1)) / n
    assert mean_reciprocal_rank(labels, np.zeros(n), np.zeros(n)) == pytest.approx(expected, abs=1e-10)
    assert hit_rate_at(labels, np.zeros(n), np.zeros(n), 50) == pytest.approx(50 / n, abs=1e-10)


def test_order_of_rows_and_names_of_groups_do_not_matter() -> None:
    labels, scores, groups = log(3, 1)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    names = np.array([f"request {g}" for g in groups])
    expected = grouped_ranking(labels, scores, groups, 4)
    found = grouped_ranking(labels[shuffled], scores[shuffled], names[shuffled], 4)
    assert found.left_out == expected.left_out
    for field in ("ndcg", "mean_average_precision", "mean_reciprocal_rank", "hit_rate"):
        assert getattr(found, field) == pytest.approx(getattr(expected, field), abs=1e-14)


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="k must be a whole number of at least 1, and 0"):
        ndcg_at([0, 1], [1, 2], [0, 0], 0)
    with pytest.raises(DataError, match="no group holds a positive"):
        mean_reciprocal_rank([0, 0], [1, 2], [0, 1])
    with pytest.raises(DataError, match="argument `groups`, row index 1"):
        hit_rate_at([0, 1], [1, 2], [0, np.nan], 1)
    with pytest.raises(DataError, match=r"row index 0.*missing"):
        mean_average_precision([0, 1], [np.nan, 2], [0, 1])
