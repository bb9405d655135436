"""Landscapes that differ by auction: recovery of known markets, and the gradient of the network."""

from __future__ import annotations

import numpy as np
import pytest

from ctrkit.bidding.landscapes import FeatureLandscape, LogLogistic, LogNormal, SmoothLandscape
from tests.bidding.landscapes.test_landscapes import SMOOTH, feedback, market


@pytest.mark.parametrize("kind", SMOOTH, ids=lambda kind: kind.name)
@pytest.mark.parametrize("what", ["second price", "win notice"])
def test_recovers_a_market_that_depends_on_features(kind: type[SmoothLandscape], what: str) -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(4000, 2)) * [1.0, 20.0]
    location, log_shape = 4 + 0.5 * x[:, 0] - 0.01 * x[:, 1], 0.2 + 0.3 * x[:, 0]
    truth = kind(location, log_shape)
    price, bid = truth.sample(rng, len(x)), rng.lognormal(4, 0.9, len(x))
    bounds = feedback(what, price, bid, rng)
    found = FeatureLandscape.fit(x, bounds, family=kind, shape_by_features=True).at(x)
    both = np.corrcoef(found.location, location)[0, 1], np.corrcoef(found.log_shape, log_shape)[0, 1]
    assert min(both) > 0.98
    assert np.abs(found.win_probability(bid) - truth.win_probability(bid)).mean() < 0.015
    plain = FeatureLandscape.fit(x, bounds, family=kind).at(x)
    assert np.ptp(plain.log_shape) == 0
    assert (
        found.log_likelihood(bounds) > plain.log_likelihood(bounds) > kind.fit(bounds).log_likelihood(bounds)
    )


def test_without_features_that_tell_it_is_the_plain_fit() -> None:
    price, bid = market(LogNormal.of(60, 0.7, 0.15), 800, seed=9, zero_bids=0.2)
    bounds = feedback("second price", price, bid, np.random.default_rng(0))
    plain, same = LogNormal.fit(bounds), FeatureLandscape.fit(np.ones((800, 1)), bounds).at([[1.0]])
    np.testing.assert_allclose(same.win_probability([bid]), plain.win_probability([bid]), atol=1e-6)
    assert same.zero == pytest.approx(plain.zero, rel=1e-4)


def test_hidden_units_learn_what_is_not_linear() -> None:
    rng = np.random.default_rng(10)
    x = rng.uniform(-2, 2, (3000, 1))
    truth = LogNormal(4 + np.abs(x[:, 0]), np.full(len(x), -1.0))
    price, bid = truth.sample(rng, len(x)), rng.lognormal(5, 0.9, len(x))
    bounds = feedback("second price", price, bid, rng)
    linear, net = (FeatureLandscape.fit(x, bounds, hidden_units=units) for units in (0, 6))
    fresh = np.linspace(-2, 2, 81)[:, None]
    miss = [np.abs(one.at(fresh).location - 4 - np.abs(fresh[:, 0])).max() for one in (linear, net)]
    assert miss[0] > 0.8
    assert miss[1] < 0.2


def test_the_gradient_of_the_network() -> None:
    """At the fitted network no coefficient can be moved to more penalised likelihood."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(300, 2))
    truth = LogLogistic(4 + np.sin(2 * x[:, 0]), -1 + 0.3 * x[:, 1])
    bounds = feedback("win notice", truth.sample(rng, 300), rng.lognormal(4, 0.9, 300), rng)
    found = FeatureLandscape.fit(
        x, bounds, family=LogLogistic, hidden_units=2, shape_by_features=True, penalty=2.0
    )

    def score(location: np.ndarray, log_shape: np.ndarray, hidden: np.ndarray) -> float:
        moved = FeatureLandscape(LogLogistic, found.mean, found.scale, location, log_shape, hidden, 0.0)
        squares = (location[1:] ** 2).sum() + (log_shape[1:] ** 2).sum() + (hidden**2).sum()
        return moved.at(x).log_likelihood(bounds) - squares

    parts = [found.location, found.log_shape, found.hidden]
    h = 1e-4
    for k, part in enumerate(parts):
        for place in np.ndindex(part.shape):
            step = np.zeros(part.shape)
            step[place] = h
            ahead, back = (
                score(*(p + s * step if i == k else p for i, p in enumerate(parts))) for s in (1, -1)
            )
            assert abs(ahead - back) / (2 * h) < 0.02
