"""The journal keeps what it can, and holds nothing up."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ctrkit.errors import DataError
from ctrkit.serving.feedback.entries import Event
from ctrkit.serving.feedback.journal import OUTCOMES, Journal, Reader


def event(place: int, size: int = 1) -> Event:
    return Event(f"e{place:04d}", "r" * size, "click", float(place))


def read(folder: Path) -> tuple[list[Event], int]:
    """The events of a journal, and its torn files."""
    reader = Reader(folder, OUTCOMES, Event)
    return [*reader], reader.torn


def soon(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_entries_are_read_as_they_were_kept_over_many_files(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    journal = Journal(
        tmp_path / "new" / "folder", OUTCOMES, lambda name, one: counts.update({name: one}), segment=500
    )
    entries = [event(place) for place in range(40)]
    assert all(journal.keep(one) for one in entries)
    journal.close()
    assert not journal.keep(event(0))
    assert read(tmp_path / "new" / "folder") == (entries, 0)
    assert counts == {"written": 40, "dropped": 1}
    files = [*(tmp_path / "new" / "folder").iterdir()]
    assert len(files) > 3
    assert max(file.stat().st_size for file in files) < 700


def test_a_folder_that_cannot_be_written_holds_nothing_up(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    (tmp_path / "journal").write_text("a file is in the way")
    journal = Journal(
        tmp_path / "journal", OUTCOMES, lambda name, one: counts.update({name: one}), waiting=1000, retry=0.01
    )
    taken = [one for one in (event(place) for place in range(40)) if journal.keep(one)]
    assert 5 < len(taken) < 40
    assert counts == {"dropped": 40 - len(taken)}
    (tmp_path / "journal").unlink()
    soon(lambda: counts["written"] == len(taken))
    assert journal.keep(event(100))
    journal.close()
    assert read(tmp_path / "journal") == ([*taken, event(100)], 0)


def test_a_disk_that_fills_up_loses_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, full = os.write, [True]

    def short(file: int, data: memoryview) -> int:
        if not full[0]:
            return write(file, data)
        write(file, bytes(data[:20]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ctrkit.serving.feedback.journal.os.write", short)
    journal = Journal(tmp_path, OUTCOMES, retry=0.01)
    journal.keep(event(1))
    soon(lambda: any(tmp_path.iterdir()))
    full[0] = False
    journal.close()
    assert read(tmp_path) == ([event(1)], 0)


def test_a_torn_last_line_is_left_out_and_another_bad_line_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path, OUTCOMES)
    for place in range(3):
        journal.keep(event(place))
    journal.close()
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    assert read(tmp_path) == ([event(0), event(1)], 1)
    file.write_bytes(b"{}\n" + whole)
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert error.value.row == 0
    with pytest.raises(DataError):
        read(tmp_path / "none")
