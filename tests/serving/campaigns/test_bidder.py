"""Bids of a server are the simulator's, and no budget is exceeded, whatever comes at once or is lost."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctrkit.bidding import simulate
from ctrkit.bidding.market.auctions import Auctions
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.strategies import STRATEGIES, TickResult, parse_strategy
from ctrkit.bidding.strategies.base import BidStrategy
from ctrkit.errors import ConfigError
from ctrkit.serving.campaigns.address import open_ledger
from ctrkit.serving.campaigns.bidder import (
    BELOW_FLOOR,
    NO_MONEY,
    NO_VALUE,
    NOT_RUNNING,
    PACED,
    UNKNOWN_LEDGER,
    Bidder,
    NoticeError,
)
from ctrkit.serving.campaigns.config import CampaignsConfig
from ctrkit.serving.campaigns.ledger import Auction, Ledger, LedgerError, Transaction
from ctrkit.serving.campaigns.states import packed, unpacked
from tests.online.conftest import free_port, redis_on, redis_server

__all__ = ["redis_server"]
NOON, DAY = 1_772_366_400.0, 86_400.0
TASKS = ("click",)


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'ledger.db'}"
        return
    redis = pytest.importorskip("redis")
    found = request.getfixturevalue("redis_server")
    redis.Redis.from_url(found).flushdb()
    yield found


@pytest.fixture
def ledger(address: str) -> Iterator[Ledger]:
    found = open_ledger(address)
    yield found
    found.close()


def bidder(ledger: Ledger, clock: Clock | None = None, **settings: Any) -> Bidder:
    campaign = {"name": "c", "budget": 10.0, "auctions": 100, "strategy": "truthful", "value_of_click": 1.0}
    config = CampaignsConfig.model_validate({"campaigns": [{**campaign, **settings}]})
    return Bidder(config, ledger, clock or Clock())


def p(*probabilities: float) -> dict[str, Any]:
    return {"click": np.array(probabilities)}


def market(seed: int = 0, auctions: int = 260, ads: int = 3) -> Auctions:
    rng = np.random.default_rng(seed)
    probability = rng.beta(2, 20, (auctions, ads))
    return Auctions(
        market_price=rng.lognormal(-2.5, 0.6, auctions),
        click_probability=probability,
        value_of_click=np.full((auctions, ads), 1.5),
        timestamp=NOON + np.arange(auctions) * 60.0,
    )


LINES = {
    "dual:initial_multiplier=2.0": {},
    "dual": {"tick": 1},
    "pid:initial_multiplier=3.0": {},
    "truthful": {},
    "truthful:value_per_click=0.7": {"max_bid": 0.05},
    "linear:base_bid=0.1,average_ctr=0.1": {},
    "linear:base_bid=5,average_ctr=0.1": {"integer_bids": True},
    "constant:bid_amount=0.04": {},
}


@pytest.mark.parametrize("line", LINES)
def test_bids_are_those_of_the_simulator(line: str, tmp_path: Path) -> None:
    auctions, clock, settings = market(), Clock(), {"tick": 20, **LINES[line]}
    tick, budget, limits = settings.pop("tick"), 3.0, settings
    if limits.get("integer_bids"):
        budget = 300.0
        auctions = Auctions(**{**vars(auctions), "market_price": np.ceil(auctions.market_price * 100)})
    terms = CampaignTerms(budget, **limits)
    wanted = simulate(auctions, [line], terms, tick=tick).events
    assert wanted["won"].any()
    ledger = open_ledger(f"sqlite:{tmp_path / 'ledger.db'}")
    ours = bidder(
        ledger, clock, budget=budget, auctions=len(auctions), strategy=line, value_of_click=1.5, tick=tick,
        hold=1e6, **limits,
    )  # fmt: skip
    spent = 0.0
    for place, row in enumerate(wanted.iter_rows(named=True)):
        clock.now = float(auctions.timestamp[place])
        found = ours.bid("c", f"a{place}", {"click": auctions.click_probability[place]}, TASKS)
        assert found.bid == row["bid"], place
        if row["bid"] > 0:
            assert found.candidate == row["ad"]
            ours.settle("c", f"a{place}", won=row["won"], price=row["spend"] if row["won"] else 0.0)
            spent += row["spend"]
    (state,) = ours.state()
    assert state["spent"] == pytest.approx(spent, rel=1e-12)
    assert state["spent"] <= budget
    assert (state["auctions"], state["wins"]) == (len(auctions), wanted["won"].sum())


# They draw from the posterior of a network's last layer, which an exported model does not bring.
DRAW = {"bootstrapped", "epsilon-greedy", "greedy", "thompson", "ucb"}


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_states_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    if name in DRAW:
        with pytest.raises(ConfigError, match="needs the posterior"):
            bidder(open_ledger(f"sqlite:{tmp_path / 'ledger.db'}"), strategy=name)
        return
    required = {"constant": "bid_amount=1", "linear": "base_bid=1,average_ctr=0.1"}
    strategy: BidStrategy[Any] = parse_strategy(f"{name}:{required[name]}" if name in required else name)
    slots, rng = market().slots[:40], np.random.default_rng(0)
    state = strategy.start(5.0, 100)
    for _ in range(3):
        bids = strategy.bid(state, slots, rng)
        won = bids.amount > 0.05
        state = strategy.update(state, TickResult(slots, bids, won, np.where(won, 0.05, 0.0)))
        again = unpacked(packed(state))
        assert repr(again) == repr(state)
        other = strategy.bid(again, slots, np.random.default_rng(1))
        np.testing.assert_array_equal(
            other.amount, strategy.bid(state, slots, np.random.default_rng(1)).amount
        )


def test_states_of_other_rooms_are_refused() -> None:
    with pytest.raises(ConfigError, match="a server cannot keep a slice"):
        packed((1.0, slice(1)))
    for wrong in (
        {"class": "os:system", "content": {}},
        {"class": "ctrkit.bidding.strategies:BidStrategy"},
        {},
    ):
        with pytest.raises(ValueError, match="no state"):
            unpacked(wrong)


def test_money_of_open_bids_is_reserved_until_a_notice_or_the_hold(ledger: Ledger) -> None:
    clock = Clock()
    ours = bidder(ledger, clock, budget=1.0, hold=30.0)
    first, second, third = (ours.bid("c", name, p(0.6), TASKS) for name in "abc")
    assert (first.bid, second.bid, third.bid) == (0.6, 0.4, 0.0)
    assert (first.reason, third.reason) == (PACED, NO_MONEY)
    assert ours.settle("c", "a", won=False).spent == 0.0
    assert ours.bid("c", "d", p(0.6), TASKS).bid == 0.6
    assert ours.settle("c", "b", won=True, price=0.25).spent == 0.25
    clock.now += 31.0
    assert ours.bid("c", "e", p(0.9), TASKS).bid == 0.75
    late = ours.settle("c", "d", won=True, price=0.5)
    assert (late.known, late.late, late.spent) == (True, True, 0.75)
    assert ours.state()[0]["reserved"] == pytest.approx(0.75)


def test_a_bid_and_a_notice_may_come_again(ledger: Ledger) -> None:
    ours = bidder(ledger)
    first = ours.bid("c", "a", p(0.2, 0.5, 0.1), TASKS)
    assert (first.bid, first.candidate) == (0.5, 1)
    assert ours.bid("c", "a", p(0.9), TASKS) == first
    assert not ours.settle("c", "a", won=True, price=0.3).repeated
    for _ in range(2):
        again = ours.settle("c", "a", won=True, price=0.3)
        assert (again.repeated, again.spent) == (True, 0.3)
    assert not ours.settle("c", "nobody", won=True, price=0.3).known
    assert ours.state()[0]["wins"] == 1


def test_what_cannot_be_is_refused(ledger: Ledger) -> None:
    ours = bidder(ledger)
    ours.bid("c", "a", p(0.5), TASKS)
    with pytest.raises(NoticeError, match="above the bid"):
        ours.settle("c", "a", won=True, price=0.51)
    assert ours.settle("c", "a", won=True, price=0.5).spent == 0.5
    with pytest.raises(ConfigError, match="no campaign 'd'"):
        ours.bid("d", "a", p(0.5), TASKS)


def test_no_bid_has_a_reason(ledger: Ledger) -> None:
    clock = Clock()
    ours = bidder(ledger, clock, start=NOON, end=NOON + DAY)
    assert ours.bid("c", "a", p(0.0), TASKS).reason == NO_VALUE
    assert ours.bid("c", "b", p(0.5), TASKS, floor=0.6).reason == BELOW_FLOOR
    for moment in (NOON - 1, NOON + DAY):
        clock.now = moment
        assert ours.bid("c", "d", p(0.5), TASKS).reason == NOT_RUNNING


def test_the_budget_is_new_in_each_period_and_late_wins_count_in_their_own(ledger: Ledger) -> None:
    clock = Clock()
    ours = bidder(ledger, clock, budget=1.0, strategy="dual:initial_multiplier=1", hold=1e6)
    assert ours.bid("c", "a", p(0.9), TASKS).bid == pytest.approx(0.9)
    clock.now += DAY
    assert ours.bid("c", "b", p(0.9), TASKS).bid == pytest.approx(0.9)
    assert ours.settle("c", "a", won=True, price=0.8).spent == 0.8
    assert ours.state()[0]["spent"] == 0.0
    clock.now += 3 * DAY
    ours.bid("c", "e", p(0.9), TASKS)
    assert not ours.settle("c", "a", won=True, price=0.8).known


@pytest.mark.parametrize("days", [1, 2, 3, 400])
def test_a_clock_that_jumps_ahead_and_back_gives_no_new_budget(ledger: Ledger, days: int) -> None:
    clock = Clock()
    ours = bidder(ledger, clock, budget=1.0, tick=1)
    ours.bid("c", "a", p(0.6), TASKS)
    ours.settle("c", "a", won=True, price=0.6)
    assert ours.bid("c", "b", p(0.3), TASKS).bid == 0.3  # open while the clock jumps
    clock.now += days * DAY
    assert ours.bid("c", "d", p(0.9), TASKS).bid == 0.9
    clock.now -= days * DAY
    for name in "efg":
        ours.bid("c", name, p(0.6), TASKS)
    (state,) = ours.state()
    assert state["spent"] == 0.6
    assert state["spent"] + state["reserved"] <= 1.0 + 1e-12


def test_auctions_are_forgotten_two_periods_later(ledger: Ledger) -> None:
    clock = Clock()
    ours = bidder(ledger, clock)
    for day in (0, 1, 2, 5):
        clock.now = NOON + day * DAY
        ours.bid("c", f"of day {day}", p(0.5), TASKS)
    now = ours.campaigns["c"].period_at(clock.now)
    assert now is not None
    for day in (0, 1, 2):
        old = now - 5 + day
        assert not ledger.change("c", old, lambda it, old=old: it.between(old, 0, 10))  # type: ignore[misc]
        assert ledger.change("c", old, lambda it, old=old: it.account(old)) is not None  # type: ignore[misc]


def test_an_open_bid_does_not_make_later_ones_read_its_tick_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, read = bidder(ledger, budget=1e6, tick=5, hold=1e6), []
    period = ours.campaigns["c"].period_at(NOON)
    assert period is not None
    kind = type(ledger.change("c", period, lambda it: it))
    between = kind.between

    def counted(self: Transaction, period: int, first: int, end: int) -> Sequence[Auction]:
        read.append(first)
        return between(self, period, first, end)

    monkeypatch.setattr(kind, "between", counted)
    for place in range(30):
        ours.bid("c", str(place), p(0.5), TASKS)
        if place != 12:
            ours.settle("c", str(place), won=False)
    assert max(read) < 10
    assert len(read) == len(set(read))
    ours.settle("c", "12", won=True, price=0.5)
    assert max(read) == 25


def _hammer(address: str, worker: int, requests: int, started: Any) -> None:
    ledger = open_ledger(address)
    ours = bidder(ledger, budget=3.0, hold=1e6)
    started.wait()

    def some(thread: int) -> None:
        for request in range(requests):
            id = f"{worker}-{thread}-{request}"
            bid = ours.bid("c", id, p(0.11), TASKS).bid
            if bid and request % 3:
                ours.settle("c", id, won=request % 3 == 1, price=min(bid, 0.1))

    threads = [threading.Thread(target=some, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.slow
def test_processes_and_threads_together_keep_to_the_budget(address: str) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    workers = [context.Process(target=_hammer, args=(address, worker, 12, started)) for worker in range(2)]
    for worker in workers:
        worker.start()
    started.set()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    ledger = open_ledger(address)
    (state,) = bidder(ledger, budget=3.0).state()
    assert state["auctions"] == 96
    assert 2.5 < state["spent"] + state["reserved"] <= 3.0 + 1e-12
    assert state["wins"] > 5
    ledger.close()


def _spend(address: str, told: Path) -> None:
    ours = bidder(open_ledger(address), budget=1000.0)
    for place in range(100_000):
        ours.bid("c", str(place), p(0.5), TASKS)
        spent = ours.settle("c", str(place), won=True, price=0.25).spent
        told.write_text(str(spent))


@pytest.mark.slow
def test_a_killed_process_loses_no_spend(tmp_path: Path) -> None:
    address, told = f"sqlite:{tmp_path / 'ledger.db'}", tmp_path / "told"
    child = multiprocessing.get_context("spawn").Process(target=_spend, args=(address, told))
    child.start()
    while not told.is_file() or float(told.read_text() or 0.0) < 5.0:
        assert child.is_alive()
        time.sleep(0.005)
    child.kill()
    child.join()
    known = float(told.read_text() or 0.0)
    ledger = open_ledger(address)
    (state,) = bidder(ledger, budget=1000.0).state()
    assert known <= state["spent"] <= known + 0.5
    ledger.close()


def test_without_its_ledger_nothing_is_bid_until_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "away"
    ledger = open_ledger(f"sqlite:{folder / 'ledger.db'}")
    ours = bidder(ledger)
    assert ours.bid("c", "a", p(0.5), TASKS).reason == UNKNOWN_LEDGER
    with pytest.raises(LedgerError):
        ours.settle("c", "a", won=True, price=0.1)
    folder.mkdir()
    assert ours.bid("c", "a", p(0.5), TASKS).bid == 0.5
    ledger.close()


@pytest.mark.slow
def test_redis_may_hang_or_stop_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("redis")
    monkeypatch.setattr("ctrkit.serving.campaigns.redis._REST", 0.3)
    port = free_port()
    ours = bidder(open_ledger(f"redis://127.0.0.1:{port}/0"), budget=1.0)

    def refused() -> float:
        begun = time.monotonic()
        assert ours.bid("c", "x", p(0.6), TASKS).reason == UNKNOWN_LEDGER
        with pytest.raises(LedgerError):
            ours.settle("c", "a", won=True, price=0.6)
        return time.monotonic() - begun

    with redis_on(port, tmp_path, "--appendonly", "yes") as server:
        assert ours.bid("c", "a", p(0.6), TASKS).bid == 0.6
        server.send_signal(signal.SIGSTOP)
        try:
            assert refused() < 2.0
            assert refused() < 0.1  # it is not waited for again at once
        finally:
            server.send_signal(signal.SIGCONT)
        time.sleep(0.35)
        assert ours.settle("c", "a", won=True, price=0.6).spent == 0.6
    refused()
    with redis_on(port, tmp_path, "--appendonly", "yes"):
        time.sleep(0.35)
        assert ours.bid("c", "b", p(0.6), TASKS).bid == pytest.approx(0.4)
        assert ours.settle("c", "a", won=True, price=0.6).repeated
    ours.close()


@pytest.mark.parametrize("wrong", ["", "sqlite:", "redis:", "redis://user:secret@host", "mysql://host"])
def test_addresses_are_checked(wrong: str) -> None:
    with pytest.raises(ConfigError, match="address of the ledger"):
        open_ledger(wrong)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"value_of_click": None}, "either value_of_click or value_of_conversion"),
        ({"value_of_conversion": 2.0}, "either value_of_click or value_of_conversion"),
        ({"end": 0}, "end must be after start"),
        ({"start": "soon"}, "no time"),
        ({"name": "a b"}, "name"),
        ({"budget": 0}, "budget"),
    ],
)
def test_campaigns_are_checked(settings: dict[str, Any], problem: str) -> None:
    campaign = {"name": "c", "budget": 1.0, "auctions": 10, "value_of_click": 1.0, **settings}
    with pytest.raises(Exception, match=problem):
        CampaignsConfig.model_validate({"campaigns": [campaign]})
    one = {"name": "c", "budget": 1.0, "auctions": 10, "value_of_click": 1.0}
    with pytest.raises(Exception, match="two campaigns"):
        CampaignsConfig.model_validate({"campaigns": [one, one]})
