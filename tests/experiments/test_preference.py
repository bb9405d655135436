"""The comparison of many impressions, against scipy and repeated tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ctrkit.arrays import Floats
from ctrkit.experiments.preference import impressions_needed, preference_of


def drawn(chances: tuple[float, float, float], size: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], size, p=chances)


def test_single_impressions_are_scipys_tests() -> None:
    for size in (12, 200):
        values = drawn((0.3, 0.35, 0.35), size)
        found = preference_of(values, np.arange(size), 0.9)
        low, high = stats.t.interval(0.9, size - 1, values.mean(), stats.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high), rel=0.02)
        assert found.p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=0.2)
        assert found.mean == pytest.approx(values.mean())
        wins, losses = (int((values == sign).sum()) for sign in (1, -1))
        assert (found.signs.wins, found.signs.losses) == (wins, losses)
        assert found.signs.ties == size - wins - losses


def test_a_user_is_one_unit() -> None:
    values = drawn((0.3, 0.3, 0.4), 100)
    one, twice = (preference_of(np.tile(values, n), np.tile(np.arange(100), n), 0.95) for n in (1, 2))
    assert twice[:4] == pytest.approx(one[:4])
    assert twice.signs == one.signs


def test_nothing_and_all() -> None:
    none = preference_of(np.zeros(30), np.arange(30), 0.95)
    assert (none.mean, none.signs.ties, none.signs.p_value) == (0, 30, None)
    assert np.isnan(none.p_value)
    every = preference_of(np.ones(10), np.arange(10), 0.95)
    assert every.signs.p_value == pytest.approx(2 * 0.5**10)
    alone = preference_of(np.ones(4), np.zeros(4, dtype=np.intp), 0.95)
    assert np.isnan(alone.low)


def test_needed_impressions_give_the_power() -> None:
    rng, size = np.random.default_rng(1), 200_000
    clicks = np.stack([rng.random(size) < 0.30, rng.random(size) < 0.36]).astype(np.float64)
    values = drawn((0.3, 0.25, 0.45), size)
    needed = impressions_needed(values, clicks, np.ones(size, dtype=np.intp))
    n = round(needed.interleaving)
    tests = stats.ttest_1samp(values[: size // n * n].reshape(-1, n), 0, axis=1)
    assert np.mean(tests.pvalue < 0.05) == pytest.approx(0.8, abs=0.05)
    half = round(needed.ab_test / 2)
    split = clicks[:, : size // half * half].reshape(2, -1, half)
    found = stats.ttest_ind(split[0], split[1], axis=1)
    assert np.mean(found.pvalue < 0.05) == pytest.approx(0.8, abs=0.12)


def test_no_difference_needs_infinitely_many() -> None:
    values = np.array([-1.0, 1.0, 1.0, -1.0])
    needed = impressions_needed(
        values, np.stack([values > 0] * 2).astype(np.float64), np.ones(4, dtype=np.intp)
    )
    assert needed == (np.inf, np.inf)
    nothing = impressions_needed(np.zeros(4), np.zeros((2, 4)), np.ones(4, dtype=np.intp))
    assert np.isnan(nothing).all()
