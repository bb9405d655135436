"""Isotonic regression against scikit-learn and the min-max formula."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.isotonic
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression
from scipy.special import expit

from ctrkit.calibration import IsotonicRegression
from ctrkit.calibration.pooling import rising_shares


def draw(rows: int, decimals: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = np.round(random.normal(-1, 2, rows), decimals)
    return logits, (random.random(rows) < expit(0.7 * logits)).astype(float), random.exponential(size=rows)


@pytest.mark.parametrize("decimals", [9, 1], ids=["no ties", "ties"])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_scikit_learn_with_the_two_half_rows_added(decimals: int, weighted: bool) -> None:
    logits, labels, weight = draw(3000, decimals)
    mass = weight if weighted else np.ones(3000)
    peer = sklearn.isotonic.IsotonicRegression(out_of_bounds="clip").fit(
        np.append(logits, [logits.min(), logits.max()]),
        np.append(labels, [1.0, 0.0]),
        np.append(mass, [0.5, 0.5]),
    )
    fitted = IsotonicRegression().fit(logits, labels, weight if weighted else None)
    grid = np.linspace(-12, 12, 5000)
    assert fitted(grid) == pytest.approx(peer.predict(grid), abs=1e-12)
    # The half rows touch the ends only: the middle is scikit-learn's on the rows alone.
    plain = sklearn.isotonic.IsotonicRegression(out_of_bounds="clip").fit(logits, labels, mass)
    middle = np.quantile(logits, [0.2, 0.4, 0.6, 0.8])
    assert fitted(middle) == pytest.approx(plain.predict(middle), abs=1e-12)


def test_equals_the_min_max_formula() -> None:
    # Barlow et al. 1972: the fit at i is max over starts j ≤ i of min over ends k ≥ i of the mean of j..k.
    logits, labels, _ = draw(60, 9, seed=1)
    order = np.argsort(logits)
    y, w = labels[order].copy(), np.ones(60)
    y[0], w[0] = (y[0] + 0.5) / 1.5, 1.5
    y[-1], w[-1] = y[-1] / 1.5, 1.5

    def mean(j: int, k: int) -> float:
        return float(np.average(y[j : k + 1], weights=w[j : k + 1]))

    expected = [max(min(mean(j, k) for k in range(i, 60)) for j in range(i + 1)) for i in range(60)]
    assert IsotonicRegression().fit(logits, labels)(logits[order]) == pytest.approx(expected, abs=1e-12)


def test_ends_are_never_certain() -> None:
    logits = np.arange(100.0)
    fitted = IsotonicRegression().fit(logits, logits >= 60)
    assert fitted([-1e9, 0.0, 59.0]) == pytest.approx([0.5 / 60.5] * 3)
    assert fitted([60.0, 99.0, 1e9]) == pytest.approx([40 / 40.5] * 3)
    # Between blocks the curve is linear in the logit.
    assert fitted([59.5])[0] == pytest.approx((0.5 / 60.5 + 40 / 40.5) / 2)


def test_knots_are_the_corners_of_the_curve_only() -> None:
    logits, labels, _ = draw(50_000, 9)
    fitted = IsotonicRegression().fit(logits, labels)
    blocks = len(np.unique(fitted.probabilities))
    assert blocks <= len(fitted.knots) <= 2 * blocks < 500
    assert (fitted.knots[0], fitted.knots[-1]) == (logits.min(), logits.max())


@pytest.mark.parametrize("decimals", [9, 1], ids=["no ties", "ties"])
def test_rows_without_weights_are_pooled_as_those_of_weight_one(decimals: int) -> None:
    # Two ways of sorting: values of each label, or places of all rows.
    logits, labels, _ = draw(3000, decimals, seed=2)
    plain = IsotonicRegression().fit(logits, labels)
    weighted = IsotonicRegression().fit(
        np.append(logits, 0.0), np.append(labels, 1.0), np.append(np.ones(3000), 1e-12)
    )
    grid = np.linspace(-12, 12, 5000)
    assert plain(grid) == pytest.approx(weighted(grid), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0.1, 5)), min_size=1, max_size=40))
def test_pooling_equals_scipy(rows: list[tuple[int, float]]) -> None:
    positives, mass = (np.array(column, float) for column in zip(*rows, strict=True))
    starts, shares = rising_shares(positives, mass)
    expected = isotonic_regression(positives / mass, weights=mass)
    block = np.searchsorted(starts, np.arange(len(mass)), side="right") - 1
    assert shares[block] == pytest.approx(expected.x, rel=1e-9)
    assert starts[0] == 0
    assert (np.diff(shares) > 0).all()
