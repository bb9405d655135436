"""Calibration by field against loops, exact binomial and Poisson tests, and simulation under no error."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics import ece, pcoc
from ctrkit.metrics.fields import benjamini_hochberg, by_field, field_ece, field_rce


def rows_of_sites(seed: int = 0, rows: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and sites; the site "bad" is predicted half again too high."""
    random = np.random.default_rng(seed)
    site = random.choice(["good", "fine", "bad", "rare", "rarer"], rows, p=[0.5, 0.3, 0.18, 0.015, 0.005])
    truth = random.beta(2, 18, rows)
    labels = (random.random(rows) < truth).astype(float)
    return labels, np.where(site == "bad", 1.5 * truth, truth), site


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.01, 0.0])
def test_field_errors_equal_a_loop(weighted: bool, smoothing: float) -> None:
    labels, probabilities, site = rows_of_sites()
    weight = np.random.default_rng(1).exponential(size=6000) if weighted else np.ones(6000)
    absolute = relative = 0.0
    for value in np.unique(site):
        inside = site == value
        y, p, w = labels[inside], probabilities[inside], weight[inside]
        gap = abs(np.sum(w * (y - p)))
        absolute += gap / weight.sum()
        relative += w.sum() / weight.sum() * gap / np.sum(w * (y + smoothing))
    mass = weight if weighted else None
    assert field_ece(labels, probabilities, site, mass) == pytest.approx(absolute, rel=1e-12)
    assert field_rce(labels, probabilities, site, mass, smoothing) == pytest.approx(relative, rel=1e-12)


def test_field_ece_with_bins_as_values_is_ece() -> None:
    labels, probabilities, _ = rows_of_sites()
    bins = np.minimum((probabilities * 12).astype(int), 11)
    expected = ece(labels, probabilities, 12, "width")
    assert field_ece(labels, probabilities, bins) == pytest.approx(expected, rel=1e-12)


def test_values_may_be_of_any_type() -> None:
    labels, probabilities, site = rows_of_sites()
    expected = field_ece(labels, probabilities, site)
    number = np.unique(site, return_inverse=True)[1]
    mixed = np.array([1 if s == "bad" else s for s in site], dtype=object)
    for values in (pl.Series(site), pl.Series(site).cast(pl.Categorical), number, number - 3.5, mixed):
        assert field_ece(labels, probabilities, values) == pytest.approx(expected, rel=1e-12)
    assert {row.value for row in by_field(labels, probabilities, mixed, 1)} == {
        "good",
        "fine",
        1,
        "rare",
        "rarer",
    }


def test_one_row_a_value_and_the_rare_ones_together() -> None:
    labels, probabilities, site = rows_of_sites()
    found = by_field(labels, probabilities, site, minimum_rows=200)
    assert [row.value for row in found] == ["good", "fine", "bad", "other"]
    assert [row.values for row in found] == [1, 1, 1, 2]
    assert sum(row.rows for row in found) == 6000
    for row in found:
        inside = np.isin(site, ["rare", "rarer"]) if row.value == "other" else site == row.value
        assert (row.rows, row.positives) == (inside.sum(), labels[inside].sum())
        assert row.predicted == pytest.approx(probabilities[inside].mean(), rel=1e-12)
        assert row.observed == pytest.approx(labels[inside].mean(), rel=1e-12)
        assert row.pcoc.value == pytest.approx(pcoc(labels[inside], probabilities[inside]), rel=1e-12)
        assert row.pcoc.low < row.pcoc.value < row.pcoc.high
        assert row.p_value <= row.adjusted_p_value
    assert [row.value for row in found if row.beyond_noise] == ["bad"]
    gap = sum(
        row.rows * abs(row.predicted - row.observed) for row in by_field(labels, probabilities, site, 1)
    )
    assert gap / 6000 == pytest.approx(field_ece(labels, probabilities, site), rel=1e-9)


