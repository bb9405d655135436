"""The training loop: batches, early stopping with the best weights, a checkpoint to resume from."""

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
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.sampling import HardNegativesConfig
from ctrkit.data.split import Split
from ctrkit.errors import ConfigError, DataError, RunError, TrainingWarning
from ctrkit.models import CtrModel
from ctrkit.progress import OnStep, silent
from ctrkit.schema.features import VALUE
from ctrkit.training.averaging import AveragedWeights
from ctrkit.training.balancing import BalancingConfig, FixedConfig, build_balancer
from ctrkit.training.checkpoints import (
    Position,
    Stateful,
    load_checkpoint,
    save_checkpoint,
)
from ctrkit.training.epoch_rows import HardNegatives, epoch_rows
from ctrkit.training.objectives import LossConfig, Objective
from ctrkit.training.optimizers import OptimizerConfig, build_optimizer, clip_gradients
from ctrkit.training.unknown_ids import id_counts
from ctrkit.training.validation import MONITORED, Validation

# Settings that only decide how long to train and how often to save: a run may resume with other values.
# A teacher counts by its logits, not by the name of its file.
_NOT_DECIDING: dict[str, Any] = {
    "epochs": True,
    "patience": True,
    "checkpoint_steps": True,
    "loss": {"distillation": {"teacher"}},
}


class TrainingConfig(Config):
    """How to train.

    Attributes:
        epochs: largest number of passes over the training rows.
        batch_size: number of rows in a step.
        patience: training stops after this number of validations without a better one.
        validations_per_epoch: number of validations in an epoch. The probabilities of one snapshot an epoch
            are noisy, and ids may be overfitted within an epoch.
        monitor: the number that chooses the best validation. "log_loss" is the entire-space log loss of all
            tasks, for any training loss, plus the loss of the value where there is one. "calibrated_log_loss"
            is the same after Platt scaling of the tasks. "auc" is the AUC of the first task. "auto" is log
            loss, or calibrated log loss for losses that change the scale of probabilities
            (`benchmarks/monitor.py`).
        clip_norm: largest norm of the gradient.
        checkpoint_steps: number of steps between checkpoints; every validation also writes one.
        optimizer: the optimizer and its settings.
        loss: the loss of each task.
        balancing: how the losses of the tasks are combined.
        averaging: whether weights are also averaged over the steps (`ctrkit.training.averaging`). The better
            of the two are kept (`ctrkit.training.validation`). This takes one more copy of all weights in
            memory.
        averaging_decay: largest decay of the averages: 0.999 averages over about the last 1,000 steps.
    """

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=1024, ge=1)
    patience: int = Field(default=4, ge=1)
    validations_per_epoch: int = Field(default=4, ge=1)
    monitor: Literal["auto", "log_loss", "calibrated_log_loss", "auc"] = "auto"
    clip_norm: float = Field(default=10.0, gt=0.0)
    checkpoint_steps: int = Field(default=50, ge=1)
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    balancing: BalancingConfig = FixedConfig()
    averaging: bool = True
    averaging_decay: float = Field(default=0.999, gt=0.0, lt=1.0)

    @property
    def chosen_by(self) -> str:
        """The monitor that chooses the best validation, with "auto" resolved."""
        if self.monitor != "auto":
            return self.monitor
        return "log_loss" if self.loss.keeps_scale else "calibrated_log_loss"


