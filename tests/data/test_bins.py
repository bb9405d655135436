from __future__ import annotations

import numpy as np
import pytest

from ctrkit.data.bins import LEAST_ROWS, MOST_BINS, Bins


def test_edges_are_weighted_quantiles_of_whole_rows() -> None:
    rng = np.random.default_rng(0)
    numbers, weight = rng.normal(size=3000), rng.integers(1, 5, 3000)
    bins = Bins.fit(numbers, weight.astype(float))
    assert len(bins.means) == 3000 // LEAST_ROWS
    # A row of weight 3 is three rows: the same edges from the repeated rows, counted one by one.
    repeated = np.sort(np.repeat(numbers, weight))
    for step, edge in enumerate(bins.edges):
        below = (repeated <= edge).mean()
        level = step / len(bins.means)
        assert below >= level - 1e-12
        assert (repeated < edge).mean() <= level + 1e-12
    for low, high, mean in zip(bins.edges, bins.edges[1:], bins.means, strict=False):
        by_hand = np.mean([min(max((v - low) / (high - low), 0.0), 1.0) for v in repeated])
        assert mean == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("numbers", "edges"),
    [
        (np.tile([0.0, 1.0], 5000), 0),  # one bin would be the line again
        (np.tile([0.0, 1.0, 4.0], 5000), 3),
        (np.zeros(10_000), 0),
        (np.linspace(-1, 1, 2 * LEAST_ROWS - 1), 0),
        (np.linspace(-1, 1, 2 * LEAST_ROWS), 3),
        (np.linspace(-1, 1, 100 * LEAST_ROWS), MOST_BINS + 1),
        (np.tile([1.0, 1.0 + 1e-9, 2.0, 3.0], 5000), 3),  # the same in single precision
    ],
)
def test_few_rows_or_distinct_numbers_give_few_bins(numbers: np.ndarray, edges: int) -> None:
    assert len(Bins.fit(numbers, np.ones(numbers.size)).edges) == edges


def test_coarser_bins_have_the_means_of_their_own_encoding() -> None:
    numbers = np.random.default_rng(1).normal(size=20_000)
    bins = Bins.fit(numbers, np.ones(numbers.size))
    coarse = bins.coarser(7)
    assert len(coarse.means) == 7
    assert set(coarse.edges) < set(bins.edges)
    assert (coarse.edges[0], coarse.edges[-1]) == (bins.edges[0], bins.edges[-1])
    for low, high, mean in zip(coarse.edges, coarse.edges[1:], coarse.means, strict=False):
        assert mean == pytest.approx(np.clip((numbers - low) / (high - low), 0, 1).mean())
    assert bins.coarser(MOST_BINS) == bins
    assert bins.coarser(0) == Bins()


@pytest.mark.parametrize(
    ("edges", "means"),
    [((0.0, 1.0), ()), ((1.0, 0.0), (0.5,)), ((0.0, np.inf), (0.5,)), ((0.0, 1.0), (2.0,)), ((), (0.5,))],
)
def test_damaged_bins_are_refused(edges: tuple[float, ...], means: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="are no bins"):
        Bins(edges, means)
