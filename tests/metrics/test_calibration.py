"""Calibration metrics against loops over bins, netcal, closed forms and simulation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics import debiased_ece, ece, mce, pcoc, reliability
from ctrkit.metrics.calibration import ace, bin_index


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    truth = random.beta(2, 15, 4003)
    return (random.random(4003) < truth).astype(float), truth**0.8


def by_width(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> list[np.ndarray]:
    insides = [(probabilities >= b / bins) & (probabilities < (b + 1) / bins) for b in range(bins)]
    return [np.flatnonzero(inside) for inside in insides if inside.any()]


def by_mass(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> list[np.ndarray]:
    # Without ties, row i of N sorted ones lies in bin floor(bins · (i + 1/2) / N).
    order, rows = np.argsort(probabilities), len(probabilities)
    of_row = [int(bins * (2 * i + 1) // (2 * rows)) for i in range(rows)]
    return [order[np.array(of_row) == b] for b in range(bins)]


@pytest.mark.parametrize(("strategy", "divide"), [("mass", by_mass), ("width", by_width)])
@pytest.mark.parametrize("bins", [1, 7, 15])
def test_ece_and_mce_equal_a_loop_over_bins(rows, strategy, divide, bins) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities = rows
    parts = divide(labels, probabilities, bins)
    gaps = [abs(labels[part].mean() - probabilities[part].mean()) for part in parts]
    expected = sum(len(part) * gap for part, gap in zip(parts, gaps, strict=True)) / len(labels)
    assert ece(labels, probabilities, bins, strategy) == pytest.approx(expected, abs=1e-12)
    assert mce(labels, probabilities, bins, strategy) == pytest.approx(max(gaps), abs=1e-12)
    assert ace(labels, probabilities, bins, strategy) == pytest.approx(np.mean(gaps), abs=1e-12)


def test_ece_mce_and_ace_are_netcals(rows: tuple[np.ndarray, np.ndarray]) -> None:
    # netcal cuts bins of equal mass at quantiles, which are the same cuts where bins divide the rows.
    labels, probabilities = rows[0][:4000], rows[1][:4000]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        netcal = pytest.importorskip("netcal.metrics", exc_type=ImportError)
        for strategy in ("mass", "width"):
            for name, ours in (("ECE", ece), ("MCE", mce), ("ACE", ace)):
                theirs = getattr(netcal, name)(10, equal_intervals=strategy == "width")
                expected = theirs.measure(probabilities, labels.astype(int))
                assert ours(labels, probabilities, 10, strategy) == pytest.approx(expected, abs=1e-12), name


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5, 0.51, 0.9, 1.0]), min_size=1, max_size=60),
    st.integers(1, 20),
)
def test_a_run_of_ties_goes_where_its_middle_lies(values: list[float], bins: int) -> None:
    found = bin_index(np.array(values), np.ones(len(values)), bins, "mass")
    # The same rule with weights, which takes another road.
    assert found.tolist() == bin_index(np.array(values), np.full(len(values), 2.0), bins, "mass").tolist()
    for value, bin_ in zip(values, found.tolist(), strict=True):
        below, equal = sum(v < value for v in values), values.count(value)
        assert bin_ == (2 * below + equal) * bins // (2 * len(values))


def test_bins_of_equal_mass_differ_by_one_row_at_most(rows: tuple[np.ndarray, np.ndarray]) -> None:
    count = reliability(*rows, bins=15).count
    assert count.sum() == 4003
    assert count.max() - count.min() <= 1


@pytest.mark.parametrize("strategy", ["mass", "width"])
def test_bins_that_come_true_have_no_error(strategy: str) -> None:
    # 100 rows at each of four probabilities, of which exactly that share is positive.
    levels = np.array([0.05, 0.25, 0.5, 0.75])
    probabilities = np.repeat(levels, 100)
    labels = np.concatenate([np.arange(100) < round(100 * level) for level in levels])
    assert ece(labels, probabilities, 4, strategy) == pytest.approx(0, abs=1e-15)
    assert mce(labels, probabilities, 4, strategy) == pytest.approx(0, abs=1e-15)
    assert pcoc(labels, probabilities) == pytest.approx(1, abs=1e-15)
    # All too high by 0.1: every measure of gap says 0.1.
    assert ece(labels, probabilities + 0.1, 4, strategy) == pytest.approx(0.1)
    assert mce(labels, probabilities + 0.1, 4, strategy) == pytest.approx(0.1)


@pytest.mark.parametrize("metric", [ece, mce, ace, debiased_ece])
def test_the_order_of_rows_never_matters(metric) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(8)
    probabilities = random.choice([0.01, 0.02, 0.021, 0.3], 1000)  # as isotonic regression gives: ties
    labels = random.random(1000) < probabilities
    shuffled = random.permutation(1000)
    expected = metric(labels, probabilities)
    assert metric(labels[shuffled], probabilities[shuffled]) == pytest.approx(expected, abs=1e-14)
    by_label = np.argsort(labels, kind="stable")
    assert metric(labels[by_label], probabilities[by_label]) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("metric", [ece, mce, ace, pcoc])
def test_a_weight_of_two_is_two_rows(rows, metric) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities = rows
    times = np.random.default_rng(0).integers(0, 4, len(labels))
    repeated = metric(np.repeat(labels, times), np.repeat(probabilities, times))
    assert metric(labels, probabilities, weight=times) == pytest.approx(repeated, abs=1e-13)


def test_debiased_ece_is_kumars_where_a_bins_predictions_are_equal() -> None:
    random = np.random.default_rng(4)
    levels = np.array([0.02, 0.1, 0.3])
    probabilities = np.repeat(levels, [500, 200, 300])
    labels = random.random(1000) < probabilities * 1.5
    square = 0.0
    for level, share in zip(levels, (0.5, 0.2, 0.3), strict=True):
        inside = labels[probabilities == level]
        mean = inside.mean()
        square += share * ((level - mean) ** 2 - mean * (1 - mean) / (len(inside) - 1))
    assert square > 0
    assert debiased_ece(labels, probabilities, bins=10, strategy="width") == pytest.approx(np.sqrt(square))


def test_debiasing_takes_the_noise_off() -> None:
    # Squared gaps: for true probabilities the plain mean is the noise, the debiased mean is 0.
    random = np.random.default_rng(6)
    truth = random.beta(2, 30, 2000)
    plain, debiased = [], []
    for _ in range(300):
        labels = random.random(2000) < truth
        plain.append(ece(labels, truth))
        debiased.append(debiased_ece(labels, truth))
    assert np.mean(debiased) < 0.6 * np.mean(plain)
    assert np.median(debiased) < 0.2 * np.median(plain)
    # A real error of 0.02 everywhere is found without bias, and it is larger than it is in the plain form.
    shifted = [debiased_ece(random.random(2000) < truth, truth + 0.02) ** 2 for _ in range(300)]
    assert np.mean(shifted) == pytest.approx(0.02**2, rel=0.08)


def test_debiased_ece_knows_copies_from_rows(rows: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = rows
    copies = np.repeat(np.arange(len(labels)), 5)
    expected = debiased_ece(labels, probabilities)
    clustered = debiased_ece(labels[copies], probabilities[copies], groups=copies)
    assert clustered == pytest.approx(expected, rel=1e-12)
    assert debiased_ece(labels[copies], probabilities[copies]) > expected


def test_pcoc_is_predicted_over_observed() -> None:
    assert pcoc([1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]) == 2.0  # twice too many expected
    with pytest.raises(DataError, match="at least one positive"):
        pcoc([0, 0], [0.1, 0.2])


@pytest.mark.parametrize("strategy", ["mass", "width"])
def test_reliability_has_wilson_intervals(rows, strategy) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities = rows
    found = reliability(labels, probabilities, 8, strategy, confidence=0.9)
    positives = np.rint(found.observed * found.count).astype(int)
    for bin_, k in enumerate(positives):
        wilson = binomtest(int(k), int(found.count[bin_])).proportion_ci(0.9, method="wilson")
        assert (found.low[bin_], found.high[bin_]) == pytest.approx((wilson.low, wilson.high), abs=1e-12)
    assert (np.diff(found.predicted) > 0).all()
    assert found.count.sum() == len(labels)
    assert positives.sum() == labels.sum()
    gaps = np.abs(found.observed - found.predicted)
    assert np.average(gaps, weights=found.count) == pytest.approx(ece(labels, probabilities, 8, strategy))


def test_reliability_knows_copies_from_rows(rows: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = rows
    copies = np.repeat(np.arange(len(labels)), 4)
    once, naive = reliability(labels, probabilities, 8), reliability(labels[copies], probabilities[copies], 8)
    found = reliability(labels[copies], probabilities[copies], 8, groups=copies)
    assert found.count.tolist() == (4 * once.count).tolist()
    np.testing.assert_allclose(found.low, once.low, rtol=2e-3)
    np.testing.assert_allclose(found.high, once.high, rtol=2e-3)
    assert (naive.high - naive.low < 0.6 * (once.high - once.low)).all()


def test_reliability_of_unlike_rows_is_not_surer_than_its_rows() -> None:
    # Each pair holds one positive and one negative, which alone would give a variance of 0.
    labels, pairs = np.tile([0, 1], 50), np.repeat(np.arange(50), 2)
    single = reliability(labels, np.full(100, 0.5), 1)
    found = reliability(labels, np.full(100, 0.5), 1, groups=pairs)
    assert (found.low, found.high) == (single.low, single.high)


def test_probability_1_is_in_the_last_bin() -> None:
    found = reliability([0, 1, 1], [0.0, 0.95, 1.0], bins=10, strategy="width")
    assert found.count.tolist() == [1, 2]


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown binning strategy 'mas'.*Did you mean 'mass'"):
        ece([0, 1], [0.1, 0.2], strategy="mas")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="bins must be at least 1"):
        mce([0, 1], [0.1, 0.2], bins=0)
    with pytest.raises(DataError, match="no bin holds two independent rows"):
        debiased_ece([0, 1], [0.1, 0.9], bins=10, strategy="width")
    with pytest.raises(ConfigError, match="confidence"):
        reliability([0, 1], [0.1, 0.9], confidence=95)
