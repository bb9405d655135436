"""The computing threads of a process, and the bounded queue before them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from ctrkit.serving.http.errors import Refusal

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")
# Work that waits for an idle moment, at most.
_LATER = 8
# Seconds in which a moment without a request is waited for, at most.
_PAUSE = 2.0


class Lane:
    """Computes requests in their turn, so that a process uses so many cores and the event loop stays free.

    Args:
        waiting: number of requests that may wait for their turn.
        seconds: time limit of a request, with its wait.
        threads: number of requests that are computed at once.
    """

    def __init__(self, waiting: int, seconds: float, threads: int = 1) -> None:
        self.seconds, self._most = seconds, waiting + threads
        self.inside = 0
        self._threads = ThreadPoolExecutor(threads, "lane")
        self._later, self._doing_later = deque[Callable[[], None]](), False

    async def run(
        self, work: Callable[Parameters, Returned], *args: Parameters.args, **keywords: Parameters.kwargs
    ) -> Returned:
        """The result of `work`, computed in its turn.

        Raises:
            Refusal: 503, the queue is full or the time is over. What waits is taken from the queue then, and
                what is being computed is computed to its end.
        """
        if self.inside >= self._most:
            raise _busy("too many requests are waiting")
        self.inside += 1
        loop = asyncio.get_running_loop()
        future = self._threads.submit(work, *args, **keywords)
        future.add_done_callback(lambda _: _tell(loop, self._left))
        try:
            async with asyncio.timeout(self.seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise _busy("the time limit of a request is over") from None

    def pause(self) -> None:
        """Wait, in another thread, for a moment in which no request is here; a few seconds at most."""
        end = time.monotonic() + _PAUSE
        while self.inside and time.monotonic() < end:
            time.sleep(0.005)

    def later(self, work: Callable[[], None]) -> bool:
        """Do work in a moment in which no request is here, after the one that is being computed.

        A request that comes then waits for one such piece of work at most.

        Args:
            work: what to do; it raises nothing.

        Returns:
            Whether it will be done; False where too much work waits already.
        """
        if len(self._later) >= _LATER:
            return False
        self._later.append(work)
        return True

    def _left(self) -> None:
        self.inside -= 1
        self._do_later()

    def _do_later(self) -> None:
        if self.inside or self._doing_later or not self._later:
            return
        self._doing_later, loop = True, asyncio.get_running_loop()
        future = self._threads.submit(self._later.popleft())
        future.add_done_callback(lambda _: _tell(loop, self._done_later))

    def _done_later(self) -> None:
        self._doing_later = False
        self._do_later()

    def close(self) -> None:
        """Wait for what is being computed; what waits is not computed any more."""
        self._later.clear()
        self._threads.shutdown(cancel_futures=True)


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Call a function in the event loop, while there is one."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(what)


def _busy(message: str) -> Refusal:
    return Refusal(503, message, hint="Try again later", headers={"Retry-After": "1"})
