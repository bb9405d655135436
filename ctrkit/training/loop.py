"""The training loop: batches, early stopping, best weights kept, a checkpoint to resume from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn.utils import clip_grad_norm_

from ctrkit.config import Config
from ctrkit.data.encoder import EncodedTable, Rows
from ctrkit.data.split import Split
from ctrkit.errors import RunError
from ctrkit.metrics import auc
from ctrkit.models.base import CtrModel
from ctrkit.training.checkpoints import Position, load_checkpoint, save_checkpoint
from ctrkit.training.losses import task_losses, training_loss

# Called after every step with (steps done, steps in all epochs, what is going on).
OnStep: TypeAlias = Callable[[int, int, str], None]


class TrainingConfig(Config):
    """How to train.

    Attributes:
        patience: validations without a better loss before training stops.
        validations_per_epoch: ids are often overfitted within one epoch, so look more than once.
        clip_norm: largest norm of the gradient.
        detach_branch_weights: see `ctrkit.training.losses.tri_bce`.
        checkpoint_steps: steps between checkpoints; one more follows every validation.
    """

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    patience: int = Field(default=2, ge=1)
    validations_per_epoch: int = Field(default=1, ge=1)
    clip_norm: float = Field(default=10.0, gt=0.0)
    detach_branch_weights: bool = False
    checkpoint_steps: int = Field(default=50, ge=1)


@dataclass(frozen=True)
class History:
    """What a run went through: one entry a validation, and whether it had been resumed."""

    events: list[dict[str, Any]]
    resumed: bool
    best_loss: float


@torch.no_grad()
def predict(
    model: CtrModel, data: EncodedTable, rows: NDArray[np.int64] | None = None, batch_size: int = 4096
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Logits [n, T] and `hidden` [n, D] of the rows given, or of all, in evaluation mode."""
    model.eval()
    chosen = np.arange(len(data)) if rows is None else rows
    device = next(model.parameters()).device
    logits, hidden = [], []
    for start in range(0, chosen.size, batch_size):
        output = model(data.batch(_contiguous(chosen[start : start + batch_size])).to(device))
        logits.append(output.logits.double().cpu().numpy())
        hidden.append(output.hidden.float().cpu().numpy())
    return np.concatenate(logits), np.concatenate(hidden)


def fit(
    model: CtrModel,
    data: EncodedTable,
    split: Split,
    config: TrainingConfig,
    *,
    seed: int,
    identity: str,
    checkpoint: Path,
    on_step: OnStep = lambda done, total, what: None,
) -> History:
    """Train a model in place; it ends with its best weights.

    A run that was killed goes on from `checkpoint` and, on a CPU, ends with the same weights bit for bit:
    the order of the rows follows from the seed and the epoch, and the checkpoint holds the random state
    that dropout draws from.

    Args:
        identity: a hash of config and data, so that a checkpoint of another run is not taken for ours.

    Raises:
        RunError: when the loss is no longer finite.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    position = load_checkpoint(checkpoint, identity, model, optimizer)
    resumed = position is not None
    position = position or Position()
    steps = -(-split.train.size // config.batch_size)
    validate_at = {
        round(steps * (i + 1) / config.validations_per_epoch) for i in range(config.validations_per_epoch)
    }
    device = next(model.parameters()).device
    while position.epoch < config.epochs and not position.finished:
        order = np.random.default_rng([seed, position.epoch]).permutation(split.train)
        while position.step < steps:
            rows = order[position.step * config.batch_size : (position.step + 1) * config.batch_size]
            batch = data.batch(rows).to(device)
            model.train()
            output = model(batch)
            loss = training_loss(output, batch.labels, batch.weight, detach=config.detach_branch_weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            position.loss_sum += loss.item()
            position.step += 1
            if not np.isfinite(position.loss_sum):
                raise RunError(f"the loss is not finite at step {position.step} of epoch {position.epoch}")
            done = position.epoch * steps + position.step
            on_step(done, config.epochs * steps, f"epoch {position.epoch + 1}, loss {loss.item():.4f}")
            if position.step in validate_at:
                _validate(model, data, split.valid, config, position, steps)
            if position.step in validate_at or position.step % config.checkpoint_steps == 0:
                save_checkpoint(checkpoint, identity, model, optimizer, position)
            if position.finished:
                break
        position.epoch, position.step, position.loss_sum = position.epoch + 1, 0, 0.0
    model.load_state_dict(position.best_weights)
    return History(position.events, resumed, position.best_loss)


def _validate(
    model: CtrModel,
    data: EncodedTable,
    rows: NDArray[np.int64],
    config: TrainingConfig,
    position: Position,
    steps: int,
) -> None:
    """Measure on the validation rows; keep the best weights, and stop after too long a wait."""
    logits, _ = predict(model, data, rows)
    batch_labels = torch.from_numpy(data.labels[rows]).double()
    weight = torch.from_numpy(data.weight[rows]).double()
    losses = task_losses(torch.from_numpy(logits), batch_labels, weight)
    loss = float(losses.sum())
    event = {
        "epoch": position.epoch + position.step / steps,
        "training_loss": position.loss_sum / position.step,
        "validation_loss": loss,
    }
    clicks = data.labels[rows][:, 0]
    if 0 < clicks.sum() < clicks.size:
        event["validation_auc"] = auc(clicks, logits[:, 0])
    position.events.append(event)
    if loss < position.best_loss:
        position.best_loss, position.waited = loss, 0
        position.best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    else:
        position.waited += 1
        position.finished = position.waited >= config.patience


def _contiguous(rows: NDArray[np.int64]) -> Rows:
    """A run of rows as a slice, which copies nothing."""
    if rows.size and rows[-1] - rows[0] == rows.size - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
