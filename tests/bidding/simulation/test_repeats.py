"""Intervals, paired differences and their correction, against scipy, simulations and the definitions."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ctrkit.bidding.simulation.repeats import RepeatKind, Repeats, over_seeds
from ctrkit.errors import ConfigError, DataError

Runs = list[dict[str, dict[str, float | None]]]


def runs_of(**strategies: Sequence[float | None]) -> Runs:
    """A KPI `value` of each strategy, by seed."""
    return [
        {name: {"value": value} for name, value in zip(strategies, row, strict=True)}
        for row in zip(*strategies.values(), strict=True)
    ]


def correlated(seeds: int, shifts: Sequence[float], seed: int = 0) -> Runs:
    """Strategies that luck moves together, the first without a shift."""
    rng = np.random.default_rng(seed)
    luck = rng.normal(10, 3, seeds)
    values = {f"s{k}": luck + shift + rng.normal(0, 0.5, seeds) for k, shift in enumerate((0.0, *shifts))}
    return runs_of(**{name: column.tolist() for name, column in values.items()})


def column(runs: Runs, strategy: str) -> list[float | None]:
    return [run[strategy]["value"] for run in runs]


@pytest.mark.parametrize("seeds", [2, 5, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_means_and_differences_are_scipy_s(seeds: int, confidence: float) -> None:
    runs = correlated(seeds, [0.4, 0.0])
    found = over_seeds(runs, confidence=confidence)
    for name in ("s0", "s1", "s2"):
        test = stats.ttest_1samp(column(runs, name), 0.0)
        mean, interval = found.means[name]["value"], test.confidence_interval(confidence)
        assert (mean.low, mean.high) == pytest.approx((interval.low, interval.high))
        assert mean.value == pytest.approx(test.statistic * mean.deviation / np.sqrt(seeds))
        assert mean.seeds == seeds
    for one in found.differences:
        test = stats.ttest_rel(column(runs, one.strategy), column(runs, "s0"))
        interval = test.confidence_interval(confidence)
        assert (one.low, one.high) == pytest.approx((interval.low, interval.high))
        assert one.p_value == pytest.approx(test.pvalue)
    assert [one.strategy for one in found.differences] == ["s1", "s2"]


def test_what_moves_both_is_gone_from_the_difference() -> None:
    found = over_seeds(correlated(20, [0.4]))
    (difference,), mean = found.differences, found.means["s0"]["value"]
    assert None not in (difference.low, difference.high, mean.low, mean.high)
    assert 3 * (difference.high - difference.low) < mean.high - mean.low


def test_another_reference() -> None:
    runs = correlated(6, [0.4, 0.0])
    found = over_seeds(runs, reference="s1")
    assert [one.strategy for one in found.differences] == ["s0", "s2"]
    assert found.differences[0].value == pytest.approx(-over_seeds(runs).differences[0].value)


@given(
    seeds=st.integers(2, 12),
    shift=st.floats(-1, 1).filter(lambda shift: abs(shift) > 1e-3),
    kind=st.sampled_from(["markets", "resamples"]),
)
def test_the_interval_of_confidence_1_less_p_ends_at_0(seeds: int, shift: float, kind: RepeatKind) -> None:
    runs = correlated(seeds, [shift])
    p_value = over_seeds(runs, kind=kind).differences[0].p_value
    assert p_value is not None
    (one,) = over_seeds(runs, kind=kind, confidence=1 - p_value).differences
    assert one.low is not None
    assert one.high is not None
    assert min(abs(one.low), abs(one.high)) <= 1e-6 * (one.high - one.low)


def coverage(
    kind: RepeatKind, seeds: int, confidence: float = 0.95, logs: int = 3000, rows: int = 200
) -> tuple[float, float]:
    """How often the intervals of means of one log's resamples hold the truth: a value's, and a difference's.

    Two strategies earn e^(z + ε) and 1.1 e^(z + ε') an auction, z ~ N(0, 0.5²) what the auction brings to
    both, and ε, ε' ~ N(0, 0.2²).
    """
    rng = np.random.default_rng(11)
    truth = np.exp((0.5**2 + 0.2**2) / 2) * np.array([1.0, 1.1])
    held = np.zeros(2)
    for _ in range(logs):
        log = np.exp(rng.normal(0, 0.5, (rows, 1)) + rng.normal(0, 0.2, (rows, 2))) * [1.0, 1.1]
        means = rng.multinomial(rows, np.full(rows, 1 / rows), seeds) @ log / rows
        found = over_seeds(
            runs_of(a=means[:, 0].tolist(), b=means[:, 1].tolist()), kind=kind, confidence=confidence
        )
        mean, (difference,) = found.means["a"]["value"], found.differences
        held += [
            (mean.low or 0) <= truth[0] <= (mean.high or 0),
            (difference.low or 0) <= truth[1] - truth[0] <= (difference.high or 0),
        ]
    return float(held[0] / logs), float(held[1] / logs)


@pytest.mark.parametrize(
    ("seeds", "confidence"), [(2, 0.5), (3, 0.8), pytest.param(20, 0.95, marks=pytest.mark.slow)]
)
def test_resamples_of_a_log_tell_how_far_the_log_may_be_off(seeds: int, confidence: float) -> None:
    # Give or take the up to 0.9 % of 3000 logs; with 200 rows the bootstrap is a little short.
    for held in coverage("resamples", seeds, confidence):
        assert held == pytest.approx(confidence - 0.005, abs=0.02)


def test_resamples_are_no_markets() -> None:
    """Taken for draws from the market, they forget the log's own error."""
    assert max(coverage("markets", 20, logs=300)) < 0.5


def test_draws_of_the_market_are_held_as_often_as_said() -> None:
    rng = np.random.default_rng(5)
    held = []
    for _ in range(1500):
        values = rng.gamma(4.0, 1.0, 8).tolist()
        mean = over_seeds(runs_of(a=values), confidence=0.9).means["a"]["value"]
        held.append((mean.low or 0) <= 4.0 <= (mean.high or 0))
    assert np.mean(held) == pytest.approx(0.9, abs=0.025)


def rejected(p_values: Sequence[float], level: float) -> list[bool]:
    """Holm's procedure as it is told: the least of m is compared with α / m, the next with α / (m − 1) ..."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found = [False] * len(p_values)
    for step, place in enumerate(order):
        if p_values[place] > level / (len(p_values) - step):
            break
        found[place] = True
    return found


def test_adjusted_p_values_are_the_levels_at_which_holm_rejects() -> None:
    found = over_seeds(correlated(8, [1.2, 0.6, 0.1, 0.0, -0.5], seed=10)).differences
    p_values = [one.p_value or 0.0 for one in found]
    adjusted = [one.adjusted_p_value for one in found]
    assert sum(p <= 0.05 for p in p_values) > sum(one <= 0.05 for one in adjusted if one is not None) > 0
    for level in np.linspace(0.0005, 0.9995, 1000):
        assert [one is not None and one <= level for one in adjusted] == rejected(p_values, float(level))


def test_each_kpi_is_corrected_by_itself() -> None:
    one, other = correlated(8, [0.9, 0.6]), correlated(8, [0.2, 0.1], seed=1)
    joined: Runs = [
        {name: {"value": a[name]["value"], "clicks": b[name]["value"]} for name in a}
        for a, b in zip(one, other, strict=True)
    ]
    for kpi, alone in (("value", one), ("clicks", other)):
        here = [d.adjusted_p_value for d in over_seeds(joined).differences if d.kpi == kpi]
        assert here == [d.adjusted_p_value for d in over_seeds(alone).differences]


def test_what_some_seeds_leave_open() -> None:
    runs = runs_of(a=[1.0, 2.0, None, 4.0], b=[None, 2.5, 3.0, 5.0], c=[None] * 4, d=[9.0, None, None, None])
    found = over_seeds(runs)
    assert found.means["c"] == {}
    assert (found.means["a"]["value"].seeds, found.means["a"]["value"].value) == (3, pytest.approx(7 / 3))
    alone = found.means["d"]["value"]
    assert (alone.value, alone.low, alone.deviation, alone.seeds) == (9.0, None, None, 1)
    b, d = found.differences
    assert (b.strategy, b.seeds, b.value) == ("b", 2, 0.75)
    # One seed has no p-value, and is no comparison to be corrected for.
    assert (d.strategy, d.seeds, d.value, d.p_value, d.adjusted_p_value) == ("d", 1, 8.0, None, None)
    assert b.adjusted_p_value == b.p_value == pytest.approx(stats.ttest_1samp([0.5, 1.0], 0).pvalue)


def test_without_spread() -> None:
    same, apart = over_seeds(runs_of(a=[1.0, 2.0], b=[1.0, 2.0], c=[1.5, 2.5])).differences
    assert (same.low, same.high, same.p_value) == (0.0, 0.0, 1.0)
    assert (apart.low, apart.high, apart.p_value) == (0.5, 0.5, 0.0)


def test_plain_data() -> None:
    found = over_seeds(correlated(3, [0.4]))
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["means"]["s0"]["value"]["value"] == found.means["s0"]["value"].value
    assert content["differences"][0]["adjusted_p_value"] == found.differences[0].adjusted_p_value
    assert isinstance(found, Repeats)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"runs": runs_of(a=[1.0])}, "at least two seeds, but there is 1"),
        ({"reference": "dua"}, "no strategy 'dua' to compare with. Did you mean 'dual'"),
        ({"kind": "resample"}, "Did you mean 'resamples'"),
        ({"confidence": 95.0}, r"confidence is 95 and must be between 0 and 1"),
        ({"confidence": float("nan")}, "must be between"),
    ],
)
def test_wrong_settings(changes: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        over_seeds(**{"runs": runs_of(dual=[1.0, 2.0], pid=[1.0, 2.0]), **changes})


@pytest.mark.parametrize(
    "other", [{"dual": {"value": 1.0}}, {"pid": {"value": 1.0}, "dual": {"clicks": 1.0}}]
)
def test_seeds_that_differ(other: dict) -> None:
    with pytest.raises(DataError, match="seed 2 has other strategies or KPIs"):
        over_seeds([*runs_of(pid=[1.0, 2.0], dual=[1.0, 2.0]), other])
