"""The journal of a process: entries are written beside the requests, and never hold one up."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar
from uuid import uuid4

import msgspec

from ctrkit.errors import DataError
from ctrkit.serving.feedback.entries import Decision, Entry, Shadow

Read = TypeVar("Read")
DECISIONS, OUTCOMES, SHADOWS = "decisions", "outcomes", "shadows"
ENDING = ".jsonl"


class Journal:
    """Appends entries to files of a folder, one JSON object a line, in a thread of its own.

    Each process writes files of its own, and begins a further one when one is full. Entries wait in a
    bounded queue: while the folder cannot be written, they stay there, and what finds no place is dropped and
    counted.

    Args:
        folder: the folder, which is made when the first entry is written.
        kind: begins the names of the files.
        counted: told of entries: what became of them (`written` or `dropped`), and how many.
        waiting: largest size of the queue in bytes.
        segment: size of a file in bytes after which the next is begun.
        retry: seconds between two attempts to write.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        counted: Callable[[str, int], None] = lambda result, count: None,
        waiting: int = 64 << 20,
        segment: int = 256 << 20,
        retry: float = 1.0,
    ) -> None:
        self.folder, self._kind, self._counted = folder, kind, counted
        self._most, self._segment, self._retry = waiting, segment, retry
        self._queue: deque[bytes] = deque()
        self._size, self._closed = 0, False
        self._changed = threading.Condition()
        self._file: int | None = None
        self._written = 0  # bytes of whole lines in the file
        self._thread = threading.Thread(target=self._work, name=f"journal of {kind}", daemon=True)
        self._thread.start()

    def keep(self, entry: Entry) -> bool:
        """Put an entry into the queue. It never waits and never raises.

        Returns:
            Whether there was a place for it.
        """
        try:
            line = msgspec.json.encode(entry) + b"\n"
        except Exception:
            # Scoring goes on whatever an entry holds.
            self._counted("dropped", 1)
            return False
        with self._changed:
            taken = not self._closed and self._size + len(line) <= self._most
            if taken:
                self._queue.append(line)
                self._size += len(line)
                self._changed.notify()
        if not taken:
            self._counted("dropped", 1)
        return taken

    def close(self) -> None:
        """Write what waits, as far as the folder can be written; the rest is dropped and counted."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                # Closed while it writes, it tries once more.
                lines, last = list(self._queue), self._closed
            written = self._write(lines)
            with self._changed:
                for _ in range(written):
                    self._size -= len(self._queue.popleft())
                ended = last and (written < len(lines) or not self._queue)
                left = len(self._queue)
            if written:
                self._counted("written", written)
            if ended:
                if left:
                    self._counted("dropped", left)
                if self._file is not None:
                    os.close(self._file)
                return
            if written < len(lines):
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, self._retry)

    def _write(self, lines: Sequence[bytes]) -> int:
        """Append lines, and tell how many stand whole in files."""
        done = 0
        try:
            while done < len(lines):
                if self._file is None:
                    self._file = self._opened()
                part, size = done, 0
                while part < len(lines) and self._written + size < self._segment:
                    size += len(lines[part])
                    part += 1
                _write_all(self._file, b"".join(lines[done:part]))
                done, self._written = part, self._written + size
                if self._written >= self._segment:
                    self._end_file()
        except OSError:
            if self._file is not None:
                # Else the reader finds a torn last line, as no file goes on after one.
                with suppress(OSError):
                    os.ftruncate(self._file, self._written)
                self._end_file()
        return done

    def _opened(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{self._kind}-{time.time_ns():020d}-{os.getpid()}-{uuid4().hex[:8]}{ENDING}"
        return os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)

    def _end_file(self) -> None:
        file, self._file, self._written = self._file, None, 0
        if file is not None:
            with suppress(OSError):
                os.close(file)


class Journals:
    """The journal of a process: decisions, what came of them, and what models in the shadow say, apart.

    Args:
        folder: the folder.
        counted: told of entries: what became of them (`written` or `dropped`), and how many.
    """

    def __init__(
        self, folder: Path, counted: Callable[[str, int], None] = lambda result, count: None
    ) -> None:
        self.folder = folder
        self._journals = {kind: Journal(folder, kind, counted) for kind in (DECISIONS, OUTCOMES, SHADOWS)}

    def keep(self, entry: Entry) -> bool:
        """Put an entry into its queue. It never waits and never raises.

        Returns:
            Whether there was a place for it.
        """
        kind = (
            DECISIONS if isinstance(entry, Decision) else SHADOWS if isinstance(entry, Shadow) else OUTCOMES
        )
        return self._journals[kind].keep(entry)

    def close(self) -> None:
        """Write what waits, as far as the folder can be written; the rest is dropped and counted."""
        for one in self._journals.values():
            one.close()


@dataclass
class Reader(Generic[Read]):
    """Reads the files of a journal, also while a server writes there.

    Args:
        folder: the folder.
        kind: `decisions`, `outcomes` or `shadows`.
        entry: what the lines are read as.

    Raises:
        DataError: there is no such folder.

    Attributes:
        files: the files, in the order in which they were begun.
        torn: number of files read so far whose last line is not whole, which was left out.
    """

    folder: Path
    kind: str
    entry: type[Read]
    files: list[Path] = field(init=False)
    torn: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            hint = "Give the folder of `ctrkit serve --journal`"
            raise DataError("no such folder", file=self.folder, hint=hint)
        self.files = sorted(self.folder.glob(f"{self.kind}-*{ENDING}"))
        self._decoder = msgspec.json.Decoder(self.entry)

    def __iter__(self) -> Iterator[Read]:
        """The entries of all files."""
        for file in self.files:
            yield from self.entries(file)

    def entries(self, file: Path) -> Iterator[Read]:
        """The entries of a file, a line each.

        Raises:
            DataError: the file cannot be read, or a whole line is no entry.
        """
        try:
            with file.open("rb") as lines:
                for row, line in enumerate(lines):
                    if not line.endswith(b"\n"):
                        self.torn += 1
                        return
                    try:
                        yield self._decoder.decode(line)
                    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                        hint = "Remove the line, or take the file out of the folder"
                        raise DataError(
                            "the line is no entry of a journal", file=file, row=row, hint=hint
                        ) from error
        except OSError as error:
            raise DataError("the file cannot be read", file=file, hint="Check who may read it") from error


def _write_all(file: int, data: bytes) -> None:
    """Write all bytes; the system may take them in parts."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
