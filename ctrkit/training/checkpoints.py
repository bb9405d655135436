"""Checkpoints: all that a killed run needs to end with the weights it would have had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ctrkit.errors import ArtifactError
from ctrkit.tables import atomic_path


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
    finished: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(path: Path, identity: str, parts: Mapping[str, Stateful], position: Position) -> None:
    """Write the parts of a run, its position and the random state, atomically."""
    with atomic_path(path) as temporary:
        torch.save(
            {
                "identity": identity,
                "parts": {name: part.state_dict() for name, part in parts.items()},
                "random": torch.get_rng_state(),
                "position": vars(position),
            },
            temporary,
        )


def load_checkpoint(path: Path, identity: str, parts: Mapping[str, Stateful]) -> Position | None:
    """Restore a run in place.

    Args:
        identity: what the run is: a hash of its config and data.

    Returns:
        Where to go on, or None when there is no checkpoint or it is of another run.

    Raises:
        ArtifactError: when the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["identity"] != identity:
            return None
        for name, part in parts.items():
            part.load_state_dict(content["parts"][name])
        torch.set_rng_state(content["random"])
        return Position(**content["position"])
    except Exception as error:  # torch raises many kinds, by the damage
        raise ArtifactError(
            "the checkpoint is damaged", file=path, mend="Delete it to start the run afresh"
        ) from error
