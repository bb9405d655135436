"""Ranking keys against Python's sort by pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from ctrkit.calibration import IsotonicRegression, ranking_key, told_apart
from ctrkit.errors import DataError
from ctrkit.metrics import auc


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3]), st.integers(-3, 3)), min_size=1, max_size=30))
def test_orders_as_pairs_do(pairs: list[tuple[float, int]]) -> None:
    places = {pair: place for place, pair in enumerate(sorted(set(pairs)))}
    key = ranking_key([p for p, _ in pairs], [z for _, z in pairs])
    assert key.tolist() == [places[pair] for pair in pairs]


def test_keeps_what_isotonic_ties() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=2000)
    labels = (random.random(2000) < expit(logits)).astype(float)
    fitted = IsotonicRegression().fit(logits, labels)
    fresh = random.normal(size=2000)
    outcome = (random.random(2000) < expit(fresh)).astype(float)
    probabilities = fitted(fresh)
    assert len(np.unique(probabilities)) < 1000
    key = ranking_key(probabilities, fresh)
    assert len(np.unique(key)) == 2000
    assert auc(outcome, key) == auc(outcome, fresh) != auc(outcome, probabilities)


def test_bad_columns_are_named() -> None:
    with pytest.raises(DataError, match="probabilities has 2 rows and logits has 1"):
        ranking_key([0.1, 0.2], [1.0])
    with pytest.raises(DataError, match=r"argument `logits`, row index 1.*missing"):
        ranking_key([0.1, 0.2], [1.0, np.nan])


levels = st.sampled_from([1e-30, 1e-7, 0.02, np.nextafter(0.02, 1), 0.3, 1 - 1e-7])
rows = st.lists(st.tuples(levels, st.integers(-5, 5)), min_size=1, max_size=8)


@given(st.lists(rows, min_size=1, max_size=5))
def test_equal_probabilities_of_a_row_are_told_apart_as_their_logits_stand(
    table: list[list[tuple[float, int]]],
) -> None:
    width = max(map(len, table))
    p, z = np.full((2, len(table), width), np.nan)
    for place, row in enumerate(table):
        p[place, : len(row)], z[place, : len(row)] = zip(*row, strict=True)
    found = told_apart(p, z)
    assert np.array_equal(np.isnan(found), np.isnan(p))
    assert np.nanmax(np.abs(found / p - 1)) < 1e-12
    for place, row in enumerate(table):
        best = found[place, : len(row)]
        # The first by (probability, logit) are first, and nobody else.
        assert {row[i] for i in np.flatnonzero(best == best.max())} == {max(row)} or max(row)[0] > 0.99
        assert (np.diff(best[np.lexsort((z[place, : len(row)], p[place, : len(row)]))]) >= 0).all()
    low = told_apart(np.full((1, 40), 1e-30), np.arange(40.0)[None])
    assert (np.diff(logit(low[0])) > 0).all()
