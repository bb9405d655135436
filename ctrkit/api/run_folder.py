"""The folder that a run leaves behind: one run at a time writes into it, and says when it is complete."""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ctrkit.api.results import Result
from ctrkit.config import Config
from ctrkit.errors import ConfigError, RunError, attempt
from ctrkit.reports.document import to_html
from ctrkit.tables import unwritable, write_json, write_text

# Written last: where it is, the run is complete.
MARKER = "metrics.json"
_LOCK = ".lock"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run under way.

    Attributes:
        home: the folder; None for a run that leaves nothing, and for which nothing is written or drawn.
        command: the name of the run.
    """

    home: Path | None
    command: str

    def begin(self) -> Path | None:
        """Take back that the run in the folder is complete, before anything of this one is written there."""
        if self.home is not None:
            (self.home / MARKER).unlink(missing_ok=True)
        return self.home

    def write(self, settings: Config | Mapping[str, Any], result: Result, **arguments: Any) -> None:
        """Write what a run leaves: resolved config, figures, `report.html` and, last, `metrics.json`.

        Every file is written atomically. A figure that cannot be drawn is left out, and a warning and the
        page say so: the run is not lost with it.

        Args:
            arguments: what else the run was called with, for the config.
        """
        if self.home is None:
            return
        report, told = result.report(), list[str]()
        drawn = [attempt(f"figure '{name}'", draw, told.append) for name, draw in result.figures().items()]
        figures = [figure for figure in drawn if figure is not None]
        for note in told:
            warnings.warn(note, stacklevel=2)
        self.begin()
        known = settings.model_dump(mode="json") if isinstance(settings, Config) else settings
        config = yaml.safe_dump({**arguments, **known}, sort_keys=False, allow_unicode=True)
        write_text(config, self.home / "config.yaml")
        folder = self.home / "figures"
        for earlier in folder.glob("*.svg"):  # of a run into the same folder, which showed more
            earlier.unlink()
        names: dict[str, int] = {}
        for figure in figures:
            names[figure.name] = names.get(figure.name, 0) + 1
            again = f"_{names[figure.name]}" if names[figure.name] > 1 else ""
            write_text(figure.svg, folder / f"{figure.name}{again}.svg")
        page = to_html(replace(report, notes=(*report.notes, *told)), figures)
        write_text(page, self.home / "report.html")
        write_json({"command": self.command, **result.to_dict()}, self.home / MARKER)


@contextmanager
def run_folder(out: str | os.PathLike[str] | None, command: str) -> Iterator[RunFolder]:
    """The folder of a run, which has it for itself; without `out` a run that leaves nothing.

    That the folder can be written is found here, before the work. It is made where it is missing, and left as
    it was where the work fails.

    Raises:
        ConfigError: `out` is a file. RunError: another run writes into the folder, or it cannot be written.
    """
    if out is None:
        yield RunFolder(None, command)
        return
    with _alone(Path(out)):
        yield RunFolder(Path(out), command)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the lock of a run folder; a folder that is made and stays empty goes again."""
    made = [one for one in (home, *home.parents) if not one.exists()]
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle = _locked(home / _LOCK)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(
            "a run writes a folder, and a file is in its place",
            file=home,
            hint="Give another --out",
        ) from error
    except OSError as error:
        raise unwritable(home, error) from error
    try:
        yield
    finally:
        (home / _LOCK).unlink(missing_ok=True)
        os.close(handle)
        for folder in made:
            try:
                folder.rmdir()
            except OSError:  # something was written
                break


def _locked(path: Path) -> int:
    """The open lock file, with this process's id in it; the lock ends with the process, however it ends."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise RunError(
                f"another run (process {owner}) is writing into {path.parent}. "
                "Wait for it, or give another folder."
            ) from error
        # A run that ended between the two calls has removed the file that was opened.
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
            return handle
        os.close(handle)
