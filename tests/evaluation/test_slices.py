"""Popularity and activity, and metrics by them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from ctrkit.errors import ConfigError, DataError
from ctrkit.evaluation import MEASURES, by_count, by_slice, occurrences
from ctrkit.evaluation.measures import MAIN

numbers = st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=50)


@given(numbers, numbers)
def test_occurrences_are_those_of_a_counter(values: list[int | None], among: list[int | None]) -> None:
    counted = Counter(one for one in among if one is not None)
    found = occurrences(pl.Series(values, dtype=pl.Int64), pl.Series(among, dtype=pl.Int64))
    assert found.tolist() == [counted[one] if one is not None else 0 for one in values]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.integers(1, 6))
def test_parts_keep_equal_counts_together_and_in_order(counts: list[int], parts: int) -> None:
    number = np.array(counts)
    division = by_count(number, parts)
    assert len(division.names) <= parts + 1
    assert set(division.part) == set(range(len(division.names)))
    ordered = division.part[np.argsort(number, kind="stable")]
    assert (np.diff(ordered) >= 0).all()
    for count in set(counts):
        assert len(set(division.part[number == count])) == 1
    assert ("unseen" in division.names) == (0 in counts)
    if 0 in counts:
        assert division.names[0] == "unseen"
        assert ((division.part == 0) == (number == 0)).all()


def test_parts_of_distinct_counts_are_even() -> None:
    division = by_count(np.random.default_rng(0).permutation(1000) + 1, 5)
    assert np.bincount(division.part).tolist() == [200] * 5
    assert division.names[0] == "1 to 200"
    assert division.names[-1] == "801 to 1,000"


def test_metrics_of_a_part_are_those_of_its_rows() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.6, 4000)
    y = (rng.random(4000) < p).astype(float)
    division = by_count(rng.integers(0, 20, 4000), 4)
    found = by_slice(y, p, division, MAIN)
    assert sum(one.rows for one in found) == 4000
    for code, one in enumerate(found):
        rows = division.part == code
        values = {name: value.value for name, value in one.values.items() if value is not None}
        assert one.positives == y[rows].sum()
        assert values["auc"] == pytest.approx(roc_auc_score(y[rows], p[rows]))
        assert values["log_loss"] == pytest.approx(log_loss(y[rows], p[rows]))
        assert values["pcoc"] == pytest.approx(p[rows].sum() / y[rows].sum())
        assert one.values["gauc"] is None  # there are no groups


def test_a_part_of_one_class_tells_what_it_can() -> None:
    y, p = np.array([0, 0, 0, 1, 0, 1.0]), np.full(6, 0.3)
    first, _ = by_slice(y, p, by_count([1, 1, 1, 5, 5, 5], 2), MAIN)
    assert first.values["auc"] is None
    assert first.values["pcoc"] is None
    assert first.values["brier"] is not None


def test_bad_divisions_are_refused() -> None:
    with pytest.raises(ConfigError, match="parts"):
        by_count([1], 0)
    for counts in ([-1], []):
        with pytest.raises(DataError, match="counts"):
            by_count(counts)
    with pytest.raises(DataError, match="2 rows"):
        by_slice([0, 1], [0.1, 0.2], by_count([1]), MEASURES)
