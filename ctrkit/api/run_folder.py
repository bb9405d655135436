"""The folder that a run leaves behind: one run at a time writes into it, and says when it is complete."""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import yaml

from ctrkit.api.results import Result
from ctrkit.errors import ConfigError, RunError, attempt
from ctrkit.reports.document import to_html
from ctrkit.tables import unwritable, write_json, write_text

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

# Written last: where it is, the run is complete.
MARKER = "metrics.json"
_LOCK = ".lock"


def writes_run(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Decorate a function that writes a run into the folder `out`: it has the folder for itself.

    That the folder can be written is found before the work and not after it.

    Raises:
        ConfigError: `out` is a file. RunError: another run writes into the folder, or it cannot be written.
    """
    parameters = signature(function)

    @wraps(function)
    def writing(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        bound = parameters.bind(*args, **kwargs)
        bound.apply_defaults()
        with _alone(Path(bound.arguments["out"])):
            return function(*args, **kwargs)

    return writing


def begin_run(folder: str | os.PathLike[str]) -> None:
    """Take back that the run in a folder is complete, before anything of a new one is written there."""
    (Path(folder) / MARKER).unlink(missing_ok=True)


def write_run(folder: str | os.PathLike[str], command: str, config: dict[str, Any], result: Result) -> Path:
    """Write what a run leaves: resolved config, figures, `report.html` and, last, `metrics.json`.

    Every file is written atomically. A figure that cannot be drawn is left out, and a warning and the page
    say so: the run is not lost with it.
    """
    home = Path(folder)
    report, told = result.report(), list[str]()
    drawn = [attempt(f"figure '{name}'", draw, told.append) for name, draw in result.figures().items()]
    figures = [figure for figure in drawn if figure is not None]
    for note in told:
        warnings.warn(note, stacklevel=2)
    begin_run(home)
    write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), home / "config.yaml")
    for earlier in (home / "figures").glob("*.svg"):  # of a run into the same folder, which showed more
        earlier.unlink()
    names: dict[str, int] = {}
    for figure in figures:
        names[figure.name] = names.get(figure.name, 0) + 1
        again = f"_{names[figure.name]}" if names[figure.name] > 1 else ""
        write_text(figure.svg, home / "figures" / f"{figure.name}{again}.svg")
    write_text(to_html(replace(report, notes=(*report.notes, *told)), figures), home / "report.html")
    write_json({"command": command, **result.to_dict()}, home / MARKER)
    return home


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is made where it is missing, and left as it was on an error."""
    made = [one for one in (home, *home.parents) if not one.exists()]
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle = _locked(home / _LOCK)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(
            "a run writes a folder, and a file is in its place",
            file=home,
            mend="Give another --out",
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
