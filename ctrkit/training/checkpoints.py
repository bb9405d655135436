"""Checkpoints: all that a killed run needs to end with the weights it would have had."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ctrkit.errors import ArtifactError
from ctrkit.tables import atomic_path


@dataclass
class Position:
    """Where a run stands.

    Attributes:
        epoch, step: the next batch to train on; the order of an epoch's rows follows from seed and epoch.
        best_loss, best_weights: of the best validation so far.
        waited: validations since the best one.
        events: what was measured, one entry a validation.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_loss: float = float("inf")
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    waited: int = 0
    finished: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    path: Path, identity: str, model: nn.Module, optimizer: Optimizer, position: Position
) -> None:
    """Write model, optimizer, position and the random state, atomically."""
    with atomic_path(path) as temporary:
        torch.save(
            {
                "identity": identity,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "position": vars(position),
            },
            temporary,
        )


def load_checkpoint(path: Path, identity: str, model: nn.Module, optimizer: Optimizer) -> Position | None:
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
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["random"])
        return Position(**content["position"])
    except Exception as error:  # torch raises many kinds, by the damage
        raise ArtifactError(
            "the checkpoint is damaged", file=path, mend="Delete it to start the run afresh"
        ) from error
