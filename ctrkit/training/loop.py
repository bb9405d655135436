"""The training loop: batches, early stopping, best weights kept, a checkpoint to resume from."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ctrkit.arrays import Integers
from ctrkit.config import Config
from ctrkit.data.encoder import EncodedTable
from ctrkit.data.split import Split
from ctrkit.errors import ConfigError, DataError, RunError, TrainingWarning
from ctrkit.metrics import auc
from ctrkit.models import CtrModel
from ctrkit.nn.batches import Batch
from ctrkit.progress import OnStep, silent
from ctrkit.training.balancing import BalancingConfig, FixedConfig, build_balancer
from ctrkit.training.checkpoints import (
    Position,
    Stateful,
    load_checkpoint,
    save_checkpoint,
)
from ctrkit.training.losses import task_losses
from ctrkit.training.monitoring import calibrated_losses
from ctrkit.training.objectives import LossConfig, Objective
from ctrkit.training.optimizers import OptimizerConfig, build_optimizer, clip_gradients
from ctrkit.training.prediction import predict
from ctrkit.training.unknown_ids import id_counts, settle_unknown

# What says only how long to train and how often to save: a run may go on with other values of these.
# Of a teacher counts what it says, not what its file is called.
_NOT_DECIDING: dict[str, Any] = {
    "epochs": True,
    "patience": True,
    "checkpoint_steps": True,
    "loss": {"distillation": {"teacher"}},
}


class TrainingConfig(Config):
    """How to train.

    Attributes:
        epochs: passes over the training rows, at most.
        batch_size: rows a step.
        patience: validations without a better one before training stops.
        validations_per_epoch: ids are often overfitted within one epoch, so look more than once.
        monitor: which validation is the best. Log loss is of all tasks over the entire space, whatever
            training minimises, "calibrated_log_loss" what it would be after Platt scaling, and AUC is that
            of the first task. "auto" is log loss, and calibrated log loss for losses that leave the scale of
            probabilities (`benchmarks/monitor.py`).
        clip_norm: largest norm of the gradient.
        checkpoint_steps: steps between checkpoints; one more follows every validation.
        optimizer: how a gradient changes the weights.
        loss: what is minimised for each task.
        balancing: how the losses of the tasks become one.
    """

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=1024, ge=1)
    patience: int = Field(default=2, ge=1)
    validations_per_epoch: int = Field(default=1, ge=1)
    monitor: Literal["auto", "log_loss", "calibrated_log_loss", "auc"] = "auto"
    clip_norm: float = Field(default=10.0, gt=0.0)
    checkpoint_steps: int = Field(default=50, ge=1)
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    balancing: BalancingConfig = FixedConfig()

    @property
    def chosen_by(self) -> str:
        """What tells the best validation."""
        if self.monitor != "auto":
            return self.monitor
        return "log_loss" if self.loss.keeps_scale else "calibrated_log_loss"


@dataclass(frozen=True)
class TrainingHistory:
    """What a run went through.

    Attributes:
        events: one entry a validation.
        monitor: what chose the best of them.
        resumed: whether it went on from a checkpoint.
        notes: what to tell of it.
    """

    events: list[dict[str, Any]]
    monitor: str
    resumed: bool
    notes: tuple[str, ...] = ()


def fit(
    model: CtrModel,
    data: EncodedTable,
    split: Split,
    config: TrainingConfig,
    *,
    seed: int,
    identity: Mapping[str, Any],
    checkpoint: Path | None = None,
    teacher_logits: NDArray[np.float32] | None = None,
    on_step: OnStep = silent,
) -> TrainingHistory:
    """Train a model in place; it ends with its best weights.

    A run that was killed goes on from `checkpoint` and, on a CPU, ends with the same weights bit for bit:
    the order of the rows follows from the seed and the epoch, and the checkpoint holds the random state
    that dropout draws from. How long to train (`epochs`, `patience`) may change in between. A row of weight
    0 is as if it were not there.

    Args:
        checkpoint: its file; None for none.
        identity: what decides the weights beside all that this function is given, as plain data: the config
            of the model, and versions. A checkpoint of another run is not taken for ours.
        teacher_logits: what a teacher says of all rows of the data, `[n, T]`, each task given the one before
            it; for `config.loss.distillation`.

    Raises:
        ConfigError: the model, the tasks or the data lack what the loss needs.
        DataError: no training or no validation row has a weight.
        RunError: when the loss is not finite before there was a validation to go back to.
    """
    tasks = model.feature_map.tasks
    device = next(model.parameters()).device
    rows, valid = weighted(split.train, data, "training"), weighted(split.valid, data, "validation")
    _check(config, data, valid, teacher_logits)
    objective = Objective(
        config.loss,
        tasks,
        torch.from_numpy(data.labels[rows]),
        torch.from_numpy(data.weight[rows]),
        grouped=data.groups is not None,
        taught=teacher_logits is not None,
        device=device,
    )
    balancer = build_balancer(config.balancing, tasks).to(device)
    optimizer = build_optimizer(model, config.optimizer)
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "balancer": balancer}
    groups = data.groups if objective.compares_groups else None
    deciding = {
        **identity,
        "training": config.model_dump(mode="json", exclude=_NOT_DECIDING),
        "seed": seed,
        "data": data.fingerprint(),
        "rows": _digest(rows, valid),
        "groups": _digest(groups),
        "teacher": _digest(teacher_logits),
    }
    position, notes = (None, ()) if checkpoint is None else load_checkpoint(checkpoint, deciding, parts)
    resumed = position is not None
    position = position or Position()
    steps = -(-rows.size // config.batch_size)
    validate_at = {
        round(steps * (i + 1) / config.validations_per_epoch) for i in range(config.validations_per_epoch)
    }
    counts = id_counts(model.feature_map, data, rows)
    broken: str | None = None
    while position.epoch < config.epochs and position.waited < config.patience and broken is None:
        order = epoch_order(rows, groups, np.random.default_rng([seed, position.epoch]))
        while position.step < steps:
            chosen = order[position.step * config.batch_size : (position.step + 1) * config.batch_size]
            batch = Batch.of(data, chosen).to(device)
            model.train()
            output = model(batch)
            losses = objective(
                output, batch, _pick(groups, chosen, device), _pick(teacher_logits, chosen, device)
            )
            balancer.observe(losses, output.logits, model)
            loss = balancer(losses)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            clip_gradients(model, config.clip_norm)
            optimizer.step()
            balancer.step()
            value = loss.item()
            position.loss_sum += value
            position.step += 1
            if not math.isfinite(value):
                broken = f"the loss is not finite at step {position.step} of epoch {position.epoch + 1}"
                break
            done = position.epoch * steps + position.step
            on_step(done, config.epochs * steps, f"epoch {position.epoch + 1}, loss {value:.4f}")
            if position.step in validate_at:
                settle_unknown(model, counts)
                if not _validate(model, data, valid, config, position, steps):
                    broken = f"the validation loss is not finite in epoch {position.epoch + 1}"
                    break
            due = position.step in validate_at or position.step % config.checkpoint_steps == 0
            if due and checkpoint is not None:
                save_checkpoint(checkpoint, deciding, parts, position)
            if position.waited >= config.patience:
                break
        position.epoch, position.step, position.loss_sum = position.epoch + 1, 0, 0.0
    if broken is not None:
        notes = (*notes, _stopped(broken, position))
    model.load_state_dict(position.best_weights)
    return TrainingHistory(position.events, config.chosen_by, resumed, notes)


def weighted(rows: Integers, data: EncodedTable, part: str) -> Integers:
    """The rows of a part that count; a batch of others alone would have no mean.

    Raises:
        DataError: none does.
    """
    found = rows[data.weight[rows] > 0.0]
    if not found.size:
        raise DataError(
            f"all {rows.size:,} {part} rows have the weight 0",
            hint="Give other rows under split, or correct the column named by features.weight",
        )
    return found


def _stopped(broken: str, position: Position) -> str:
    """What to tell of a run that cannot go on, where there is something to keep; else an error."""
    hint = "Lower training.optimizer.learning_rate, or look for extreme numbers among the features"
    if not position.best_weights:
        raise RunError(f"{broken}, before there was a validation to go back to. {hint}.")
    note = f"Training stopped early, as {broken}: the weights are the best of before. {hint}."
    warnings.warn(note, TrainingWarning, stacklevel=3)
    return note


def _digest(*arrays: NDArray[Any] | None) -> str | None:
    """A hash of arrays, or None for none."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            return None
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def epoch_order(rows: Integers, groups: Integers | None, rng: np.random.Generator) -> Integers:
    """The rows at random; with groups `[n]`, of all rows of the data, a group's rows follow one another."""
    order = rng.permutation(rows)
    if groups is None:
        return order
    known, group = np.unique(groups[order], return_inverse=True)
    place = rng.permutation(known.size)[group]
    return order[np.argsort(place, kind="stable")]


