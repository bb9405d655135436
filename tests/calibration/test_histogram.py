"""Histogram binning and binned isotonic against NumPy, scikit-learn, and what their bins must hold."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.isotonic
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from ctrkit.calibration import BinnedIsotonic, HistogramBinning, IsotonicRegression
from ctrkit.calibration.binning import bin_rows
from ctrkit.errors import ConfigError
from ctrkit.metrics import log_loss


def draw(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    z = random.normal(-1, 1.5, rows)
    return z, (random.random(rows) < expit(0.7 * z)).astype(float)


def test_bins_hold_equally_many_rows_and_their_shares() -> None:
    z, y = draw(1000)
    fitted = HistogramBinning(bins=8).fit(z, y)
    order = np.argsort(z)
    parts = np.split(order, 8)
    # The shares rise here, so none are pooled: each is its bin's, with one row of the base rate.
    shares = [(y[part].sum() + y.mean()) / (len(part) + 1) for part in parts]
    assert (np.diff(shares) > 0).all()
    assert fitted.probabilities == pytest.approx(shares, rel=1e-12)
    assert fitted.edges == pytest.approx([z[part].max() for part in parts[:-1]])
    for part, share in zip(parts, shares, strict=True):
        assert fitted(z[part]) == pytest.approx(np.full(125, share), rel=1e-12)
    # An edge belongs to the bin below it; beyond the ends the first and the last go on.
    assert fitted(np.nextafter(fitted.edges, 99)) == pytest.approx(shares[1:])
    assert fitted([-99.0, 99.0]) == pytest.approx([shares[0], shares[-1]])


def test_falling_shares_are_pooled_as_scikit_learn_pools() -> None:
    random = np.random.default_rng(1)
    z = random.normal(size=600)
    y = (random.random(600) < 0.3).astype(float)
    fitted = HistogramBinning(bins=20).fit(z, y)
    shares = [(y[part].sum() + y.mean()) / 31 for part in np.split(np.argsort(z), 20)]
    pooled = sklearn.isotonic.IsotonicRegression().fit_transform(np.arange(20), shares)
    assert fitted(z[np.argsort(z)][::30]) == pytest.approx(pooled, rel=1e-12)
    assert fitted(z).mean() == pytest.approx(y.mean(), rel=1e-12)


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=60),
    st.integers(2, 12),
    st.integers(0, 100),
)
def test_every_row_is_in_one_bin(values: list[int], bins: int, seed: int) -> None:
    z = np.array(values, float)
    random = np.random.default_rng(seed)
    y, w = (random.random(len(z)) < 0.5).astype(float), random.integers(1, 4, len(z)).astype(float)
    found = bin_rows(z, y, w, bins)
    count = len(found.mass)
    assert 1 <= count == len(found.edges) + 1 <= bins
    place = np.searchsorted(found.edges, z)
    assert found.mass == pytest.approx(np.bincount(place, w, count))
    assert found.positives == pytest.approx(np.bincount(place, w * y, count))
    assert found.means == pytest.approx(np.bincount(place, w * z, count) / found.mass)
    assert (np.diff(found.means) > 0).all()
    # A bin holds at least its part of the weight up to its edge.
    below = np.cumsum(found.mass)[:-1]
    repeated = np.sort(np.repeat(z, w.astype(int)))
    exact = {repeated[int(np.ceil(k * len(repeated) / bins)) - 1] for k in range(1, bins)} - {z.max()}
    assert set(found.edges) == exact
    assert (below >= len(repeated) / bins - 1e-9).all()


def test_edges_of_many_rows_come_from_a_sample_of_them() -> None:
    z, y = draw(300_000)
    found = bin_rows(z, y, np.ones(300_000), 50)
    assert found.mass.sum() == 300_000
    assert len(found.mass) == 50
    assert found.mass == pytest.approx(np.full(50, 6000), rel=0.15)
    again = bin_rows(z, y, np.ones(300_000), 50)
    assert (again.edges == found.edges).all()


def test_binned_isotonic_is_scikit_learn_on_the_bins() -> None:
    z, y = draw(5000)
    found = bin_rows(z, y, np.ones(5000), 100)
    assert found.mass == pytest.approx(np.full(100, 50))
    places, shares, mass = found.means, found.positives / found.mass, found.mass
    peer = sklearn.isotonic.IsotonicRegression(out_of_bounds="clip").fit(
        np.append(places, [places[0], places[-1]]), np.append(shares, [1.0, 0.0]), np.append(mass, [0.5, 0.5])
    )
    grid = np.linspace(-8, 6, 1000)
    assert BinnedIsotonic(bins=100).fit(z, y)(grid) == pytest.approx(peer.predict(grid), abs=1e-12)


@pytest.mark.slow
def test_binned_isotonic_is_as_good_as_isotonic() -> None:
    z, y = draw(200_000)
    exact, binned = IsotonicRegression().fit(z, y), BinnedIsotonic().fit(z, y)
    assert log_loss(y, binned(z)) == pytest.approx(log_loss(y, exact(z)), abs=1e-4)
    fresh, labels = draw(200_000, seed=1)
    assert log_loss(labels, binned(fresh)) <= log_loss(labels, exact(fresh)) + 2e-5
    assert len(binned.knots) <= 2000
    # With a bin for each distinct logit they are the same.
    rounded = np.round(z[:5000], 1)
    assert BinnedIsotonic(bins=5000).fit(rounded, y[:5000])(z) == pytest.approx(
        IsotonicRegression().fit(rounded, y[:5000])(z), abs=1e-12
    )


@pytest.mark.parametrize("kind", [HistogramBinning, BinnedIsotonic])
def test_one_bin_is_refused(kind) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match="at least 2 bins, and 1 was given"):
        kind(bins=1)
