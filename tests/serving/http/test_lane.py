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


def test_errors_come_through() -> None:
    lane = Lane(waiting=1, seconds=1)

    async def ask() -> None:
        await lane.run(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(ask())
    lane.close()
