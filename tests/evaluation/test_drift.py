"""The population stability index and the profiles it is measured on."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from ctrkit.errors import DataError
from ctrkit.evaluation import FeatureProfile, drift, population_stability, profile
from ctrkit.evaluation.drift import stability_noise

counts = st.lists(st.integers(1, 10_000), min_size=2, max_size=12)


@given(counts, counts)
def test_psi_is_the_symmetric_divergence_of_the_shares(first: list[int], second: list[int]) -> None:
    size = min(len(first), len(second))
    e, a = np.array(first[:size]) + 0.5, np.array(second[:size]) + 0.5
    expected = entropy(a, e) + entropy(e, a)  # scipy: Kullback and Leibler's, of normalised counts
    psi, terms = population_stability(first[:size], second[:size])
    assert psi == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert terms.sum() == pytest.approx(psi)
    assert population_stability(second[:size], first[:size])[0] == pytest.approx(psi, abs=1e-12)


def test_psi_of_a_worked_example() -> None:
    # (0.5 - 0.4) ln(0.5 / 0.4) + (0.5 - 0.6) ln(0.5 / 0.6); halves of a row do not matter at a billion rows.
    psi, _ = population_stability([4e9, 6e9, 0], [5e9, 5e9, 0])
    assert psi == pytest.approx(0.1 * np.log(1.25) - 0.1 * np.log(5 / 6), rel=1e-6)


def test_the_noise_is_what_samples_without_drift_give() -> None:
    rng = np.random.default_rng(0)
    shares, n, m = np.array([0.4, 0.3, 0.2, 0.1]), 4000, 1000
    drawn = [
        population_stability(rng.multinomial(n, shares), rng.multinomial(m, shares))[0] for _ in range(4000)
    ]
    assert np.quantile(drawn, 0.95) == pytest.approx(stability_noise(4, n, m), rel=0.06)
    assert stability_noise(1, n, m) == 0.0


def test_bins_without_rows_and_bad_counts() -> None:
    assert population_stability([5, 0, 5], [5, 0, 5])[0] == 0.0
    assert np.isfinite(population_stability([10, 0], [0, 10])[0])
    for expected, actual in (([0, 0], [1, 1]), ([1, -1], [1, 1]), ([1, 1], [1, 1, 1])):
        with pytest.raises(DataError):
            population_stability(expected, actual)


def test_profiles_count_every_row_once_and_numbers_into_even_bins() -> None:
    rng = np.random.default_rng(1)
    table = pl.DataFrame(
        {
            "price": [None, *rng.lognormal(size=9_999)],
            "city": [f"city {i % 30}" if i % 10 else None for i in range(10_000)],
            "history": [list(range(i % 7)) for i in range(10_000)],
            "constant": [3.0] * 10_000,
        }
    )
    found = profile(table, categorical=["city"], numeric=["price", "constant"], lists=["history"], top=5)
    assert all(sum(one.shares) == pytest.approx(1.0) for one in found.values())
    assert all(len(one.names()) == len(one.shares) for one in found.values())
    assert np.array(found["price"].shares[:-1]) == pytest.approx(0.1, abs=0.001)
    assert found["price"].shares[-1] == 1 / 10_000
    assert found["constant"].shares == (1.0, 0.0)
    assert found["city"].shares[-1] == 0.1
    assert len(found["city"].values) == 5
    lengths = np.array([found["history"].counts(table["history"])])
    assert lengths.sum() == 10_000
    stored = json.loads(json.dumps({name: one.to_dict() for name, one in found.items()}))
    assert {name: FeatureProfile.from_dict(one) for name, one in stored.items()} == found


def test_drift_finds_the_column_and_the_bin_that_moved() -> None:
    rng = np.random.default_rng(2)
    make = lambda city, n: pl.DataFrame({"city": rng.choice(city, n), "age": rng.normal(40, 10, n)})  # noqa: E731
    training, now = make(["x", "y", "y", "y"], 5000), make(["x", "x", "x", "new"], 2000)
    profiles = profile(training, categorical=["city"], numeric=["age"])
    first, second = drift(profiles, now)
    assert (first.column, first.level, first.largest) == ("city", "drifted", "y")
    assert first.training == pytest.approx(0.75, abs=0.03)
    assert first.evaluated == 0.0
    assert (second.column, second.level) == ("age", "stable")
    assert second.psi < 2 * second.noise
    assert [one.psi for one in drift(profiles, training)] == pytest.approx([0, 0], abs=1e-12)
    assert [one.column for one in drift(profiles, now.drop("city"))] == ["age"]


def test_ids_are_the_same_as_numbers_text_or_truth() -> None:
    profiles = profile(pl.DataFrame({"a": [1, 1, 0]}), categorical=["a"])
    for values in (["1", "1", "0"], [True, True, False]):
        assert drift(profiles, pl.DataFrame({"a": values}))[0].psi == 0.0


def test_columns_of_another_type_are_named() -> None:
    with pytest.raises(DataError, match="column 'a': the column is missing"):
        profile(pl.DataFrame({"b": [1]}), numeric=["a"])
    with pytest.raises(DataError, match="column 'b': numbers are needed"):
        profile(pl.DataFrame({"b": ["x"]}), numeric=["b"])
    with pytest.raises(DataError, match="column 'b': every row needs a list"):
        profile(pl.DataFrame({"b": [1]}), lists=["b"])
