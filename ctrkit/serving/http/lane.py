"""The computing thread of a process, and the bounded queue before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from ctrkit.serving.http.errors import Refusal

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


class Lane:
    """Computes one request after another, so that a process uses one core and the event loop stays free.

    Args:
        waiting: number of requests that may wait for their turn.
        seconds: time limit of a request, with its wait.
    """

    def __init__(self, waiting: int, seconds: float) -> None:
        self.waiting, self.seconds = waiting, seconds
        self.inside = 0
        self._thread = ThreadPoolExecutor(1, "lane")

    async def run(
        self, work: Callable[Parameters, Returned], *args: Parameters.args, **keywords: Parameters.kwargs
    ) -> Returned:
        """The result of `work`, computed in its turn.

        Raises:
            Refusal: 503, the queue is full or the time is over. What waits is taken from the queue then, and
                what is being computed is computed to its end.
        """
        if self.inside > self.waiting:
            raise _busy("too many requests are waiting")
        self.inside += 1
        loop = asyncio.get_running_loop()
        future = self._thread.submit(work, *args, **keywords)
        future.add_done_callback(lambda done: self._count_out(loop, done))
        try:
            async with asyncio.timeout(self.seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise _busy("the time limit of a request is over") from None

    def _count_out(self, loop: asyncio.AbstractEventLoop, done: Future[Any]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._left)

    def _left(self) -> None:
        self.inside -= 1

    def close(self) -> None:
        """Wait for what is being computed; what waits is not computed any more."""
        self._thread.shutdown(cancel_futures=True)


def _busy(message: str) -> Refusal:
    return Refusal(503, message, hint="Try again later", headers={"Retry-After": "1"})
