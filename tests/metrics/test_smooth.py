"""KS calibration error against a loop, smooth ECE against the integral it is and against relplot."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics import pcoc
from ctrkit.metrics.smooth import ks_calibration_error, smooth_ece, smooth_ece_at

METRICS = [ks_calibration_error, smooth_ece]


def drawn_rows(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.beta(1, 6, rows)
    return (random.random(rows) < truth).astype(float), truth**0.8


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.3, 0.31, 0.7, 1.0]), st.integers(0, 3)),
        min_size=1,
        max_size=40,
    ).filter(lambda rows: any(weight for _, _, weight in rows))
)
def test_ks_is_the_largest_gap_below_any_threshold(rows: list[tuple[bool, float, int]]) -> None:
    total = sum(weight for _, _, weight in rows)
    gaps = [sum(w * (p - y) for y, p, w in rows if p <= t) / total for _, t, _ in rows]
    labels, probabilities, weight = zip(*rows, strict=True)
    found = ks_calibration_error(labels, probabilities, weight)
    assert found == pytest.approx(max(map(abs, gaps)), abs=1e-12)


def test_ks_of_a_model_too_high_everywhere_is_its_mean_gap() -> None:
    labels = np.tile([0, 0, 0, 1], 250)
    probabilities = np.full(1000, 0.4)
    assert ks_calibration_error(labels, probabilities) == pytest.approx(0.15, abs=1e-12)
    assert pcoc(labels, probabilities) == pytest.approx(1.6)


@pytest.mark.parametrize("width", [0.003, 0.02, 0.1, 0.5, 1.0])
def test_smooth_ece_at_a_width_is_the_integral_over_reflected_kernels(width: float) -> None:
    labels, probabilities = drawn_rows(60)
    probabilities[:3], labels[:3] = [0.0, 1.0, 0.999], [1, 0, 0]  # at the walls, where reflection tells
    points = (np.arange(20_000) + 0.5) / 20_000
    smoothed = np.zeros(len(points))
    for y, p in zip(labels, probabilities, strict=True):
        for turn in range(-6, 7):
            for image in (2 * turn + p, 2 * turn - p):
                if abs(image - 0.5) < 0.5 + 9 * width:
                    smoothed += (y - p) * np.exp(-(((points - image) / width) ** 2) / 2)
    expected = np.abs(smoothed).mean() / np.sqrt(2 * np.pi) / width / len(labels)
    assert smooth_ece_at(labels, probabilities, width) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("rows", "tolerance"), [(500, 1e-3), (50_000, 4e-4)])
def test_smooth_ece_is_relplots(rows: int, tolerance: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        relplot = pytest.importorskip("relplot", exc_type=ImportError)
    for seed in (1, 2):
        labels, probabilities = drawn_rows(rows, seed)
        for bad in (probabilities, probabilities**1.5, np.clip(probabilities + 0.1, 0, 1)):
            # It evaluates at 200 points and searches the width to a thousandth.
            assert smooth_ece(labels, bad) == pytest.approx(relplot.smECE(bad, labels), abs=tolerance)


def test_smooth_ece_is_the_width_at_which_error_and_width_meet() -> None:
    labels, probabilities = drawn_rows(2000, 3)
    found = smooth_ece(labels, probabilities)
    assert smooth_ece_at(labels, probabilities, found) == pytest.approx(found, rel=1e-6)
    widths = [0.001, 0.01, 0.1, 1.0]
    errors = [smooth_ece_at(labels, probabilities, width) for width in widths]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("metric", METRICS)
def test_weights_order_and_edges(metric) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities = drawn_rows(500, 4)
    probabilities = np.round(probabilities, 2)
    expected = metric(labels, probabilities)
    shuffled = np.random.default_rng(0).permutation(500)
    assert metric(labels[shuffled], probabilities[shuffled]) == pytest.approx(expected, rel=1e-9)
    times = np.random.default_rng(1).integers(0, 4, 500)
    repeated = metric(np.repeat(labels, times), np.repeat(probabilities, times))
    assert metric(labels, probabilities, weight=times) == pytest.approx(repeated, rel=1e-9)
    assert type(expected) is float
    assert metric([0, 1, 1, 0], [0.0, 1.0, 1.0, 0.0]) == 0.0  # sure and right
    assert metric([1, 1], [0.0, 0.0]) == pytest.approx(1.0)  # sure and wrong
    assert metric([0, 1], [0.5, 0.5]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_bad_rows(metric) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=r"argument `probabilities`, row index 1.*1.5"):
        metric([0, 1], [0.5, 1.5])
    with pytest.raises(DataError, match=r"argument `labels`, row index 0"):
        metric([2, 1], [0.5, 0.5])
    with pytest.raises(DataError, match="labels has 2 rows and probabilities has 3"):
        metric([0, 1], [0.5, 0.5, 0.1])
    with pytest.raises(ConfigError, match="width must be above 0"):
        smooth_ece_at([0, 1], [0.5, 0.5], 0.0)
