from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ctrkit.errors import ConfigError
from ctrkit.ope.estimators.shrinkage import Clip, Harmonic, Optimistic, Shrinkage, Switch

WEIGHTS = np.concatenate([np.linspace(0, 40, 4001), [1e3, 1e6]])
ALL = [Clip(3.0), Switch(3.0), Optimistic(9.0), Harmonic(0.3)]


def test_worked_by_hand() -> None:
    weights = np.array([0.0, 0.5, 2.0, 8.0])
    np.testing.assert_allclose(Clip(2.0)(weights), [0, 0.5, 2, 2])
    np.testing.assert_allclose(Switch(2.0)(weights), [0, 0.5, 2, 0])
    np.testing.assert_allclose(Optimistic(4.0)(weights), [0, 2 / 4.25, 8 / 8, 32 / 68])
    np.testing.assert_allclose(Harmonic(0.5)(weights), [0, 0.5 / 0.75, 2 / 1.5, 8 / 4.5])


def test_harmonic_is_the_weighted_harmonic_mean_with_1() -> None:
    for weight in (0.01, 0.7, 1.0, 5.0, 1e4):
        expected = stats.hmean([weight, 1.0], weights=[0.8, 0.2])
        assert float(Harmonic(0.2)(np.array(weight))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shrink", ALL, ids=lambda shrink: type(shrink).__name__)
def test_rises_to_the_peak_and_no_farther(shrink: Shrinkage) -> None:
    shrunk = shrink(WEIGHTS)
    assert shrunk[0] == 0
    assert (shrunk >= 0).all()
    assert (np.diff(shrunk[shrink.peak >= WEIGHTS]) > 0).all()
    if shrink.peak < np.inf:
        assert shrunk.max() == pytest.approx(float(shrink(np.asarray(shrink.peak))), rel=1e-12)
        assert (np.diff(shrunk[shrink.peak < WEIGHTS]) <= 0).all()


@pytest.mark.parametrize("kind", [Clip, Switch, Optimistic, Harmonic])
def test_grid_goes_from_much_to_none(kind: type[Shrinkage]) -> None:
    trials = [kind(strength) for strength in kind.grid]
    assert [trial.shrinks for trial in trials].count(False) == 1
    (none,) = (trial for trial in trials if not trial.shrinks)
    np.testing.assert_array_equal(none(WEIGHTS), WEIGHTS)
    # What is taken from a weight of 30 changes in one direction over the grid.
    taken = np.array([30 - float(trial(np.asarray(30.0))) for trial in trials])
    assert (np.diff(taken) <= 0).all() or (np.diff(taken) >= 0).all()
    assert taken.min() == 0
    assert taken.max() > 25


def test_what_is_kept_of_a_weight() -> None:
    assert float(Optimistic(100.0)(np.asarray(10.0))) == pytest.approx(5)
    assert float(Harmonic(0.1)(np.asarray(1e9))) == pytest.approx(10, rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "strength"),
    [
        (Clip, 0.0),
        (Switch, -1.0),
        (Optimistic, np.nan),
        (Harmonic, 1.0),
        (Harmonic, -0.1),
        (Harmonic, np.nan),
    ],
)
def test_strength_out_of_range(kind: type[Shrinkage], strength: float) -> None:
    with pytest.raises(ConfigError, match="Give"):
        kind(strength)
