"""The computing thread: order, limits, and what is left when time is over."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ctrkit.serving.http.errors import Refusal
from ctrkit.serving.http.lane import Lane


def test_the_queue_and_the_time_are_limited() -> None:
    lane, gate, done = Lane(waiting=1, seconds=0.2), threading.Event(), list[str]()

    def work(name: str) -> str:
        gate.wait()
        done.append(name)
        return name

    async def ask() -> list[object]:
        asked = [asyncio.create_task(lane.run(work, name)) for name in "abc"]
        results: list[object] = await asyncio.gather(*asked, return_exceptions=True)
        assert lane.inside == 1  # the first is still computed, and the second has left the queue
        gate.set()
        while lane.inside:
            await asyncio.sleep(0.001)
        return [*results, await lane.run(work, "d")]

    first, second, third, fourth = asyncio.run(ask())
    lane.close()
    for refused, said in ((first, "time limit"), (second, "time limit"), (third, "too many")):
        assert isinstance(refused, Refusal)
        assert (refused.status, refused.headers) == (503, {"Retry-After": "1"})
        assert said in refused.message
    assert fourth == "d"
    assert done == ["a", "d"]


def test_two_requests_are_computed_at_once() -> None:
    lane, together = Lane(waiting=0, seconds=5, threads=2), threading.Barrier(2)

    async def ask() -> list[object]:
        asked = [asyncio.create_task(lane.run(together.wait, 5)) for _ in range(3)]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    *done, third = asyncio.run(ask())
    lane.close()
    assert sorted(done) == [0, 1]  # type: ignore[type-var]
    assert isinstance(third, Refusal)


def test_errors_come_through() -> None:
    lane = Lane(waiting=1, seconds=1)

    async def ask() -> None:
        await lane.run(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(ask())
    lane.close()


def test_work_for_later_waits_until_no_request_is_here_and_refuses_none() -> None:
    lane, gate, done = Lane(waiting=0, seconds=5), threading.Event(), list[str]()

    def work(name: str) -> None:
        for place in range(20):
            if name == "a":
                taken.append(lane.later(lambda place=place: rest(place)))  # type: ignore[misc]
        done.append(name)

    def rest(place: int) -> None:
        if place == 0:
            gate.wait()
        done.append(f"later {place}")

    taken: list[bool] = []

    async def ask() -> None:
        await lane.run(work, "a")
        await asyncio.sleep(0.01)
        assert done == ["a"]  # the first piece is being done
        asked = asyncio.create_task(lane.run(work, "b"))
        await asyncio.sleep(0.01)
        gate.set()
        await asked
        assert done[:3] == ["a", "later 0", "b"]
        while len(done) < 10:
            await asyncio.sleep(0.001)

    asyncio.run(ask())
    lane.close()
    assert taken == [True] * 8 + [False] * 12
    assert done[3:] == [f"later {place}" for place in range(1, 8)]


def test_a_pause_ends_when_no_request_is_here_or_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    lane, gate = Lane(waiting=1, seconds=5), threading.Event()

    async def ask() -> None:
        asked = asyncio.create_task(lane.run(gate.wait))
        await asyncio.sleep(0)
        monkeypatch.setattr("ctrkit.serving.http.lane._PAUSE", 0.05)
        await asyncio.to_thread(lane.pause)  # which gives up
        assert lane.inside == 1
        monkeypatch.setattr("ctrkit.serving.http.lane._PAUSE", 5)
        pausing = asyncio.create_task(asyncio.to_thread(lane.pause))
        await asyncio.sleep(0.02)
        assert not pausing.done()
        gate.set()
        await asked
        await pausing
        assert lane.inside == 0

    asyncio.run(ask())
    lane.close()
