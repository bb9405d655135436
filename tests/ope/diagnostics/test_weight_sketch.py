"""The sketch against whole arrays, in parts of any size and order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ctrkit.errors import DataError
from ctrkit.ope.diagnostics.log_grid import GREATEST, STEPS, lower_edges, steps
from ctrkit.ope.diagnostics.weight_sketch import KEPT, WeightSketch
from ctrkit.ope.intervals.moments import Floats
from tests.ope.diagnostics.tails import top_share, weight_tail

ROWS = 300_000


def sketch(weights: Floats, parts: int = 1, seed: int = 0, counts: Floats | None = None) -> WeightSketch:
    """Rows shuffled, cut at random, each part by itself, and merged in random order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(weights))
    cuts = np.sort(rng.integers(0, len(weights) + 1, size=parts - 1))
    found = []
    for rows in np.split(order, cuts):
        one = WeightSketch()
        one.update(weights[rows], np.ones(len(weights[rows])) if counts is None else counts[rows])
        found.append(one)
    for other in found[1:]:
        found[0].merge(other)
    return found[0]


def draws() -> dict[str, Floats]:
    rng = np.random.default_rng(1)
    return {
        "lognormal": rng.lognormal(-2, 2, ROWS),
        "gamma with zeros": rng.gamma(0.5, 2, ROWS) * (rng.random(ROWS) < 0.7),
        "no variance": rng.pareto(1.2, ROWS),
        "two values": np.where(rng.random(ROWS) < 0.5, 0.3, 1.7),
        "within one step": 1 + rng.random(ROWS) ** 8 / 128.001,
        "all alike": np.full(ROWS, 0.9),
    }


@pytest.fixture(params=draws(), scope="module")
def weights(request: pytest.FixtureRequest) -> Floats:
    return draws()[request.param]


def test_grid() -> None:
    numbers = np.arange(STEPS)
    edges = lower_edges(numbers)
    np.testing.assert_array_equal(steps(edges), numbers)
    np.testing.assert_array_equal(steps(np.nextafter(edges[1:], 0)), numbers[:-1])
    assert edges[0] == 0
    assert edges[-1] == GREATEST
    assert (np.diff(edges[1:]) <= edges[1:-1] / 128).all()
    assert steps(np.array([-0.0, 1e300])).tolist() == [0, STEPS - 1]
    assert lower_edges(np.array([STEPS]))[0] == np.inf


def test_summary_is_that_of_all_weights(weights: Floats) -> None:
    found = sketch(weights, parts=7).summary()
    effective = weights.sum() ** 2 / (weights**2).sum()
    z = stats.ttest_1samp(weights, 1).statistic if np.ptp(weights) else -np.inf
    assert found.rows == ROWS
    assert found.max_weight == weights.max()
    assert found.mean_weight == pytest.approx(weights.mean(), rel=1e-12)
    assert found.effective_sample_size == pytest.approx(effective, rel=1e-9)
    assert found.mean_weight_z == pytest.approx(z, rel=1e-5)
    assert found.top_share == pytest.approx(top_share(weights), rel=0.005)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 1.0])
def test_heaviest_rows_carry_what_they_carry(weights: Floats, share: float) -> None:
    assert sketch(weights, parts=5).top_share(share) == pytest.approx(top_share(weights, share), rel=0.004)


def test_a_short_log_is_exact() -> None:
    weights = np.random.default_rng(2).lognormal(0, 2, 50_000)
    found = sketch(weights, parts=9)
    assert found.top_share() == pytest.approx(top_share(weights), rel=1e-12)
    assert found.tail().shape == pytest.approx(weight_tail(weights).shape, rel=1e-9)
    assert found.tail().threshold == weight_tail(weights).threshold
    np.testing.assert_array_equal(found.top[0], np.sort(weights)[::-1][:KEPT])


def test_quantiles(weights: Floats) -> None:
    found = sketch(weights, parts=4)
    for share in (0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.9999, 1.0):
        expected = np.quantile(weights, share, method="inverted_cdf")
        assert found.quantile(share) == pytest.approx(expected, rel=1 / 255, abs=2.0**-30)