def _check(
    config: TrainingConfig,
    data: EncodedTable,
    valid: Integers,
    teacher_logits: NDArray[np.float32] | None,
) -> None:
    """Raise on what would only fail in the middle of a run."""
    if teacher_logits is not None and teacher_logits.shape != data.labels.shape:
        raise ConfigError(
            f"the teacher's logits are {teacher_logits.shape}, and rows and tasks are {data.labels.shape}",
            hint="Give a teacher of the same tasks, and its logits of every row",
        )
    clicks = data.labels[valid, 0]
    if config.monitor == "auc" and not 0 < clicks.sum() < clicks.size:
        raise ConfigError(
            "training.monitor is 'auc', but the labels of the validation rows are all alike",
            hint="Choose the validation rows otherwise under split, or monitor 'log_loss'",
        )


def _validate(
    model: CtrModel,
    data: EncodedTable,
    rows: Integers,
    config: TrainingConfig,
    position: Position,
    steps: int,
) -> bool:
    """Measure on the validation rows and keep the best weights; whether the loss is finite."""
    logits, _ = predict(model, data, rows)
    labels = torch.from_numpy(data.labels[rows]).double()
    weight = torch.from_numpy(data.weight[rows]).double()
    loss = float(task_losses(torch.from_numpy(logits), labels, weight).sum())
    if not math.isfinite(loss):
        return False
    event = {
        "epoch": position.epoch + position.step / steps,
        "training_loss": position.loss_sum / position.step,
        "validation_loss": loss,
    }
    clicks = data.labels[rows, 0]
    if 0 < clicks.sum() < clicks.size:
        event["validation_auc"] = auc(clicks, logits[:, 0], weight.numpy())
    position.events.append(event)
    score = loss
    if config.chosen_by == "auc":
        score = -event["validation_auc"]
    elif config.chosen_by == "calibrated_log_loss":
        score = float(calibrated_losses(torch.from_numpy(logits), labels, weight).sum())
        event["calibrated_validation_loss"] = score
    if score < position.best_score:
        position.best_score, position.waited = score, 0
        position.best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    else:
        position.waited += 1
    return True


def _pick(values: NDArray[Any] | None, rows: Integers, device: torch.device) -> Tensor | None:
    """What belongs to the rows, as a tensor."""
    return None if values is None else torch.from_numpy(values[rows]).to(device)
