"""The methods of two artifacts, or of an artifact and a config, trained again with several seeds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrkit.api.models.before_training import Notes
from ctrkit.api.models.labelled import LabelledTable, labelled_rows
from ctrkit.api.models.model import Model
from ctrkit.api.models.trained_network import NetworkTraining, teacher_logits
from ctrkit.api.models.training_config import TrainConfig, load_train_config, read_training_table
from ctrkit.api.models.training_rows import TrainingRows, training_rows
from ctrkit.arrays import Floats
from ctrkit.config import Config
from ctrkit.errors import ConfigError, DataError, TrainingWarning
from ctrkit.evaluation.methods import MethodDifference, compare_methods
from ctrkit.progress import OnStep, stage
from ctrkit.tables import TableLike
from ctrkit.training import predict

_HINT = "Give the training table as DATA, or train the artifact again"


@dataclass(frozen=True)
class MethodComparison:
    """Two methods, each trained with the same seeds on the same rows, judged on the same test rows.

    Attributes:
        seeds: the seeds.
        rows: number of test rows.
        tasks: task -> the difference of each metric, on the test rows where the task can happen.
    """

    seeds: tuple[int, ...]
    rows: int
    tasks: dict[str, tuple[MethodDifference, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        tasks = {task: [one.to_dict() for one in found] for task, found in self.tasks.items()}
        return {"seeds": list(self.seeds), "rows": self.rows, "tasks": tasks}


def is_config(against: object) -> bool:
    """Whether the other method is given by a config: a mapping, or a YAML file or the name of one."""
    if isinstance(against, str | os.PathLike):
        return os.fspath(against).endswith((".yaml", ".yml"))
    return isinstance(against, Config | Mapping)


def compare_trainings(
    model: Model,
    other: Model | Config | Mapping[str, Any] | str | os.PathLike[str],
    data: TableLike | None,
    seeds: tuple[int, ...],
    confidence: float,
    on_step: OnStep,
) -> MethodComparison:
    """Train two methods with every seed, and compare them on the test rows.

    A method is a config: features, network and training. The rows are those that the model was trained on,
    in the same split; an early stop uses the validation rows. Networks are judged before calibration.

    Args:
        model: the model whose method is the first.
        other: a model, or a config whose data, split and seed are replaced by those of the first.
        data: the training table; by default the file that the model was trained on.
        seeds: the seeds, at least two.
        confidence: confidence level of the intervals.
        on_step: called with (steps done, number of steps, what is being done).

    Raises:
        ConfigError: a model was imported.
        DataError: the table is not the one that a model was trained on, or the methods have other tasks,
            labels or test rows.
    """
    opened = _training_table(model, data, "the model")
    config = opened.config
    if isinstance(other, Model):
        beside = _training_table(other, data, "the other model")
        second, table, file = beside.config, beside.table, beside.file
    else:
        place = data if data is not None else model.artifact.data["file"]
        shared = {name: getattr(config, name) for name in ("data", "source", "split", "seed")}
        second = load_train_config(other).model_copy(update=shared)
        table, file = read_training_table(second, place)
    with warnings.catch_warnings():
        # What there is to say about the rows was said when the artifact was trained.
        warnings.simplefilter("ignore", TrainingWarning)
        rows = training_rows(config, opened.table, opened.file, Notes())
        others = training_rows(second, table, file, Notes())
        _need_same_rows(rows, others)
        runs = ((config, rows), (second, others))

        def logits(method: int, at: int) -> Floats:
            stages = len(runs) * len(seeds)
            step = stage(on_step, method * len(seeds) + at, stages, f"seed {seeds[at]}")
            return _trained_logits(*runs[method], seeds[at], step)

        first, last = (np.stack([logits(method, at) for at in range(len(seeds))]) for method in (0, 1))
    return MethodComparison(seeds, rows.split.test.size, _by_task(rows, first, last, confidence))


def _training_table(model: Model, data: TableLike | None, what: str) -> LabelledTable:
    """The training table of a model, with its split."""
    if not model.network.trained_here:
        raise ConfigError(
            f"{what} was trained elsewhere and imported, so its method cannot be trained again",
            hint="Leave out the seeds",
        )
    opened = labelled_rows(model, data)
    if opened.split is None:
        raise DataError(
            f"this is not the table that {what} was trained on, or it has changed, so its method cannot be"
            " trained again",
            file=opened.file,
            hint=_HINT,
        )
    return opened


def _need_same_rows(rows: TrainingRows, others: TrainingRows) -> None:
    """Check that two methods have the same tasks, and are trained and judged on the same rows."""
    tasks, second = rows.encoder.spec.tasks, others.encoder.spec.tasks
    if tasks != second:
        raise DataError(
            f"one method predicts {', '.join(tasks)}, and the other {', '.join(second)}",
            hint="Compare methods with the same tasks",
        )
    for part in ("train", "valid", "test"):
        if not np.array_equal(getattr(rows.split, part), getattr(others.split, part)):
            raise DataError(
                f"the two methods have other {part} rows",
                file=others.file,
                hint="Train both on the same table, with the same `split`, `timestamp` and seed",
            )
    test = rows.split.test
    if not np.array_equal(rows.encoded.labels[test], others.encoded.labels[test], equal_nan=True):
        raise DataError("the two methods have other labels", hint="Give both the same `labels`")


def _trained_logits(config: TrainConfig, rows: TrainingRows, seed: int, on_step: OnStep) -> Floats:
    """Logits [N, T] of the N test rows by a network trained with this seed."""
    seeded = config.model_copy(update={"seed": seed})
    run = NetworkTraining(seeded, rows, None, Notes(), on_step, teacher_logits(config, rows))
    network, _ = run.train(run.search())
    return predict(network, rows.encoded, rows.split.test)[0]


def _by_task(
    rows: TrainingRows, first: Floats, second: Floats, confidence: float
) -> dict[str, tuple[MethodDifference, ...]]:
    """The differences of each task, from logits [S, N, T]; a task with one class only is left out."""
    data, test = rows.encoded, rows.split.test
    labels, weight = data.labels[test].astype(np.float64), data.weight[test].astype(np.float64)
    groups = None if data.groups is None else data.groups[test]
    found = {}
    for index, task in enumerate(rows.encoder.spec.tasks):
        possible = (weight > 0) & ~np.isnan(labels[:, index])
        if index:
            possible = possible & (labels[:, index - 1] == 1)
        y = labels[possible, index]
        if 0 < y.sum() < y.size:
            found[task] = compare_methods(
                y,
                first[:, possible, index],
                second[:, possible, index],
                None if groups is None else groups[possible],
                weight[possible],
                confidence,
            )
    return found
