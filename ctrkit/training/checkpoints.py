"""Checkpoints: all that a killed run needs to finish with the same weights as without the stop."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ctrkit.errors import ArtifactError, TrainingWarning
from ctrkit.nn.torch_files import read_tensors, write_tensors

# Number of differences between two runs that a note lists.
_TOLD = 3


class Stateful(Protocol):
    """Part of a run that changes with every step: the model, an optimizer, a balancer of tasks."""

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """Load what `state_dict` gave."""
        ...


@dataclass
class Position:
    """The progress of a run.

    Attributes:
        epoch: epoch of the next batch; the order of an epoch's rows depends only on seed and epoch.
        step: step of the next batch in its epoch.
        loss_sum: sum of the losses of this epoch's steps so far.
        best_score: score of the best validation so far; a lower score is better.
        best_weights: weights at the best validation so far.
        waited: number of validations since the best one.
        events: measurements, one entry for each validation.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_score: float = float("inf")
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    waited: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    path: Path, identity: Mapping[str, Any], parts: Mapping[str, Stateful], position: Position
) -> None:
    """Write the parts of a run, its position and the random state, atomically."""
    write_tensors(
        {
            "identity": json.dumps(identity, sort_keys=True),
            "parts": {name: part.state_dict() for name, part in parts.items()},
            "random": torch.get_rng_state(),
            "position": vars(position),
        },
        path,
    )


def load_checkpoint(
    path: Path, identity: Mapping[str, Any], parts: Mapping[str, Stateful]
) -> tuple[Position | None, tuple[str, ...]]:
    """Restore a run in place.

    A checkpoint of another run is renamed, with a note. When that run is started again, it finds its
    checkpoint under the new name and resumes.

    Args:
        path: the file.
        identity: all that determines the weights, as plain data.
        parts: the parts of the run to restore.

    Returns:
        The position to resume from, or None when this run has no checkpoint; and notes for the user.

    Raises:
        ArtifactError: the file is damaged.
    """
    notes: list[str] = []
    mine = json.dumps(identity, sort_keys=True)
    if path.is_file():
        found = str(_read(path)["identity"])
        if found != mine:
            aside = _aside(path, found)
            path.replace(aside)
            notes.append(
                f"{path} was the checkpoint of another run ({_difference(found, mine)}), so this run starts"
                f" anew. It was renamed {aside.name}: start that run again to resume it, or delete it."
            )
            warnings.warn(notes[0], TrainingWarning, stacklevel=3)
    if not path.is_file() and _aside(path, mine).is_file():
        _aside(path, mine).replace(path)
    if not path.is_file():
        return None, tuple(notes)
    content = _read(path)
    try:
        for name, part in parts.items():
            part.load_state_dict(content["parts"][name])
        torch.set_rng_state(content["random"])
        return Position(**content["position"]), tuple(notes)
    except Exception as error:  # torch raises many kinds, by the damage
        raise _damaged(path) from error


def _read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; it has at least an identity."""
    try:
        content: dict[str, Any] = read_tensors(path)
        content["identity"]
        return content
    except Exception as error:  # torch raises many kinds, by the damage
        raise _damaged(path) from error


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError("the checkpoint is damaged", file=path, hint="Delete it to start the run again")


def _aside(path: Path, identity: str) -> Path:
    """The path of a run's checkpoint while another run uses `path`."""
    return path.with_name(f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}{path.suffix}")


def _difference(theirs: str, ours: str) -> str:
    """The differences between two runs, in words."""
    try:
        other, own = (_flat(json.loads(one)) for one in (theirs, ours))
    except ValueError:
        return "of an earlier version"
    apart = sorted(key for key in other.keys() | own.keys() if other.get(key) != own.get(key))
    told = [_told(key, other.get(key), own.get(key)) for key in apart[:_TOLD]]
    return ", ".join([*told, *([f"and {len(apart) - _TOLD} more"] if len(apart) > _TOLD else [])])


def _told(key: str, other: Any, own: Any) -> str:
    short = all(len(str(value)) <= 24 for value in (other, own))
    return f"{key} was {other} and is {own}" if short else f"other {key}"


def _flat(content: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping, by dotted path."""
    if not isinstance(content, Mapping) or not content:
        return {path: content}
    inner: dict[str, Any] = {}
    for key, value in content.items():
        inner |= _flat(value, f"{path}.{key}".removeprefix("."))
    return inner