@pytest.mark.parametrize("positives", [0, 1, 4, 12, 40])
def test_rare_clicks_are_tested_and_bounded_as_poisson(positives: int) -> None:
    # 50,000 rows at 1 in 10,000: 5 clicks are expected.
    labels = np.zeros(50_000)
    labels[:positives] = 1
    (found,) = by_field(labels, np.full(50_000, 1e-4), np.zeros(50_000))
    tails = stats.poisson.cdf(positives, 5), stats.poisson.sf(positives - 1, 5)
    assert found.p_value == pytest.approx(min(1, 2 * min(tails)), rel=5e-3)
    exact = stats.binomtest(positives, 50_000, 1e-4)
    assert found.p_value == pytest.approx(min(1, 2 * min(
        stats.binomtest(positives, 50_000, 1e-4, alternative=side).pvalue for side in ("less", "greater")
    )), rel=2e-2)  # fmt: skip
    bounds = exact.proportion_ci(0.95, method="exact")
    assert found.pcoc.low == pytest.approx(1e-4 / bounds.high, rel=2e-3)
    if positives:
        assert found.pcoc.high == pytest.approx(1e-4 / bounds.low, rel=2e-3)
    else:
        assert found.pcoc.high == np.inf


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.8])
def test_common_clicks_are_tested_as_binomial(rate: float) -> None:
    for shift in (-0.04, 0.0, 0.02, 0.05):
        positives = round(2000 * (rate + shift))
        (found,) = by_field(np.arange(2000) < positives, np.full(2000, rate), np.zeros(2000))
        sides = [stats.binomtest(positives, 2000, rate, side).pvalue for side in ("less", "greater")]
        assert found.p_value == pytest.approx(min(1, 2 * min(sides)), rel=0.25, abs=1e-4)


@given(
    st.integers(1, 300), st.floats(0.001, 0.999), st.floats(0, 1), st.sampled_from([0.8, 0.95]), st.booleans()
)
def test_interval_and_test_agree_and_either_class_tells_the_same(
    rows: int, predicted: float, observed: float, confidence: float, grouped: bool
) -> None:
    labels, probabilities = np.arange(rows) < round(rows * observed), np.full(rows, predicted)
    groups = np.arange(rows) // 3 if grouped else None
    field = np.zeros(rows)
    (found,) = by_field(labels, probabilities, field, 1, groups, confidence=confidence)
    assert found.pcoc.low <= found.pcoc.value <= found.pcoc.high
    if abs(found.p_value - (1 - confidence)) > 1e-6:
        assert (found.pcoc.low <= 1 <= found.pcoc.high) == (found.p_value > 1 - confidence)
    if predicted != 0.5 and not grouped:
        (mirrored,) = by_field(~labels, 1 - probabilities, field, 1)
        assert mirrored.p_value == pytest.approx(found.p_value, rel=1e-6, abs=1e-12)


def test_nothing_wrong_raises_no_alarm() -> None:
    # 300 small sites with 2 to 10 expected clicks each, all predicted by their true probabilities.
    random = np.random.default_rng(5)
    alarms, below = 0, []
    for _ in range(40):
        site = random.integers(0, 300, 60_000)
        truth = random.beta(1, 30, 60_000) * (0.2 + site / 300)
        found = by_field(random.random(60_000) < truth, truth, site)
        alarms += any(row.beyond_noise for row in found)
        below.append(np.mean([row.p_value <= 0.05 for row in found]))
    assert np.mean(below) <= 0.05
    assert np.mean(below) >= 0.015  # and the test is not asleep
    assert alarms <= 5  # of 40 tables, 5 % each at most; above 5 has a chance of 1 %


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_of_a_user_are_not_taken_for_independent(weighted: bool) -> None:
    # Users like or dislike all that they see; the probabilities are right on average.
    random = np.random.default_rng(6)
    clustered, naive, held = [], [], []
    for _ in range(150):
        user = np.repeat(np.arange(400), 12)
        taste = random.choice([0.02, 0.38], 400)[user]
        labels = random.random(4800) < taste
        weight = random.choice([0.5, 2.0], 400)[user] if weighted else None
        probabilities, field = np.full(4800, 0.2), np.zeros(4800)
        (found,) = by_field(labels, probabilities, field, groups=user, weight=weight)
        clustered.append(found.p_value <= 0.05)
        held.append(found.pcoc.low <= 1 <= found.pcoc.high)
        naive.append(by_field(labels, probabilities, field, weight=weight)[0].p_value <= 0.05)
    assert np.mean(clustered) <= 0.1
    assert np.mean(held) >= 0.9
    assert np.mean(naive) >= 0.2


def test_copies_of_rows_add_nothing_when_grouped() -> None:
    labels, probabilities, site = rows_of_sites(3)
    copies = np.repeat(np.arange(6000), 5)
    once = by_field(labels, probabilities, site)
    again = by_field(labels[copies], probabilities[copies], site[copies], 500, groups=copies)
    for before, after in zip(once, again, strict=True):
        assert after.value == before.value
        assert after.pcoc.low == pytest.approx(before.pcoc.low, rel=5e-2)
        assert after.pcoc.high == pytest.approx(before.pcoc.high, rel=5e-2)