@dataclass(frozen=True)
class TrainingHistory:
    """The course of a run.

    Attributes:
        events: measurements, one entry for each validation.
        monitor: the number that chose the best validation.
        resumed: whether the run resumed from a checkpoint.
        notes: notes for the user.
        unit: the key of an event that says how far training was.
    """

    events: list[dict[str, Any]]
    monitor: str
    resumed: bool
    notes: tuple[str, ...] = ()
    unit: Literal["epoch", "trees"] = "epoch"

    @property
    def best(self) -> dict[str, Any]:
        """The event of the weights that were kept."""
        key, sign = MONITORED[self.monitor]
        return min(self.events, key=lambda event: sign * event[key])


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
    validate_first: bool = False,
    hard_negatives: HardNegativesConfig | None = None,
    shares: Mapping[int, float] | None = None,
    on_step: OnStep = silent,
) -> TrainingHistory:
    """Train a model in place. At the end it has its best weights.

    A killed run resumes from `checkpoint` and, on a CPU, ends with the same weights bit for bit: the order of
    the rows depends only on the seed and the epoch, and the checkpoint holds the random state of dropout. The
    length of training (`epochs`, `patience`) may change in between. A row of weight 0 is ignored.

    Args:
        model: the model.
        data: the encoded rows.
        split: which rows are for training and for validation.
        config: how to train.
        seed: random seed.
        identity: all else that determines the weights, as plain data: the config of the model, and versions.
            A checkpoint with another identity belongs to another run.
        checkpoint: path of the checkpoint; None for no checkpoint.
        teacher_logits: a teacher's logits for all rows of the data, `[n, T]`, each task given the task before
            it; for `config.loss.distillation`.
        validate_first: whether the initial weights are validated too, and may be the best. They are if they
            have been fitted.
        hard_negatives: how each epoch draws negatives by their scores; None to read all training rows.
        shares: place of a task -> share of the rows with its label among those that an epoch reads; None to
            read every row once.
        on_step: called after every step.

    Raises:
        ConfigError: the model, the tasks or the data lack something that the loss needs.
        DataError: no training row or no validation row has a positive weight.
        RunError: the loss is not finite before the first validation.
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
    learnt = (*tasks, VALUE) if model.feature_map.value else tasks
    balancer = build_balancer(config.balancing, learnt).to(device)
    optimizer = build_optimizer(model, config.optimizer)
    averages = AveragedWeights(model, config.averaging_decay) if config.averaging else None
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "balancer": balancer}
    if averages is not None:
        parts["averages"] = averages
    groups = data.groups if objective.compares_groups else None
    reading = epoch_rows(data, rows, groups, seed, hard_negatives, shares)
    if isinstance(reading, HardNegatives):
        parts["hard negatives"] = reading
    deciding = {
        **identity,
        "training": config.model_dump(mode="json", exclude=_NOT_DECIDING),
        "seed": seed,
        "data": data.fingerprint(),
        "rows": _digest(rows, valid),
        "groups": _digest(groups),
        "teacher": _digest(teacher_logits),
    }
    if hard_negatives is not None:
        deciding["hard negatives"] = hard_negatives.model_dump(mode="json")
    if shares:
        deciding["shares"] = {str(task): share for task, share in shares.items()}
    position, notes = (None, ()) if checkpoint is None else load_checkpoint(checkpoint, deciding, parts)
    resumed = position is not None
    position = position or Position()
    steps = -(-reading.size // config.batch_size)
    validate_at = {
        round(steps * (i + 1) / config.validations_per_epoch) for i in range(config.validations_per_epoch)
    }
    counts = id_counts(model.feature_map, data, rows)
    validate = Validation(model, averages, data, valid, counts, config.chosen_by)
    broken: str | None = None
    if validate_first and not position.events:
        validate(position, steps)
    while position.epoch < config.epochs and position.waited < config.patience and broken is None:
        order = reading.order(position.epoch, model)
        while position.step < steps:
            chosen = order[position.step * config.batch_size : (position.step + 1) * config.batch_size]
            batch = reading.batch(chosen).to(device)
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
            optimizer.step() if averages is None else averages.step(optimizer)
            balancer.step()
            value = loss.item()
            position.loss_sum += value
            position.step += 1
            if not math.isfinite(value):
                broken = f"the loss is not finite at step {position.step} of epoch {position.epoch + 1}"
                break
            done = position.epoch * steps + position.step
            on_step(done, config.epochs * steps, f"epoch {position.epoch + 1}, loss {value:.4f}")
            if position.step in validate_at and not validate(position, steps):
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
    """The rows of a part with a positive weight. A batch without any would have no mean.

    Raises:
        DataError: there are none.
    """
    found = rows[data.weight[rows] > 0.0]
    if not found.size:
        raise DataError(
            f"all {rows.size:,} {part} rows have the weight 0",
            hint="Choose other rows with `split`, or correct the column that `features.weight` names",
        )
    return found


def _stopped(broken: str, position: Position) -> str:
    """The note of a run that cannot continue, if it has had a validation; otherwise an error."""
    hint = "Lower training.optimizer.learning_rate, or look for extreme numbers among the features"
    if not position.best_weights:
        raise RunError(f"{broken}, before the first validation. {hint}.")
    note = f"Training stopped early, because {broken}. The weights of the best validation are kept. {hint}."
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


def _check(
    config: TrainingConfig,
    data: EncodedTable,
    valid: Integers,
    teacher_logits: NDArray[np.float32] | None,
) -> None:
    """Raise early on faults that would otherwise appear in the middle of a run."""
    if teacher_logits is not None and teacher_logits.shape != data.labels.shape:
        raise ConfigError(
            f"the teacher's logits have the shape {teacher_logits.shape}, but rows and tasks are "
            f"{data.labels.shape}",
            hint="Give a teacher with the same tasks, and its logits of every row",
        )
    clicks = data.labels[valid, 0]
    if config.monitor == "auc" and not 0 < clicks.sum() < clicks.size:
        raise ConfigError(
            "training.monitor is 'auc', but all validation rows have the same label",
            hint="Choose other validation rows with `split`, or set training.monitor to 'log_loss'",
        )


def _pick(values: NDArray[Any] | None, rows: Integers, device: torch.device) -> Tensor | None:
    """The values of the given rows, as a tensor."""
    return None if values is None else torch.from_numpy(values[rows]).to(device)
