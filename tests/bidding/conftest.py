"""Simulated markets for the tests of bidding."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy.special import expit

from ctrkit.bidding import Auctions
from ctrkit.policies.laplace import LastLayerPosterior


@pytest.fixture
def market() -> Callable[..., Auctions]:
    """Stationary: click probabilities around 1 %, prices that go with them; amounts are dyadic, so exact."""

    def make(n: int, seed: int = 0, ads: int = 1) -> Auctions:
        rng = np.random.default_rng(seed)
        quality = rng.normal(0, 0.6, (n, ads))
        pctr = np.minimum(np.exp(-4.8 + quality), 1.0)
        price = np.round(np.exp(rng.normal(3.5, 1.0, n) + 0.5 * quality[:, 0]) * 4) / 4
        click = (rng.random((n, 1)) < pctr).astype(np.float64)
        return Auctions(price, pctr, np.ones((n, ads)), click=click, timestamp=np.arange(n, dtype=float))

    return make


@cache
def make_model_market(n: int, seed: int = 0, rows: int = 500) -> tuple[Auctions, LastLayerPosterior]:
    """12 ads, whose model knows the truth up to a draw from its own posterior; arrays that cannot change."""
    rng = np.random.default_rng(seed)
    ads, width = 12, 6
    ad = rng.normal(size=(ads, width))
    hidden = 0.7 * rng.normal(size=(n, 1, width)) + 0.5 * ad * rng.normal(size=(n, ads, width))
    weight, bias = rng.normal(size=width) * 0.4, -4.5
    posterior = LastLayerPosterior.fit(hidden[:rows, 0], weight, bias, prior_precision=5.0)
    drawn = posterior.sample(rng, 1)[0]
    true = expit(hidden @ drawn[:-1] + drawn[-1])
    auctions = Auctions(
        market_price=np.round(rng.lognormal(2, 0.8, n) * 4) / 4,
        click_probability=expit(hidden @ weight + bias),
        value_of_click=np.ones((n, ads)),
        hidden=hidden,
        click=(rng.random((n, 1)) < true).astype(np.float64),
        true_click_probability=true,
    )
    for column in vars(auctions).values():
        if column is not None:
            column.setflags(write=False)
    return auctions, posterior


@pytest.fixture
def model_market() -> Callable[..., tuple[Auctions, LastLayerPosterior]]:
    return make_model_market


@pytest.fixture
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """`rlb` solves tables of fewer states, a hundred times quicker; its own tests solve whole ones."""
    monkeypatch.setattr("ctrkit.bidding.strategies.rlb._MOST_CELLS", 2**15)