def test_weights_scale_what_rows_say() -> None:
    labels, probabilities, site = rows_of_sites(4)
    plain = by_field(labels, probabilities, site)
    scaled = by_field(labels, probabilities, site, weight=np.full(6000, 3.0))
    for before, after in zip(plain, scaled, strict=True):
        assert (after.rows, after.positives) == (before.rows, before.positives)
        assert after.p_value == pytest.approx(before.p_value, rel=1e-9)
        assert after.pcoc.low == pytest.approx(before.pcoc.low, rel=1e-9)
    # Rows of no weight are not there.
    left_out = by_field(labels, probabilities, site, weight=(site != "fine").astype(float))
    kept = site != "fine"
    assert left_out == by_field(labels[kept], probabilities[kept], site[kept])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_is_scipys(p_values: list[float]) -> None:
    expected = stats.false_discovery_control(p_values, method="bh")
    np.testing.assert_allclose(benjamini_hochberg(p_values), expected, rtol=1e-12)


def test_a_value_without_positives() -> None:
    labels, probabilities = np.zeros(200), np.full(200, 0.01)
    (found,) = by_field(labels, probabilities, ["a"] * 200)
    assert found.pcoc.value == found.pcoc.high == np.inf
    assert found.pcoc.low == pytest.approx(0.01 / (1 - 0.025 ** (1 / 200)), rel=2e-3)
    assert not found.beyond_noise
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["pcoc"]["value"] is None
    assert plain["pcoc"]["low"] == found.pcoc.low
    (certain,) = by_field([0, 0, 1, 1], [0.0, 0.0, 1.0, 1.0], [1, 1, 1, 1], minimum_rows=1)
    assert certain.p_value == 1.0
    impossible = by_field([1] * 50 + [0] * 50, [0.0] * 100, [0] * 100)[0]
    assert impossible.beyond_noise
    assert impossible.pcoc.value == 0.0


def test_bad_input_is_named() -> None:
    labels, probabilities = [0, 1, 1], [0.1, 0.2, 0.3]
    for metric in (field_ece, field_rce, by_field):
        with pytest.raises(DataError, match=r"argument `fields`, row index 1.*missing.*value of their own"):
            metric(labels, probabilities, np.array(["a", None, "b"], dtype=object))
        with pytest.raises(DataError, match=r"argument `fields`, row index 2.*missing"):
            metric(labels, probabilities, [0.0, 0.0, np.nan])
        with pytest.raises(DataError, match=r"labels has 3 rows and fields has the shape \(2,\)"):
            metric(labels, probabilities, ["a", "b"])
        with pytest.raises(DataError, match=r"argument `probabilities`, row index 0.*not logits"):
            metric(labels, [-2.0, 0.2, 0.3], ["a", "b", "b"])
    with pytest.raises(DataError, match="no positives to be relative to"):
        field_rce(labels, probabilities, ["a", "b", "b"], smoothing=0)
    with pytest.raises(ConfigError, match="smoothing"):
        field_rce(labels, probabilities, ["a", "b", "b"], smoothing=-1)
    with pytest.raises(ConfigError, match="minimum_rows"):
        by_field(labels, probabilities, ["a", "b", "b"], minimum_rows=0)
    with pytest.raises(ConfigError, match="false discovery rate"):
        by_field(labels, probabilities, ["a", "b", "b"], false_discovery_rate=5)
    with pytest.raises(DataError, match=r"argument `groups`, row index 0.*missing"):
        by_field(labels, probabilities, ["a", "b", "b"], groups=[np.nan, 1, 2])


def test_a_value_of_one_user_tells_nothing_beyond_noise() -> None:
    site = np.repeat(["a", "b"], 1000)
    users = np.where(site == "a", 0, np.arange(2000))
    labels = np.tile([1.0, 0.0], 1000)
    alone, many = by_field(labels, np.full(2000, 0.1), site, groups=users)
    assert (alone.value, alone.p_value, alone.beyond_noise) == ("a", 1.0, False)
    assert (alone.pcoc.value, alone.pcoc.low, alone.pcoc.high) == pytest.approx((0.2, 0.1, np.inf))
    assert many.beyond_noise
