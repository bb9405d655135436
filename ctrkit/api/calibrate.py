"""`ctrkit calibrate`: fit calibrators on held-out rows, show before and after, store them in the artifact."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit

from ctrkit.api.model import Model, load
from ctrkit.api.results import Result, write_run
from ctrkit.api.train import TrainConfig, read_training_table
from ctrkit.calibration import CalibrationSummary, Choice, assess, choose
from ctrkit.config import Config, load_config
from ctrkit.data.encoder import EncodedTable
from ctrkit.data.split import split_rows
from ctrkit.errors import DataError
from ctrkit.metrics import Reliability, reliability
from ctrkit.reports import Report, Table
from ctrkit.reports.figures import reliability_diagram
from ctrkit.tables import TableLike
from ctrkit.training import predict


class CalibrateConfig(Config):
    """How to calibrate.

    Attributes:
        method: `auto` chooses by cross-validated log loss; else the calibrator of that name.
        bins: of the reliability diagram.
    """

    method: Literal["auto", "identity", "temperature", "platt", "isotonic"] = "auto"
    folds: int = Field(default=5, ge=2)
    bins: int = Field(default=10, ge=2)
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Judgement:
    """How well calibrated some probabilities are: in numbers, and by bins."""

    summary: CalibrationSummary
    diagram: Reliability


@dataclass(frozen=True)
class TaskCalibration:
    """One task's calibration: the choice, and how well it does on rows it was not fitted on."""

    choice: Choice
    before: Judgement
    after: Judgement

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        judged = {"before": self.before.summary.to_dict(), "after": self.after.summary.to_dict()}
        return {**self.choice.to_dict(), **judged}


@dataclass(frozen=True)
class CalibrationResult(Result):
    """Calibration of every task of a model, and where the artifact lies, if it was saved."""

    model: str | None
    tasks: dict[str, TaskCalibration]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        tasks = {task: found.to_dict() for task, found in self.tasks.items()}
        return {"model": self.model, "tasks": tasks, "notes": list(self.notes)}

    def report(self) -> Report:
        return Report(
            "Calibration",
            " ".join(f"{task}: {found.choice.reason}" for task, found in self.tasks.items()),
            tuple(_before_and_after(task, found) for task, found in self.tasks.items()),
            tuple(
                reliability_diagram(f"reliability_{task}", task, found.before.diagram, found.after.diagram)
                for task, found in self.tasks.items()
            ),
            self.notes,
        )


def calibrate(
    model: str | os.PathLike[str] | Model = "model.pt",
    data: TableLike | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    save: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] = "runs/calibrate",
) -> CalibrationResult:
    """Fit one calibrator a task on held-out rows and store them in the artifact.

    On the table that the model was trained on, its validation rows are fitted and its test rows judged; on
    any other table, which is held out as a whole, one part is fitted and the other judged, divided as the
    model's config divides. A task is calibrated on the rows where it can happen: conversions on clicked rows.

    Args:
        model: the path of an artifact, or a model in memory, which is calibrated in place.
        data: a labelled table; by default the one the model was trained on.
        save: where the calibrated artifact goes; by default over the path given as `model`.
        out: the run folder.
    """
    settings = load_config(CalibrateConfig, config, overrides)
    loaded = model if isinstance(model, Model) else load(model)
    target = save or (None if isinstance(model, Model) else model)
    encoded, fitted, judged, notes = _held_out_rows(loaded, data, settings.seed)
    logits, _ = predict(loaded.network, encoded)
    tasks: dict[str, TaskCalibration] = {}
    for index, task in enumerate(loaded.tasks):
        possible = encoded.labels[:, index - 1] == 1 if index else np.ones(len(encoded), dtype=bool)
        fit_rows, judge_rows = fitted[possible[fitted]], judged[possible[judged]]
        tasks[task] = _calibrate_task(task, encoded, logits[:, index], index, fit_rows, judge_rows, settings)
    result = CalibrationResult(os.fspath(target) if target else None, tasks, notes)
    loaded.set_calibrators({task: found.choice.calibrator for task, found in tasks.items()})
    loaded.artifact.metrics["calibrate"] = result.to_dict()["tasks"]
    write_run(out, "calibrate", settings.model_dump(mode="json"), result)
    if target:
        loaded.artifact.save(target)
    return result


def _held_out_rows(
    model: Model, data: TableLike | None, seed: int
) -> tuple[EncodedTable, NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Encoded rows, those to fit on, those to judge on, and what to tell of them."""
    config = TrainConfig.model_validate(model.artifact.config)
    source = data if data is not None else model.artifact.data["file"]
    if source is None:
        raise DataError("the model was trained on a table in memory", mend="Give the labelled table as DATA")
    table, file = read_training_table(config, source)
    encoded = model.encoder.encode(table, file)
    if encoded.fingerprint() == model.artifact.data["fingerprint"]:
        split = split_rows(config.features, config.split, table, config.seed, file)
        note = f"Fitted on {split.valid.size:,} validation rows, judged on {split.test.size:,} test rows."
        return encoded, split.valid, split.test, (note,)
    halves = config.split.model_copy(update={"train": 0.5, "valid": 0.25})
    split = split_rows(config.features, halves, table, seed, file)
    judged = np.concatenate([split.valid, split.test])
    note = (
        f"Not the training table: fitted on {split.train.size:,} rows, judged on the other {judged.size:,}."
    )
    return encoded, split.train, judged, (note,)


def _calibrate_task(
    task: str,
    data: EncodedTable,
    logits: NDArray[np.float64],
    index: int,
    fitted: NDArray[np.int64],
    judged: NDArray[np.int64],
    config: CalibrateConfig,
) -> TaskCalibration:
    """Choose and fit on one set of rows, judge on another."""
    methods = None if config.method == "auto" else (config.method,)
    groups = data.groups[fitted] if data.groups is not None else None
    labels = data.labels[:, index]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        choice = choose(
            logits[fitted],
            labels[fitted],
            methods=methods,
            folds=config.folds,
            seed=config.seed,
            groups=groups,
        )
    for doubt, category in dict.fromkeys((str(warning.message), warning.category) for warning in caught):
        warnings.warn(f"{task}: {doubt}", category, stacklevel=3)
    y = labels[judged]
    if y.min() == y.max():
        only = "positive" if y[0] else "negative"
        raise DataError(
            f"all {y.size:,} rows that would judge the calibration of '{task}' are {only}",
            mend="Give a larger table",
        )
    judged_groups = data.groups[judged] if data.groups is not None else None

    def judge(probabilities: NDArray[np.float64]) -> Judgement:
        summary = assess(y, probabilities, judged_groups, confidence=config.confidence)
        return Judgement(summary, reliability(y, probabilities, bins=config.bins))

    return TaskCalibration(choice, judge(expit(logits[judged])), judge(choice.calibrator(logits[judged])))


def _before_and_after(task: str, found: TaskCalibration) -> Table:
    """Every calibration metric before and after, with its interval where it has one."""
    before, after = found.before.summary.to_dict(), found.after.summary.to_dict()
    rows = []
    for name, value in before.items():
        if isinstance(value, dict):
            rows.append((name, _interval(value), _interval(after[name])))
        else:
            rows.append((name, f"{value:,.5g}", f"{after[name]:,.5g}"))
    return Table(f"{task}: held-out rows, {found.choice.method}", ("metric", "before", "after"), tuple(rows))


def _interval(value: dict[str, float]) -> str:
    return f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
