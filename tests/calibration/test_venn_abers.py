"""Venn-Abers against isotonic regressions with one row more, and the venn-abers package."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.isotonic
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from ctrkit.calibration import CalibrationWarning, VennAbers

ignored = pytest.mark.filterwarnings("ignore:.*fitted with only:ctrkit.calibration.CalibrationWarning")


def brute_force(z: np.ndarray, y: np.ndarray, w: np.ndarray, at: float, label: float) -> float:
    """What scikit-learn's isotonic regression gives at a logit once a row of it with this label is added."""
    peer = sklearn.isotonic.IsotonicRegression().fit(np.append(z, at), np.append(y, label), np.append(w, 1.0))
    return float(peer.predict([at])[0])


@ignored
@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(-4, 4), st.booleans(), st.integers(1, 3)), min_size=2, max_size=14).filter(
        lambda rows: len({label for _, label, _ in rows}) == 2
    )
)
def test_equals_one_isotonic_regression_a_label(rows: list[tuple[int, bool, int]]) -> None:
    z, y, w = (np.array(column, float) for column in zip(*rows, strict=True))
    fitted = VennAbers().fit(z, y, w)
    grid = np.arange(-5, 5.1, 0.5)  # on the logits, between and beyond them
    low, high = fitted.interval(grid)
    assert low == pytest.approx([brute_force(z, y, w, at, 0.0) for at in grid], abs=1e-9)
    assert high == pytest.approx([brute_force(z, y, w, at, 1.0) for at in grid], abs=1e-9)


def test_equals_the_package() -> None:
    venn_abers = pytest.importorskip("venn_abers")
    random = np.random.default_rng(0)
    z = random.normal(-1, 1.5, 800)
    y = (random.random(800) < expit(0.7 * z)).astype(int)
    fresh = np.append(random.normal(-1, 2, 300), z[:20])
    peer = venn_abers.VennAbers()
    peer.fit(np.stack([1 - expit(z), expit(z)], axis=1), y)
    both, pair = peer.predict_proba(np.stack([1 - expit(fresh), expit(fresh)], axis=1))
    fitted = VennAbers().fit(z, y)
    low, high = fitted.interval(fresh)
    assert low == pytest.approx(pair[:, 0], abs=1e-9)
    assert high == pytest.approx(pair[:, 1], abs=1e-9)
    assert fitted(fresh) == pytest.approx(np.clip(both[:, 1], 1e-7, 1 - 1e-7), abs=1e-9)


def test_the_probability_lies_inside_and_few_rows_make_it_wide() -> None:
    random = np.random.default_rng(1)
    widths = []
    for rows in (200, 2000, 20_000):
        z = random.normal(-1, 1.5, rows)
        fitted = VennAbers().fit(z, random.random(rows) < expit(z))
        grid = np.linspace(-6, 4, 500)
        low, high = fitted.interval(grid)
        assert ((low < fitted(grid)) & (fitted(grid) < high)).all()
        assert (np.diff(low) >= 0).all()
        assert (np.diff(high) >= 0).all()
        assert fitted(grid) == pytest.approx(np.clip(high / (1 - low + high), 1e-7, 1 - 1e-7), rel=1e-12)
        widths.append(float((high - low)[150:350].mean()))
    assert widths[0] > 2 * widths[1] > 4 * widths[2]
    assert fitted.interval(-1.5)[0].shape == ()
    # Steps, and not rows, are what it keeps.
    assert len(fitted.low.places) + len(fitted.high.places) < 2000


def test_the_right_one_of_the_two_is_calibrated() -> None:
    # Theorem 1 of Vovk et al.: over draws, the mean of the one picked by the label is the mean label.
    random = np.random.default_rng(2)
    picked, labels = [], []
    for _ in range(600):
        z = random.normal(size=31)
        y = (random.random(31) < expit(2 * z)).astype(float)
        if 20 <= 2 * y[:30].sum() <= 40:
            with pytest.warns(CalibrationWarning, match="with only"):
                low, high = VennAbers().fit(z[:30], y[:30]).interval(z[30])
            picked.append(float(high if y[30] else low))
            labels.append(float(y[30]))
    error = np.std(np.subtract(picked, labels)) / np.sqrt(len(labels))
    assert np.mean(picked) == pytest.approx(np.mean(labels), abs=4 * error)
