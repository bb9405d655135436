"""What is written down of a landscape gives it back, through bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from ctrkit.bidding.landscapes import (
    LANDSCAPES,
    FeatureLandscape,
    Gamma,
    Landscape,
    LogNormal,
    PriceBounds,
)
from ctrkit.errors import ArtifactError

RNG = np.random.default_rng(0)
PRICE, BID = RNG.lognormal(3, 0.8, 400), RNG.lognormal(3, 0.8, 400)
KNOWN = ("histogram", "log-normal")
BIDS = np.array([0.0, 1.0, 15.0, 60.0, 1e4])


def fitted(kind: str) -> Landscape:
    won = BID >= PRICE
    if kind == "win-notice":
        return LANDSCAPES[kind].fit(PriceBounds.win_notice(BID, won))
    if kind in KNOWN:
        return LANDSCAPES[kind].fit(PriceBounds.observed(np.append(PRICE, 0.0)))
    return LANDSCAPES[kind].fit(PriceBounds.second_price(BID, won, np.where(won, PRICE, 0)))


def written(state: dict[str, Any]) -> dict[str, Any]:
    """Through a file that holds arrays and no objects."""
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    with np.load(file, allow_pickle=False) as read:
        return {name: read[name] if read[name].dtype.kind != "U" else str(read[name]) for name in read}


@pytest.mark.parametrize("kind", LANDSCAPES)
def test_a_landscape_is_read_as_it_was_written(kind: str) -> None:
    landscape = fitted(kind)
    state = written(landscape.state())
    again = LANDSCAPES[str(state["name"])].from_state(state)
    assert type(again) is type(landscape)
    for method in ("win_probability", "expected_payment", "first_price_bid"):
        np.testing.assert_array_equal(getattr(again, method)(BIDS), getattr(landscape, method)(BIDS))
    np.testing.assert_array_equal(again.quantile([0.1, 0.5]), landscape.quantile([0.1, 0.5]))
    for attribute in ("covariance", "variance"):
        np.testing.assert_array_equal(
            getattr(again, attribute, np.nan), getattr(landscape, attribute, np.nan)
        )
    assert written(again.state()).keys() == state.keys()


def test_a_market_that_differs_by_auction_is_read_as_it_was_written() -> None:
    landscape = LogNormal(np.array([1.0, 2.0, 3.0]), 0.1)
    again = LogNormal.from_state(written(landscape.state()))
    assert again.covariance is None
    np.testing.assert_array_equal(again.win_probability(7.0), landscape.win_probability(7.0))


@pytest.mark.parametrize("hidden_units", [0, 2])
def test_a_landscape_of_features_is_read_as_it_was_written(hidden_units: int) -> None:
    features = RNG.normal(size=(400, 2))
    price = PRICE * np.exp(0.3 * features[:, 0])
    landscape = FeatureLandscape.fit(
        features, PriceBounds.observed(price), family=Gamma, hidden_units=hidden_units
    )
    again = FeatureLandscape.from_state(written(landscape.state()))
    np.testing.assert_array_equal(
        again.at(features).win_probability(20.0), landscape.at(features).win_probability(20.0)
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "gamma"}, "'gamma' was read as 'log-normal'"),
        ({"name": None}, "was read as"),
        ({"location": None}, "has no location"),
    ],
)
def test_a_state_that_is_none(changes: dict[str, Any], says: str) -> None:
    state = {**LogNormal.of(3.0, 1.0).state(), **changes}
    with pytest.raises(ArtifactError, match=says):
        LogNormal.from_state({name: value for name, value in state.items() if value is not None})


def test_a_family_that_is_none() -> None:
    state = FeatureLandscape.fit(RNG.normal(size=(400, 1)), PriceBounds.observed(PRICE)).state()
    with pytest.raises(ArtifactError, match="family 'normal'"):
        FeatureLandscape.from_state({**state, "family": "normal"})
