"""A log that knows every column, and ways to look at streams of auctions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest

from ctrkit.bidding import Auctions

NAMES = tuple(field.name for field in fields(Auctions))
START = 1_709_510_400.0  # a Monday, 00:00 UTC


@pytest.fixture
def full_log() -> Callable[..., Auctions]:
    """A day of auctions with potential clicks, conversions, money, users, slots and the truth."""

    def make(n: int, seed: int = 0, ads: int = 2, days: float = 1.0, users: int = 50) -> Auctions:
        rng = np.random.default_rng(seed)
        truth = rng.beta(2, 8, (n, ads))
        click = (rng.random((n, ads)) < truth).astype(np.float64)
        conversion = click * (rng.random((n, ads)) < 0.4)
        slot_price = -np.sort(-rng.gamma(2, 20, (n, 3)), axis=1)
        return Auctions(
            market_price=slot_price[:, 0],
            click_probability=np.clip(truth * rng.uniform(0.5, 1.5, (n, ads)), 0, 1),
            value_of_click=np.full((n, ads), 6.0),
            hidden=rng.standard_normal((n, ads, 3)),
            timestamp=START + days * 86_400 * (np.arange(n) + 0.5) / n,
            click=click,
            conversion=conversion,
            earned=conversion * rng.gamma(5, 3, (n, ads)),
            true_click_probability=truth,
            true_value=truth * 6.0,
            user=rng.integers(0, users, n),
            slot_price=slot_price,
        )

    return make


@pytest.fixture
def gathered() -> Callable[[Iterable[Auctions]], Auctions]:
    """All chunks as one."""

    def gather(chunks: Iterable[Auctions]) -> Auctions:
        columns = list(zip(*([getattr(chunk, name) for name in NAMES] for chunk in chunks), strict=True))
        return Auctions(*(None if one[0] is None else np.concatenate(one) for one in columns))

    return gather


@pytest.fixture
def pieces() -> Callable[[Auctions, int], list[Auctions]]:
    """A log in chunks of a size, with an empty one among them."""

    def cut(auctions: Auctions, size: int) -> list[Auctions]:
        edges = [0, 0, *range(size, len(auctions), size), len(auctions)]
        return [auctions[a:b] for a, b in pairwise(edges)]

    return cut


@pytest.fixture
def content() -> Callable[[Auctions], dict[str, object]]:
    """The shape and bytes of every column."""

    def of(auctions: Auctions) -> dict[str, object]:
        columns = {name: getattr(auctions, name) for name in NAMES}
        return {name: None if c is None else (c.dtype, c.shape, c.tobytes()) for name, c in columns.items()}

    return of


@pytest.fixture
def without_truth() -> Callable[[Auctions], Auctions]:
    return lambda auctions: replace(auctions, true_click_probability=None, true_value=None)
