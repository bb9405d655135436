"""A registry: `versions/<version>/` hold exported models, and `states/<number>.json` say which of them serve.

A change reads the newest state, and makes the next one where no other change has made it before; else it
begins again. So no change is lost, whoever makes it, and the states are the history of the registry. Files
of a version come before the state that names it: a push that is killed leaves no version.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from ctrkit.errors import ArtifactError
from ctrkit.serving.bundle import MANIFEST, check_files, read_manifest
from ctrkit.serving.registry.state import State
from ctrkit.serving.registry.storage import Storage, storage_of

_STATES, _VERSIONS = "states", "versions"
_STATE = re.compile(r"(\d{8})\.json")


class Registry:
    """A registry.

    Args:
        storage: where it is.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @classmethod
    def at(cls, address: str | os.PathLike[str]) -> Registry:
        """The registry at an address, which need not hold anything yet.

        Raises:
            ConfigError: the address is wrong, or a package is not installed.
        """
        return cls(storage_of(address))

    def newest(self) -> int:
        """The number of the newest state; 0 where there is none yet.

        Raises:
            StorageError: the registry cannot be read.
        """
        found = (_STATE.fullmatch(name) for name in self.storage.names(_STATES))
        return max((int(one[1]) for one in found if one), default=0)

    def state(self, number: int) -> State:
        """The state of a number; an empty one for 0.

        Raises:
            ArtifactError: it is damaged, or of a newer format.
            StorageError: the registry cannot be read.
        """
        if not number:
            return State()
        path = _path(number)
        try:
            return State.model_validate_json(self.storage.read(path))
        except ValidationError as error:
            raise ArtifactError(
                "the state of the registry is damaged, or of a newer ctrkit",
                file=f"{self.storage.address}/{path}",
                hint="Install a newer ctrkit, or remove the file: then the state before it holds",
            ) from error

    def change(self, work: Callable[[State], State]) -> State:
        """Change the state.

        Args:
            work: from the state to the next; it is called again if another change came before it.

        Returns:
            The new state, or the same one if nothing changes.

        Raises:
            ArtifactError: the state is damaged.
            StorageError: the registry cannot be read or written.
        """
        while True:
            number = self.newest()
            before = self.state(number)
            after = work(before)
            if after is before:
                return after
            if self.storage.create(_path(number + 1), after.model_dump_json(indent=1).encode()):
                return after

    def push(self, export: Path, note: str = "") -> tuple[str, State]:
        """Add an exported model. One that is there stays, and its files are written again.

        Args:
            export: its folder.
            note: what a person says of it.

        Returns:
            Its version, and the new state.

        Raises:
            ArtifactError: the folder is no exported model, is not complete, or is damaged.
            RunError: the registry cannot be written.
        """
        known = read_manifest(export)
        check_files(export, known)
        version = known["version"]
        # The manifest last, as in any export.
        self.storage.upload([export / name for name in (*known["files"], MANIFEST)], f"{_VERSIONS}/{version}")
        return version, self.change(lambda state: state.pushed(version, known["name"], note))

    def export(self, version: str, cache: Path | None = None) -> Path:
        """The folder of a version on this machine.

        Args:
            version: the version.
            cache: where copies of remote ones are kept; None for the user's cache.

        Raises:
            ArtifactError: a file is missing.
            RunError: the registry cannot be read, or the cache cannot be written.
        """
        return self.storage.export(f"{_VERSIONS}/{version}", cache)


def _path(number: int) -> str:
    return f"{_STATES}/{number:08d}.json"


def is_registry(model: str | os.PathLike[str]) -> bool:
    """Whether a model is that of a registry: an address, or a folder with states."""
    return "://" in os.fspath(model) or (Path(model) / _STATES).is_dir()
