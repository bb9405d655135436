"""The folder of a run: one run at a time writes into it, and marks it when it is complete."""

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

# Written last: if it exists, the run is complete.
MARKER = "metrics.json"
_LOCK = ".lock"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run that is in progress.

    Attributes:
        home: the folder; None if the run shall write and draw nothing.
        command: name of the command.
    """

    home: Path | None
    command: str

    def begin(self) -> Path | None:
        """Remove the mark of an earlier complete run, before this run writes anything."""
        if self.home is not None:
            (self.home / MARKER).unlink(missing_ok=True)
        return self.home

    def write(self, settings: Config | Mapping[str, Any], result: Result, **arguments: Any) -> None:
        """Write the resolved config, the figures, `report.html` and, last, `metrics.json`.

        Every file is written atomically. A figure that cannot be drawn is left out; a warning and the page
        say so.

        Args:
            settings: the settings of the run.
            result: the result of the run.
            arguments: other arguments of the run, for `config.yaml`.
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
        for earlier in folder.glob("*.svg"):  # from an earlier run that had more figures
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
    """The folder of a run, locked for this run alone; if `out` is None, the run writes nothing.

    A missing folder is made. That it can be written is checked here, before the work starts. If the work
    fails, the folder is left as it was.

    Raises:
        ConfigError: `out` is a file.
        RunError: another run is writing into the folder, or it cannot be written.
    """
    if out is None:
        yield RunFolder(None, command)
        return
    with _alone(Path(out)):
        yield RunFolder(Path(out), command)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the lock of a run folder; a new folder that stays empty is removed again."""
    made = [one for one in (home, *home.parents) if not one.exists()]
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle = _locked(home / _LOCK)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(
            "a run needs a folder, but this is a file",
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
