"""Compares predictions with what came of them, while a server runs.

A decision is looked at once, `seconds` after it was made: earlier, clicks would be known and their absence
would not, and the comparison would flatter or scold the model by its haste. What came of a decision may have
been told to another process, so the outcomes of all processes are read from the journal's files.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ctrkit.serving.feedback.entries import Event, Notice
from ctrkit.serving.feedback.journal import ENDING, OUTCOMES

# Bytes of a decision that waits, but for its predictions.
_OVERHEAD = 1000


@dataclass
class _Waiting:
    """A decision whose outcome is not known yet.

    Attributes:
        keys: its names: that of the request, and that of a bid.
        made: when, as the clock tells time.
        version: version of the model.
        predictions: task -> the probabilities of the candidates, [K].
        choice: place of the candidate that was chosen or bid for.
        events: kind of event -> places of candidates.
    """

    keys: tuple[object, ...]
    made: float
    version: str
    predictions: dict[str, NDArray[np.float32]]
    choice: int | None
    events: dict[str, set[int]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Its bytes, about."""
        return _OVERHEAD + sum(one.nbytes for one in self.predictions.values())

    def add(self, kind: str, candidate: int | None) -> None:
        """An event of a candidate; of the chosen one where none is named."""
        place = self.choice if candidate is None else candidate
        if place is not None and place < len(next(iter(self.predictions.values()))):
            self.events.setdefault(kind, set()).add(place)


class Outcomes:
    """Follows the decisions of a process until their outcomes are known.

    Args:
        folder: the journal.
        told: told of each outcome: version of the model, task, its probability, and 1 if it happened, else 0.
        seconds: age at which a decision is looked at.
        most: bytes of the decisions that wait; while there is no room, new ones are not followed, whatever
            becomes of them.
        clock: gives the time in seconds, and never goes back.
    """

    def __init__(
        self,
        folder: Path,
        told: Callable[[str, str, float, float], None],
        seconds: float,
        most: int = 64 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._told, self._seconds = folder, told, seconds
        self._most, self._clock, self._size = most, clock, 0
        self._waiting: deque[_Waiting] = deque()
        self._by_key: dict[object, _Waiting] = {}
        self._lock = threading.Lock()
        self._decoder = msgspec.json.Decoder(Event | Notice)
        # What was told before the first decision is of no interest.
        self._read: dict[Path, int] = {}
        for file in self._files():
            with suppress(OSError):  # it was moved away just now
                self._read[file] = file.stat().st_size

    def follow(
        self,
        request_id: str,
        version: str,
        predictions: Mapping[str, NDArray[np.float64]],
        *,
        choice: int | None = None,
        bid: tuple[str, str] | None = None,
    ) -> bool:
        """Follow a decision.

        Args:
            request_id: the name of the request; of two with one name, the first is followed.
            version: version of the model.
            predictions: task -> the probabilities of the candidates, each given the task before it, [K].
            choice: place of the candidate that was chosen or bid for.
            bid: name of the auction and campaign; the candidate is shown if the bid wins.

        Returns:
            Whether there was room for it.
        """
        keys = (request_id,) if bid is None else (request_id, bid)
        small = {task: values.astype(np.float32) for task, values in predictions.items()}
        one = _Waiting(keys, self._clock(), version, small, choice)
        if bid is None and choice is not None:
            one.add("impression", choice)
        with self._lock:
            if any(key in self._by_key for key in keys):
                return True
            if self._size + one.size > self._most:
                return False
            self._waiting.append(one)
            self._by_key |= dict.fromkeys(keys, one)
            self._size += one.size
        return True

    def look(self) -> None:
        """Read what was told since the last look, and tell the outcomes of decisions that are old enough."""
        lines = [*self._new_lines()]
        with self._lock:
            for line in lines:
                self._take(line)
            while self._waiting and self._waiting[0].made + self._seconds <= self._clock():
                one = self._waiting.popleft()
                self._size -= one.size
                for key in one.keys:
                    del self._by_key[key]
                self._tell(one)

    def _take(self, line: bytes) -> None:
        try:
            entry = self._decoder.decode(line)
        except msgspec.MsgspecError:  # the join tells of it
            return
        if isinstance(entry, Event):
            if (one := self._by_key.get(entry.request_id)) is not None:
                one.add(entry.kind, entry.candidate)
        elif entry.won and (one := self._by_key.get((entry.auction, entry.campaign))) is not None:
            one.add("impression", None)

    def _tell(self, one: _Waiting) -> None:
        """The outcomes of the candidates that were shown; a task is asked where the one before happened."""
        happened = one.events.get("impression", set())
        for task, probabilities in one.predictions.items():
            of_task = one.events.get(task, set())
            for place in sorted(happened):
                self._told(one.version, task, float(probabilities[place]), float(place in of_task))
            happened = happened & of_task

    def _files(self) -> Iterator[Path]:
        return self._folder.glob(f"{OUTCOMES}-*{ENDING}")

    def _new_lines(self) -> Iterator[bytes]:
        """The whole lines that were written since the last time."""
        for file in self._files():
            done = self._read.get(file, 0)
            try:
                with file.open("rb") as opened:
                    opened.seek(done)
                    lines = opened.read().splitlines(keepends=True)
            except OSError:  # it was moved away, or cannot be read now
                continue
            whole = [line for line in lines if line.endswith(b"\n")]
            self._read[file] = done + sum(map(len, whole))
            yield from whole
