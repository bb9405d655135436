"""What the commands of a registry share: how they open one, and what they show of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ctrkit.api.results import Result
from ctrkit.errors import ConfigError
from ctrkit.reports import Report, Table
from ctrkit.serving.registry.registry import Registry
from ctrkit.serving.registry.state import State

# The registry of the working folder.
HERE = "registry"


@dataclass(frozen=True, repr=False)
class RegistryResult(Result):
    """A registry.

    Attributes:
        registry: its address.
        state: what it says.
        done: what the command did, as a sentence.
        version: the version that the command was about; None for none.
    """

    registry: str
    state: State
    done: str
    version: str | None = None

    @property
    def live(self) -> str | None:
        """The version that serves; None before the first promotion."""
        return self.state.live

    def to_dict(self) -> dict[str, Any]:
        return {
            "registry": self.registry,
            "done": self.done,
            "version": self.version,
            "live": self.live,
            "candidates": self.state.candidates,
            "shadow": self.state.shadow,
            "promotions": [one.model_dump() for one in self.state.promotions],
            "versions": [
                {"version": version, "role": self.state.roles.get(version), **known.model_dump()}
                for version, known in self.state.versions.items()
            ],
        }

    def report(self) -> Report:
        state = self.state
        promoted = {one.version: one for one in state.promotions}
        rows = tuple(
            (
                version,
                known.name,
                self._role(version),
                _when(known.time),
                _when(promoted[version].time) if version in promoted else None,
                "; ".join(filter(None, (known.note, promoted[version].note if version in promoted else ""))),
            )
            for version, known in state.versions.items()
        )
        header = ("version", "name", "role", "pushed", "promoted", "note")
        return Report("Registry", self.done, (Table("Versions", header, rows),))

    def _role(self, version: str) -> str:
        role = self.state.roles.get(version, "")
        share = self.state.candidates.get(version)
        return role if share is None else f"{role}, {share:.3g} of users"


def opened(address: str | os.PathLike[str]) -> Registry:
    """The registry at an address.

    Raises:
        ConfigError: there is none, or the address is wrong.
    """
    registry = Registry.at(address)
    if not registry.newest():
        raise ConfigError(
            f"there is no registry at {registry.storage.address}",
            hint="`ctrkit registry push EXPORT` makes one; --registry names another",
        )
    return registry


def _when(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}"
