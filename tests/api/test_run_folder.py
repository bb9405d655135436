"""One run at a time writes into a folder; what cannot be written is told first; a marker says complete."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ctrkit
from ctrkit.api.results import Result
from ctrkit.api.run_folder import MARKER, run_folder
from ctrkit.errors import ConfigError, RunError
from ctrkit.reports import Report
from ctrkit.tables import write_text


@dataclass(frozen=True)
class Nothing(Result):
    """A result of no content."""

    def to_dict(self) -> dict[str, Any]:
        return {}

    def report(self) -> Report:
        return Report("Nothing")


def run(out: str | os.PathLike[str] | None = None, fails: bool = False) -> None:
    with run_folder(out, "nothing") as folder:
        if fails:
            raise RunError("it failed")
        folder.write({}, Nothing())


def test_a_run_leaves_no_lock_and_a_failed_one_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="it failed"):
        run(tmp_path / "a" / "b", fails=True)
    assert list(tmp_path.iterdir()) == []
    run(tmp_path / "a" / "b")
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {
        "config.yaml", "report.html", MARKER,
    }  # fmt: skip
    with pytest.raises(RunError, match="it failed"):
        run(tmp_path / "a" / "b", fails=True)
    assert (tmp_path / "a" / "b" / MARKER).exists(), "a run that wrote nothing took the last one's marker"


@contextmanager
def started(program: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said that it is at work, killed in the end."""
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
        process.send_signal(signal.SIGKILL)


HOLDER = """
import sys, time
from ctrkit.api.run_folder import run_folder
with run_folder(sys.argv[1], "nothing"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_runs_in_one_folder_are_told_of_and_a_killed_one_leaves_it_free(tmp_path: Path) -> None:
    with started(HOLDER, tmp_path) as process:
        said = rf"another run \(process {process.pid}\) is writing into {tmp_path}"
        with pytest.raises(RunError, match=said):
            run(tmp_path)
    run(tmp_path)
    assert (tmp_path / MARKER).exists()


def test_two_threads_do_not_share_a_folder(tmp_path: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    def slow(out: Path) -> None:
        with run_folder(out, "nothing"):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=slow, args=(tmp_path,))
    thread.start()
    inside.wait(10)
    with pytest.raises(RunError, match="another run"):
        run(tmp_path)
    leave.set()
    thread.join()
    run(tmp_path)


def test_the_marker_goes_before_anything_new_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    run(tmp_path)

    def no_room(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(RunError, match=r"config\.yaml cannot be written: no space left on device"):
        run(tmp_path)
    assert not (tmp_path / MARKER).exists()
    assert not list(tmp_path.rglob("*.part"))
    with run_folder(tmp_path, "nothing") as folder:
        folder.begin()  # no marker is no error


def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="a run needs a folder, but this is a file"):
        ctrkit.train(out=file, data="is not looked for")
    with pytest.raises(ConfigError, match="a run needs a folder, but this is a file"):
        ctrkit.evaluate(out=file / "below")
    for path, said in (
        (tmp_path, "this is a folder"),
        (file / "model.pt", "a parent of this path, is a file"),
    ):
        with pytest.raises(ConfigError, match=said):
            ctrkit.train(model=path, out=tmp_path / "run", data="is not looked for")
    with pytest.raises(RunError, match="cannot be written"):
        run(Path("/proc/nothing/run"))
    assert file.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_command_that_writes_a_run_has_its_folder_alone(tmp_path: Path) -> None:
    commands = (
        ctrkit.train, ctrkit.calibrate, ctrkit.recalibrate, ctrkit.evaluate, ctrkit.explain,
        ctrkit.evaluate_policy, ctrkit.check_log, ctrkit.learn_policy, ctrkit.plan_budget,
        ctrkit.simulate_bidding,
    )  # fmt: skip
    handle = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    required = {"recalibrate": ("m", "d"), "plan_budget": (1.0,), "simulate_bidding": (None, None, 1.0)}
    for command in commands:
        with pytest.raises(RunError, match="another run"):
            command(*required.get(command.__name__, ()), out=tmp_path)  # type: ignore[operator]
    os.close(handle)


WRITER = """
import sys, time
from ctrkit.tables import atomic_path
with atomic_path(sys.argv[1]) as path:
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_killed_write_leaves_nothing_for_ever(tmp_path: Path) -> None:
    target = tmp_path / "[odd] model.pt"
    with started(WRITER, target):
        write_text("one", target)
        assert len(list(tmp_path.glob(".*.part"))) == 1, "the file of a live write was taken for a leftover"
    write_text("two", target)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_text() == "two"
