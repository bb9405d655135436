"""Empirical Bernstein intervals against the theorem's formula on arrays, and its promise in simulation."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from ctrkit.errors import ConfigError
from ctrkit.ope.intervals.bernstein import empirical_bernstein
from ctrkit.ope.intervals.moments import REWARD, TERM, Floats, Moments


def moments(terms: Floats, rewards: Floats | None = None, users: np.ndarray | None = None) -> Moments:
    found = Moments()
    found.update(
        np.ones(len(terms)), terms, terms if rewards is None else rewards, users, np.ones(len(terms))
    )
    return found


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-3.0, 2.0)])
def test_formula_of_the_theorem(bounds: tuple[float, float], confidence: float) -> None:
    least, most = bounds
    terms = np.random.default_rng(0).uniform(least, most, size=5000).tolist()
    delta = (1 - confidence) / 2
    spread = math.sqrt(2 * statistics.variance(terms) * math.log(2 / delta) / 5000)
    range_ = 7 * (most - least) * math.log(2 / delta) / (3 * 4999)
    mean = statistics.fmean(terms)
    found = empirical_bernstein(moments(np.array(terms)), TERM, bounds, confidence)
    expected = [mean - spread - range_, mean + spread + range_]
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-9)
    assert found.method == "empirical Bernstein"


def test_constant_terms_leave_the_part_of_the_range() -> None:
    found = empirical_bernstein(moments(np.full(401, 0.5)), TERM, (0.0, 1.0), 0.95)
    reach = 7 * math.log(80) / (3 * 400)
    assert found.high - 0.5 == pytest.approx(reach, rel=1e-6)
    assert 0.5 - found.low == pytest.approx(reach, rel=1e-6)


def test_parts_merged_are_the_whole_and_a_direction_is_a_mean_of_differences() -> None:
    rng = np.random.default_rng(1)
    terms, rewards = rng.uniform(0, 4, size=3000), rng.uniform(size=3000)
    first = moments(terms[:700], rewards[:700])
    first.merge(moments(terms[700:], rewards[700:]))
    parts = empirical_bernstein(first, TERM - REWARD, (-1.0, 4.0), 0.95)
    whole = empirical_bernstein(moments(terms - rewards), TERM, (-1.0, 4.0), 0.95)
    np.testing.assert_allclose([parts.low, parts.high], [whole.low, whole.high], rtol=1e-10)


def test_copies_of_rows_by_user_tell_nothing_new() -> None:
    terms = np.random.default_rng(2).uniform(size=2000)
    alone = empirical_bernstein(moments(terms), TERM, (0.0, 1.0), 0.95)
    copies = moments(np.tile(terms, 3), users=np.tile(np.arange(2000), 3))
    clustered = empirical_bernstein(copies, TERM, (0.0, 1.0), 0.95)
    np.testing.assert_allclose([clustered.low, clustered.high], [alone.low, alone.high], rtol=1e-3)


@pytest.mark.parametrize("rows", [1, 3])
def test_few_rows_tell_nothing(rows: int) -> None:
    found = empirical_bernstein(moments(np.full(rows, 0.2)), TERM, (0.0, 1.0), 0.95)
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (0.0, np.inf)])
def test_bounds_are_needed(bounds: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="no empirical Bernstein interval"):
        empirical_bernstein(moments(np.ones(5)), TERM, bounds, 0.95)


def test_covers_where_the_normal_interval_does_not() -> None:
    """300 rows of which 1 % are clicks of weight 5."""
    rng = np.random.default_rng(3)
    draws, covered, covered_by_normal = 1000, 0, 0
    for _ in range(draws):
        terms = 5.0 * (rng.random(300) < 0.01)
        found = empirical_bernstein(moments(terms), TERM, (0.0, 5.0), 0.8)
        covered += found.low <= 0.05 <= found.high
        low, high = stats.norm.interval(0.8, terms.mean(), max(stats.sem(terms), 1e-12))
        covered_by_normal += low <= 0.05 <= high
    assert covered / draws >= 0.8
    assert covered_by_normal / draws < 0.8
