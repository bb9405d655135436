"""Ranking keys against Python's sort by pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from ctrkit.calibration import IsotonicRegression, ranking_key
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
    with pytest.raises(DataError, match=r"argument `logits`, row 1 .*missing"):
        ranking_key([0.1, 0.2], [1.0, np.nan])
