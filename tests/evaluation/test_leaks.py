"""Features that tell the label by themselves, and those that only seem to."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ctrkit.evaluation import find_leaks
from ctrkit.evaluation.leaks import telling_rows

RNG = np.random.default_rng(0)
LABELS = (RNG.random(4000) < 0.05).astype(np.float32)


def test_a_number_is_judged_by_its_order_in_either_direction() -> None:
    late = 4.0 * LABELS + RNG.normal(size=4000)
    for column in (late, -late):
        (leak,) = find_leaks("click", {"late": column}, LABELS)
        assert leak.area == pytest.approx(roc_auc_score(LABELS, late))
    assert not find_leaks("click", {"late": 2.0 * LABELS + RNG.normal(size=4000)}, LABELS)


def test_a_number_that_is_missing_without_a_click_leaks() -> None:
    delay = np.where(LABELS == 1, RNG.random(4000), np.nan)
    (leak,) = find_leaks("click", {"delay": delay}, LABELS)
    assert leak.area == 1.0
    at_random = np.where(RNG.random(4000) < 0.3, np.nan, RNG.normal(size=4000))
    assert not find_leaks("click", {"price": at_random, "none": np.full(4000, np.nan)}, LABELS)


def test_an_id_is_judged_by_other_rows_of_the_same_id() -> None:
    sure = np.where(LABELS == 1, RNG.integers(0, 5, 4000), RNG.integers(5, 100, 4000))
    unique = np.arange(4000)
    assert [leak.feature for leak in find_leaks("click", {"unique": unique, "sure": sure}, LABELS)] == [
        "sure"
    ]
    # An id of every click of its own, and one for all the rest, as of a column that only clicks fill in.
    filled = np.where(LABELS == 1, unique, -1)
    assert find_leaks("click", {"click_id": filled}, LABELS)


@pytest.mark.parametrize("positives", [0, 9, 12])
def test_features_without_meaning_are_no_leaks_however_many_and_few_the_clicks(positives: int) -> None:
    labels = np.zeros(2000)
    labels[:positives] = 1
    columns: dict[str, NDArray[np.generic]] = {f"x{i}": RNG.normal(size=2000) for i in range(100)}
    columns |= {f"id{i}": RNG.integers(0, 10 ** (1 + i % 4), 2000) for i in range(100)}
    assert not find_leaks("click", columns, labels)


def test_few_rows_tell_as_much_as_all() -> None:
    labels = (np.random.default_rng(1).random(200_000) < 0.3).astype(np.float32)
    late = 4.0 * labels + np.random.default_rng(2).normal(size=labels.size)
    rows = telling_rows(labels)
    assert rows.size == 20_000
    assert np.unique(rows).size == rows.size
    (leak,) = find_leaks("click", {"late": late[rows]}, labels[rows])
    assert leak.area == pytest.approx(roc_auc_score(labels, late), abs=0.002)
    assert telling_rows(np.ones(100)).size == 0


def test_what_stands_only_with_a_click_gives_it_away_though_most_clicks_are_without() -> None:
    bought = (LABELS == 1) & (RNG.random(4000) < 0.3)
    spent = np.where(bought, RNG.lognormal(size=4000), 0.0)
    (leak,) = find_leaks("click", {"spent": spent}, LABELS)
    assert "value or range of 'spent' have a click" in leak.sentence
    assert find_leaks("click", {"bought": bought.astype(np.int32)}, LABELS)
    # Nine of ten are no proof, nor is a user of many who always clicks, nor a value that hardly ever stands.
    often = bought | (RNG.random(4000) < 0.01)
    fan = np.where(LABELS == 1, 0, RNG.integers(1, 100, 4000))
    fan[RNG.random(4000) < 0.6] = 99
    rare = (np.cumsum(LABELS) <= 4) & (LABELS == 1)
    assert not find_leaks("click", {"often": often.astype(int), "fan": fan, "rare": rare.astype(int)}, LABELS)
