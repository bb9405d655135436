"""Folds by hash: the same wherever a unit is read, even, and independent between seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from ctrkit.ope.models.cross_fitting import fold_of


def test_a_units_fold_does_not_depend_on_what_else_is_there() -> None:
    units = np.random.default_rng(0).integers(2**63, size=1000).astype(np.uint64)
    whole = fold_of(units, 5, seed=3)
    order = np.random.default_rng(1).permutation(1000)
    np.testing.assert_array_equal(fold_of(units[order], 5, seed=3), whole[order])
    np.testing.assert_array_equal([fold_of(units[i : i + 1], 5, seed=3)[0] for i in range(20)], whole[:20])


@pytest.mark.parametrize("units", [np.arange(30_000), np.arange(30_000) << 40, np.arange(30_000) * 3])
def test_folds_are_even_and_independent_between_seeds(units: np.ndarray) -> None:
    one, other = (fold_of(units.astype(np.uint64), 3, seed) for seed in (0, 1))
    cells = np.bincount(one * 3 + other, minlength=9)
    assert chisquare(cells).pvalue > 1e-3


def test_known_folds() -> None:
    """A fold is part of what a resumed or distributed run must agree on: it may not change unnoticed."""
    assert fold_of(np.arange(12, dtype=np.uint64), 3, seed=0).tolist() == [1, 2, 1, 2, 1, 2, 0, 1, 1, 2, 2, 0]
