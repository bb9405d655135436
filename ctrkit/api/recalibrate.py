"""`ctrkit recalibrate`: updates the calibrators of an artifact with new labelled rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.labelled import labelled_rows, need_base_rate, training_overlap
from ctrkit.api.models.model import Model, load
from ctrkit.api.models.task_calibrators import TaskCalibrator
from ctrkit.api.models.task_rows import task_rows
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.calibration import (
    Identity,
    OnlineRecalibration,
    Update,
)
from ctrkit.config import Config, ConfigLike, settings_of
from ctrkit.errors import DataError
from ctrkit.reports import Report, Table
from ctrkit.schema import Column, check_column
from ctrkit.tables import TableLike, check_writable


class RecalibrateConfig(Config):
    """How to recalibrate.

    Attributes:
        half_life: number of later rows after which a row counts half.
        on_worse: an update that is worse on rows it has not seen is dropped (`revert`), or used with a
            warning (`keep`).
    """

    half_life: float = Field(default=100_000.0, gt=0.0)
    on_worse: Literal["revert", "keep"] = "revert"


@dataclass(frozen=True)
class RecalibrationResult(Result):
    """The update of every task's calibrator.

    Attributes:
        model: the path of the updated artifact; None if it was not saved.
        tasks: task -> its update.
        notes: sentences about the rows.
    """

    model: str | None
    tasks: dict[str, Update]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        tasks = {task: update.to_dict() for task, update in self.tasks.items()}
        return {"model": self.model, "tasks": tasks, "notes": list(self.notes)}

    def report(self) -> Report:
        header = ("task", "rows", "positives", "log loss before", "log loss while learning", "outcome")
        rows = tuple(
            (task, one.rows, one.positives, one.before, one.after, one.outcome)
            for task, one in self.tasks.items()
        )
        answer = "\n".join(f"{task}: {update.reason}" for task, update in self.tasks.items())
        return Report("Recalibration", answer, (Table("New rows", header, rows),), self.notes)


@takes_settings(RecalibrateConfig)
def recalibrate(
    model: str | os.PathLike[str] | Model,
    data: TableLike,
    *,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    save: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    **keywords: Any,
) -> RecalibrationResult:
    """Update the calibrator of each task with new labelled rows, and store it in the artifact.

    Each block of rows is scored before the calibrator learns from it. An update comes into use only if its
    log loss is lower on rows that it had not seen; the result says which outcome it was. A task without a
    calibrator starts from the model's own probabilities.

    Args:
        model: the path of an artifact, or a model in memory, which is recalibrated in place.
        data: new labelled rows. If the feature spec names a time column, they are sorted by it.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.
        save: the path of the updated artifact; by default the path given as `model`.
        out: the run folder; None for none.

    Raises:
        DataError: a faulty table, the training table, or no row on which a task could happen.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])  # impressions
        >>> model = ctrkit.train(data=rows[:5_000], network="lr").trained
        >>> result = ctrkit.recalibrate(model, rows[5_000:10_000], half_life=2_000)
        >>> result.tasks["click"].rows
        5000
    """
    settings = settings_of(RecalibrateConfig, config, overrides, keywords)
    with run_folder(out, "recalibrate") as run:
        result = _recalibrated(model, data, settings, save)
        run.write(settings, result)
    return result


def _recalibrated(
    model: str | os.PathLike[str] | Model,
    data: TableLike,
    settings: RecalibrateConfig,
    save: str | os.PathLike[str] | None,
) -> RecalibrationResult:
    loaded = model if isinstance(model, Model) else load(model)
    target = save or (None if isinstance(model, Model) else model)
    if target:
        check_writable(target)
    opened = labelled_rows(loaded, data)
    if opened.split is not None:
        raise DataError(
            "this is the table that the model was trained on",
            file=opened.file,
            hint="Give later rows, or use `ctrkit calibrate`",
        )
    need_base_rate(opened)
    time = loaded.spec.timestamp
    notes = list(opened.remarks)
    order = np.arange(opened.table.height)
    if time is not None and time in opened.table.columns:
        column = Column(time, "time", "the time of the row")
        order = check_column(opened.table[time], column, opened.file).to_numpy().argsort(kind="stable")
    elif time is not None:
        notes.append(f"There is no column '{time}' here: rows are learnt in the order of the table.")
    if (seen := training_overlap(loaded, opened.table, opened.encoded)) is not None:
        order = order[seen.others("recalibration", opened.file)[order]]
        notes.append(seen.left_out)
    logits = loaded.outputs_of(opened.encoded).logits
    updates: dict[str, Update] = {}
    calibrators: dict[str, TaskCalibrator] = {}
    for index, task in enumerate(loaded.tasks):
        held = loaded.calibrators.get(task, TaskCalibrator(Identity()))
        inner = held.of_logits
        online = inner if isinstance(inner, OnlineRecalibration) else OnlineRecalibration(inner)
        online.half_life, online.on_worse = settings.half_life, settings.on_worse
        rows = task_rows(loaded, opened, logits, index, field=held.field, entire_space=held.entire_space)
        new = order[rows.possible[order]]
        if not new.size:
            raise DataError(
                f"there is no row on which '{task}' could happen",
                file=opened.file,
                hint=f"Give more rows: some of weight above 0{', with the task before it' if index else ''}",
            )
        segments = None if rows.segments is None else rows.segments[new]
        updates[task] = online.update(rows.logits[new], rows.labels[new], rows.weight[new], segments)
        calibrators[task] = held.holding(online)
    result = RecalibrationResult(os.fspath(target) if target else None, updates, tuple(notes))
    loaded.set_calibrators(calibrators)
    loaded.artifact.metrics["recalibrate"] = result.to_dict()["tasks"]
    if target:
        loaded.artifact.save(target)
    return result
