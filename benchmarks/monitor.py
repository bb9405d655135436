"""By what to tell the best validation, under losses that leave the scale of probabilities.

    python benchmarks/monitor.py FOLDER [--seeds 5] [--data market movielens trivago]

FOLDER and the data are those of `benchmarks/unknown_ids.py`. A model is trained once under each loss and
measured four times an epoch; every monitor then chooses among the same weights, with the same patience. What
it chose is judged on the test rows: AUC, and log loss after Platt scaling on the validation rows.

- log loss: of the probabilities as they are;
- objective: the loss that training minimises, on the validation rows;
- AUC: of the first task;
- calibrated log loss: after the best a + b · logit on the validation rows themselves.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from unknown_ids import TASKS, Task

from ctrkit.calibration import PlattScaling
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.metrics import auc, log_loss
from ctrkit.models import build_model, model_config
from ctrkit.nn.batches import Batch
from ctrkit.training import TrainingConfig, predict
from ctrkit.training.objectives import LossConfig, Objective
from ctrkit.training.optimizers import build_optimizer, clip_gradients
from ctrkit.training.order import epoch_order

LOSSES: dict[str, dict[str, Any]] = {
    "log loss": {},
    "focal, γ = 2": {"focal_gamma": 2.0},
    "smoothing, 0.1": {"label_smoothing": 0.1},
    "class-balanced, 0.9999": {"class_balanced_beta": 0.9999},
    "bpr, 0.9": {"ranking": {"name": "bpr", "weight": 0.9, "within": "batch"}},
}
MONITORS = ("log loss", "objective", "AUC", "calibrated log loss")
PATIENCE = 4


class Validation(NamedTuple):
    """What every monitor says of one validation, lower is better, and how the weights do on the test rows."""

    scores: tuple[float, ...]
    auc: float
    log_loss: float


def course(
    task: Task, data: EncodedTable, encoder: Encoder, loss: dict[str, Any], seed: int
) -> list[Validation]:
    """All validations of one training."""
    config = TrainingConfig.model_validate({**task.training, "loss": loss})
    rows, weight = task.split, np.ones(len(data))
    torch.manual_seed(seed)
    model = build_model(model_config(task.model), encoder.feature_map())
    model.set_base_rates([float(data.labels[rows.train, 0].mean())])
    objective = Objective(
        LossConfig.model_validate(loss),
        encoder.feature_map().tasks,
        torch.from_numpy(data.labels[rows.train]),
        torch.from_numpy(data.weight[rows.train]),
        grouped=False,
        taught=False,
    )
    optimizer = build_optimizer(model, config.optimizer)
    steps = -(-rows.train.size // config.batch_size)
    at, found = {round(steps * (i + 1) / 4) for i in range(4)}, []
    for epoch in range(2 * config.epochs):
        order = epoch_order(rows.train, None, np.random.default_rng([seed, epoch]))
        for step in range(steps):
            batch = Batch.of(data, order[step * config.batch_size : (step + 1) * config.batch_size])
            model.train()
            value = objective(model(batch), batch).sum()
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            clip_gradients(model, config.clip_norm)
            optimizer.step()
            if step + 1 in at:
                found.append(measured(model, data, rows.valid, rows.test, objective, weight))
    return found


@torch.no_grad()
def measured(
    model: Any,
    data: EncodedTable,
    valid: NDArray[np.int64],
    test: NDArray[np.int64],
    objective: Objective,
    weight: NDArray[np.float64],
) -> Validation:
    """What the monitors say of the weights as they are."""
    y, z = data.labels[valid, 0], predict(model, data, valid).logits
    batch = Batch.of(data, valid)
    of_loss = float(objective(model(batch), batch).sum())
    platt = PlattScaling().fit(z[:, 0], y, weight[valid])
    p = 1.0 / (1.0 + np.exp(-z[:, 0]))
    scores = (log_loss(y, p), of_loss, -auc(y, z[:, 0]), log_loss(y, platt(z[:, 0])))
    told, of_test = data.labels[test, 0], predict(model, data, test).logits
    return Validation(scores, auc(told, of_test[:, 0]), log_loss(told, platt(of_test[:, 0])))


def chosen(validations: list[Validation], monitor: int) -> Validation:
    """The one that training would have kept."""
    best, waited = validations[0], 0
    for one in validations[1:]:
        if one.scores[monitor] < best.scores[monitor]:
            best, waited = one, 0
        else:
            waited += 1
        if waited == PATIENCE:
            break
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description="monitors under losses that leave the scale of probabilities"
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", default=list(TASKS), choices=list(TASKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.data:
        task = TASKS[name](arguments.folder)
        encoder = Encoder.fit(task.spec, task.table[task.split.train])
        data = encoder.encode(task.table)
        shown = Table("loss", "monitor", "AUC", "log loss, calibrated", title=f"{name}: the test rows")
        for loss, settings in LOSSES.items():
            courses = [course(task, data, encoder, settings, seed) for seed in range(arguments.seeds)]
            for number, monitor in enumerate(MONITORS):
                kept = [chosen(one, number) for one in courses]
                area, lost = (np.mean([getattr(k, of) for k in kept]) for of in ("auc", "log_loss"))
                shown.add_row(loss, monitor, f"{area:.4f}", f"{lost:.4f}")
        Console().print(shown)


if __name__ == "__main__":
    main()
