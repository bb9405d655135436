"""Checkpoints: all that a killed run needs to end with the weights it would have had."""

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

# Of all that differs between two runs, how much is told.
_TOLD = 3


class Stateful(Protocol):
    """Part of a run that changes with every step: the model, an optimizer, a balancer of tasks."""

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """The inverse of `state_dict`."""
        ...


@dataclass
class Position:
    """Where a run stands.

    Attributes:
        epoch, step: the next batch to train on; the order of an epoch's rows follows from seed and epoch.
        loss_sum: of the steps of this epoch so far.
        best_score, best_weights: of the best validation so far; a lower score is better.
        waited: validations since the best one.
        events: what was measured, one entry a validation.
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

    A checkpoint of another run is moved aside under a name of its own and told of, not lost: when that run
    is started again, it is found under that name and goes on.

    Args:
        identity: all that decides the weights, as plain data.

    Returns:
        Where to go on, or None when there is no checkpoint of this run; and what to tell.

    Raises:
        ArtifactError: when the file is damaged.
    """
    notes: list[str] = []
    mine = json.dumps(identity, sort_keys=True)
    if path.is_file():
        found = str(_read(path)["identity"])
        if found != mine:
            aside = _aside(path, found)
            path.replace(aside)
            notes.append(
                f"{path} was the checkpoint of another run ({_difference(found, mine)}), so this one starts"
                f" afresh. It was moved to {aside.name}: start that run again to go on with it, or delete it."
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
    """The content of a checkpoint, which has at least an identity."""
    try:
        content: dict[str, Any] = read_tensors(path)
        content["identity"]
        return content
    except Exception as error:  # torch raises many kinds, by the damage
        raise _damaged(path) from error


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError("the checkpoint is damaged", file=path, hint="Delete it to start the run afresh")


def _aside(path: Path, identity: str) -> Path:
    """Where the checkpoint of a run waits while another one has its place."""
    return path.with_name(f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}{path.suffix}")


def _difference(theirs: str, ours: str) -> str:
    """In what two runs differ, in words."""
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
    """Nested mappings as one, by dotted path."""
    if not isinstance(content, Mapping) or not content:
        return {path: content}
    inner: dict[str, Any] = {}
    for key, value in content.items():
        inner |= _flat(value, f"{path}.{key}".removeprefix("."))
    return inner
