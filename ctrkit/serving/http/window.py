"""Sums over a sliding window of time."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
# The window slides by this part of its length.
_PARTS = 60


class Window(Generic[Key]):
    """Sums of the last seconds by key; safe to use from several threads.

    Args:
        seconds: length of the window.
        clock: gives the time in seconds, and never goes back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._part, self._clock = seconds / _PARTS, clock
        self._parts: deque[tuple[int, Counter[Key]]] = deque()
        self._lock = threading.Lock()

    def add(self, values: Mapping[Key, float]) -> None:
        """Add to the sums."""
        with self._lock:
            now = self._forget()
            if not self._parts or self._parts[-1][0] != now:
                self._parts.append((now, Counter()))
            for key, value in values.items():
                self._parts[-1][1][key] += value  # type: ignore[assignment]  # a Counter of floats

    def sums(self) -> dict[Key, float]:
        """The sums; a key whose values have all left the window has none."""
        with self._lock:
            self._forget()
            total: dict[Key, float] = {}
            for _, part in self._parts:
                for key, value in part.items():
                    total[key] = total.get(key, 0.0) + value
            return total

    def _forget(self) -> int:
        """Leave parts that are over; the number of the part of now."""
        now = int(self._clock() / self._part)
        while self._parts and self._parts[0][0] <= now - _PARTS:
            self._parts.popleft()
        return now