@pytest.mark.parametrize("shape", [0.3, 0.9])
def test_tail_of_a_long_log(shape: float) -> None:
    """Of 3,700 rows in the tail 1,024 are kept, the others rounded to their steps."""
    weights = np.random.default_rng(3).pareto(1 / shape, 1_500_000)
    found, expected = sketch(weights, parts=3).tail(), weight_tail(weights)
    assert found.shape == pytest.approx(expected.shape, abs=0.02)
    assert found.threshold == pytest.approx(expected.threshold, rel=0.01)
    assert found.rows == pytest.approx(expected.rows, rel=0.05)


def test_policies_without_context_have_no_tail() -> None:
    assert np.isnan(sketch(draws()["two values"]).tail().shape)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), parts=st.integers(1, 9), rows=st.integers(1, 4000))
def test_any_parts_in_any_order_are_the_whole(seed: int, parts: int, rows: int) -> None:
    weights = np.random.default_rng(seed).lognormal(0, 2, rows)
    whole, merged = sketch(weights), sketch(weights, parts, seed)
    np.testing.assert_array_equal(merged.histogram[0], whole.histogram[0])
    np.testing.assert_array_equal(merged.top, whole.top)
    assert merged.top_share() == pytest.approx(whole.top_share(), rel=1e-9)
    assert merged.mean_z == pytest.approx(whole.mean_z, rel=1e-8)
    assert merged.to_dict()["quantiles"] == whole.to_dict()["quantiles"]


def test_a_row_that_stands_for_more_is_as_many_decisions_of_one_row() -> None:
    rng = np.random.default_rng(4)
    weights, counts = rng.lognormal(0, 1.5, 5000), rng.integers(1, 6, 5000).astype(float)
    found, copies = sketch(weights, 3, counts=counts), np.repeat(weights, counts.astype(int))
    assert found.rows == len(copies)
    assert found.mean == pytest.approx(copies.mean())
    assert found.top_share() == pytest.approx(top_share(copies), rel=1e-9)
    assert found.quantile(0.5) == pytest.approx(np.quantile(copies, 0.5, method="inverted_cdf"), rel=1 / 255)
    # What varies is the rows that were kept.
    carried = weights * counts
    assert found.effective_sample_size == pytest.approx(carried.sum() ** 2 / (carried**2).sum())
    error = np.sqrt((counts**2 * (weights - found.mean) ** 2).sum()) / counts.sum()
    assert found.mean_z == pytest.approx((found.mean - 1) / error)


def test_memory_does_not_grow() -> None:
    one, rng = WeightSketch(), np.random.default_rng(5)
    sizes = []
    for _ in range(3):
        one.update(rng.lognormal(0, 2, 5000), np.ones(5000))
        sizes.append(sum(np.asarray(value).nbytes for value in vars(one).values()))
    assert sizes[0] == sizes[-1] < 200_000


def test_coarse_histogram(weights: Floats) -> None:
    found = sketch(weights, parts=3).coarse()
    assert len(found.rows) <= 40
    for place, (low, high) in enumerate(zip(found.edges, found.edges[1:], strict=False)):
        inside = (weights >= low) & (weights < high)
        assert found.rows[place] == pytest.approx(inside.mean(), abs=1e-12)
        assert found.weight[place] == pytest.approx(weights[inside].sum() / weights.sum(), abs=1e-9)
    assert found.below + found.rows.sum() == pytest.approx(1)
    assert found.weight.sum() == pytest.approx(1, abs=2e-4)


def test_weights_out_of_all_bounds_are_counted() -> None:
    found = sketch(np.array([1e100, 1e-100, 0.0, 1.0]))
    assert found.zeros == 1
    assert found.top_share() == pytest.approx(1)
    assert found.quantile(1) == 1e100
    assert found.coarse().rows[-1] == pytest.approx(0.25)


def test_nothing_and_nothing_but_zeros() -> None:
    empty, zeros = WeightSketch(), sketch(np.zeros(50))
    empty.update(np.zeros(0), np.zeros(0))
    assert np.isnan(empty.mean)
    assert np.isnan(empty.quantile(0.5))
    assert empty.to_dict()["rows"] == 0
    assert (zeros.summary().top_share, zeros.summary().effective_sample_size) == (1, 0)
    assert zeros.summary().mean_weight_z == -np.inf
    assert zeros.coarse().below == 1
    zeros.merge(empty)
    assert zeros.to_dict()["zeros"] == 50


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_what_is_no_weight(bad: float) -> None:
    with pytest.raises(DataError) as caught:
        WeightSketch().update(np.array([1.0, bad]), np.ones(2))
    assert caught.value.row == 1
