"""Gain, lift and score distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ctrkit.errors import ConfigError, DataError
from ctrkit.evaluation import gain, score_distribution


def scored(n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(2 - rng.normal(size=n)))
    return (rng.random(n) < p).astype(float), p


def test_lift_is_the_rate_of_the_best_rows_over_the_base_rate() -> None:
    y, p = scored()
    best = np.argsort(-p)
    found = gain(y, p)
    for share in (0.01, 0.05, 0.1, 0.2):
        top = y[best[: int(share * y.size)]]
        assert found.lift[share] == pytest.approx(top.mean() / y.mean())


def test_the_area_under_the_gain_curve_is_the_auc_of_scikit_learn() -> None:
    # The share of rows is rate · (share of positives) + (1 - rate) · (share of negatives).
    y, p = scored()
    found = gain(y, p, points=20_000)
    rate = y.mean()
    area = np.trapezoid(found.gain, found.share)
    assert (area - rate / 2) / (1 - rate) == pytest.approx(roc_auc_score(y, p), abs=1e-3)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=4, max_size=40), st.integers(0, 99))
def test_the_order_of_rows_never_matters_and_gain_rises(rows: list[tuple[bool, int]], seed: int) -> None:
    y, s = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if y.min() == y.max():
        y[0] = 1 - y[0]
    found = gain(y, s)
    mixed = np.random.default_rng(seed).permutation(y.size)
    assert gain(y[mixed], s[mixed]).gain == pytest.approx(found.gain)
    assert (np.diff(found.gain) >= -1e-12).all()
    assert (found.gain[0], found.gain[-1]) == (0.0, pytest.approx(1.0))


def test_a_constant_score_has_no_lift() -> None:
    y, _ = scored()
    found = gain(y, np.full(y.size, 0.3))
    assert found.gain == pytest.approx(found.share)
    assert list(found.lift.values()) == pytest.approx([1.0] * 4)


def test_score_distributions_are_numpys_histograms() -> None:
    y, p = scored()
    found = score_distribution(y, p, bins=20)
    for values, label in ((found.positive, 1), (found.negative, 0)):
        counted, _ = np.histogram(p[y == label], found.edges)
        assert values.sum() == pytest.approx(1.0)
        assert np.abs(values - counted / counted.sum()).max() < 2 / counted.sum()
    assert np.isfinite(score_distribution([0, 1, 1], [0.0, 1.0, 1.0]).edges).all()
    assert score_distribution([0, 1], [0.5, 0.5]).positive.sum() == 1.0


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="both classes"):
        gain([1, 1], [0.1, 0.2])
    with pytest.raises(ConfigError, match="share of rows"):
        gain([0, 1], [0.1, 0.2], shares=[0.0])
    with pytest.raises(DataError, match="both classes"):
        score_distribution([0, 0], [0.1, 0.2])
    with pytest.raises(ConfigError, match="bins"):
        score_distribution([0, 1], [0.1, 0.2], bins=0)
