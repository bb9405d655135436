"""What is done to a stream does not hang on how it is cut, on who reads it, or on when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest

from ctrkit.bidding import Auctions
from ctrkit.bidding.supply import SHOCKS as KINDS
from ctrkit.bidding.supply import miscalibrated, resampled, shocked, truthful_sight
from ctrkit.bidding.supply.rows import recut
from ctrkit.bidding.supply.shocks import ClickRateShock, PriceShock, TrafficShock, ValueShock

N = 700
SHOCKS = (
    PriceShock(2.0, start=0.3, end=0.6),
    ValueShock(1.5, start=0.2),
    ClickRateShock(1.8, start=0.1, drift=True),
    ClickRateShock(0.5, start="22h", end="3h"),
    TrafficShock(1.7, start=0.25, end=0.75),
    TrafficShock(0.5, start=0.5, end=0.9),
)
CHANGES: dict[str, Callable[[Iterable[Auctions]], Iterator[Auctions]]] = {
    "shocked": partial(shocked, shocks=SHOCKS, auctions=N, seed=4),
    "resampled by user": partial(resampled, seed=4),
    "resampled by auction": partial(resampled, seed=4, by_user=False),
    "miscalibrated": partial(miscalibrated, scale=1.3, shift=-0.2),
    "truthful sight": truthful_sight,
    "one after another": lambda chunks: shocked(resampled(chunks, seed=1), SHOCKS, N),
}
Gathered = Callable[[Iterable[Auctions]], Auctions]
Pieces = Callable[[Auctions, int], list[Auctions]]
Content = Callable[[Auctions], dict[str, object]]


@pytest.mark.parametrize("truth", [True, False], ids=["truth known", "truth unknown"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_cut_does_not_matter(
    full_log: Callable[..., Auctions], without_truth: Callable[[Auctions], Auctions], gathered: Gathered,
    pieces: Pieces, content: Content, change: str, truth: bool,
) -> None:  # fmt: skip
    log = full_log(N) if truth else without_truth(full_log(N))
    before = content(log)
    whole = gathered(CHANGES[change]([log]))
    whole.check()
    for size in (1, 64, 699):
        assert content(gathered(CHANGES[change](pieces(log, size)))) == content(whole)
    assert content(log) == before


@pytest.mark.parametrize("change", ["shocked", "resampled by user", "resampled by auction"])
def test_another_seed_is_other_luck(
    full_log: Callable[..., Auctions], gathered: Gathered, content: Content, change: str
) -> None:
    run = CHANGES[change]
    assert isinstance(run, partial)
    one, other = (gathered(run([full_log(N)], seed=seed)) for seed in (1, 2))
    assert content(one) != content(other)


@pytest.mark.parametrize("size", [1, 7, 100, 699, 700, 5000])
@pytest.mark.parametrize("cut", [1, 64, 700])
def test_recut_keeps_every_auction(
    full_log: Callable[..., Auctions],
    gathered: Gathered,
    pieces: Pieces,
    content: Content,
    size: int,
    cut: int,
) -> None:
    log = full_log(N)
    chunks = list(recut(iter(pieces(log, cut)), size))
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert content(gathered(chunks)) == content(log)


@pytest.mark.parametrize("name", KINDS)
def test_every_shock_keeps_to_its_time_and_factor(
    full_log: Callable[..., Auctions], gathered: Gathered, pieces: Pieces, content: Content, name: str
) -> None:
    log = full_log(N)
    for idle in (f"{name}:factor=1", f"{name}:factor=2,start=0.9999"):
        assert content(gathered(shocked([log], [idle], N))) == content(log)
    given = {"name": name, "factor": 1.5, "start": 0.4, "drift": True}
    found = content(gathered(shocked([log], [given], N)))
    assert found != content(log)
    assert found == content(gathered(shocked(pieces(log, 64), [KINDS.read(given)], N)))
    before = int(0.4 * N)
    early, late = (gathered(shocked([log], [one], N))[:before] for one in (given, f"{name}:factor=1"))
    assert content(early) == content(late)
