"""`ctrkit calibrate`: fits calibrators on held-out rows and stores them in the artifact."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.special import expit

from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.labelled import LabelledTable, columns_of, labelled_rows, seen_in_training
from ctrkit.api.models.model import Model, load
from ctrkit.api.models.task_calibrators import TaskCalibrator
from ctrkit.api.models.task_rows import TaskRows, task_rows
from ctrkit.api.models.value_calibration import ValueCalibration
from ctrkit.api.models.value_rows import ValueRows
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.arrays import Floats, Integers
from ctrkit.calibration import (
    CalibrationSummary,
    CalibrationWarning,
    CalibratorChoice,
    DownsamplingCorrection,
    EntireSpaceCalibration,
    PlattScaling,
    assess,
    choose,
    spoils_pcoc,
)
from ctrkit.config import Config, ConfigLike, settings_of
from ctrkit.data.split import split_rows
from ctrkit.errors import DataError, arguments_named
from ctrkit.metrics import Reliability, pcoc, reliability
from ctrkit.reports import Drawings, Report, Table
from ctrkit.reports.figures import reliability_diagram
from ctrkit.schema.features import VALUE
from ctrkit.tables import TableLike, check_writable


class CalibrateConfig(Config):
    """How to calibrate.

    Attributes:
        method: name of the calibrator; `auto` chooses one by cross-validated log loss.
        field: categorical feature whose values get a correction each; it makes `field-aware` a candidate.
        conversion: rows on which tasks after the first are calibrated: `clicked` rows, or all impressions
            (`entire_space`), for bids that are made before the click.
        kept_negatives: share of the first task's negatives kept for training, for `downsampling`.
        folds: number of folds of the cross-validation.
        bins: number of bins of the reliability diagram.
        confidence: confidence level of all intervals.
        seed: seed of everything random.
    """

    method: str = "auto"
    field: str | None = None
    conversion: Literal["clicked", "entire_space"] = "clicked"
    kept_negatives: float | None = Field(default=None, gt=0.0, le=1.0)
    folds: int = Field(default=5, ge=2)
    bins: int = Field(default=10, ge=2)
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> CalibrateConfig:
        if (self.method == DownsamplingCorrection.name) != (self.kept_negatives is not None):
            raise ValueError("set method 'downsampling' and kept_negatives together, or neither")
        return self


@dataclass(frozen=True)
class Judgement:
    """How well calibrated some probabilities are.

    Attributes:
        summary: calibration metrics.
        diagram: the numbers of the reliability diagram.
    """

    summary: CalibrationSummary
    diagram: Reliability


@dataclass(frozen=True)
class TaskCalibration:
    """The calibration of one task.

    Attributes:
        choice: the calibrator chosen, and why.
        before: calibration before, on rows that the calibrator was not fitted on.
        after: calibration after, on the same rows.
        entire_space: whether the joint probability of the task and all tasks before it is calibrated, on all
            rows.
        doubt: a sentence where the calibrator makes PCOC wrong and Platt scaling does not; otherwise None.
    """

    choice: CalibratorChoice
    before: Judgement
    after: Judgement
    entire_space: bool = False
    doubt: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        judged = {"before": self.before.summary.to_dict(), "after": self.after.summary.to_dict()}
        return {**self.choice.to_dict(), "entire_space": self.entire_space, "doubt": self.doubt, **judged}


@dataclass(frozen=True)
class CalibrationResult(Result):
    """The calibration of every task of a model.

    Attributes:
        model: the path of the calibrated artifact; None if it was not saved.
        tasks: task -> its calibration.
        notes: sentences about the rows.
        value: the calibration of expected values; None where the model predicts none.
    """

    model: str | None
    tasks: dict[str, TaskCalibration]
    notes: tuple[str, ...]
    value: ValueCalibration | None = None

    def to_dict(self) -> dict[str, Any]:
        tasks = {task: found.to_dict() for task, found in self.tasks.items()}
        value = {} if self.value is None else {VALUE: self.value.to_dict()}
        return {"model": self.model, "tasks": tasks, **value, "notes": list(self.notes)}

    def report(self) -> Report:
        reasons = {task: found.choice.reason for task, found in self.tasks.items()}
        tables = [_before_and_after(task, found) for task, found in self.tasks.items()]
        if self.value is not None:
            reasons[VALUE] = self.value.reason
            tables.append(self.value.table())
        answer = "\n".join(f"{name}: {reason}" for name, reason in reasons.items())
        return Report("Calibration", answer, tuple(tables), self.notes)

    def figures(self) -> Drawings:
        return {
            f"reliability_{task}": partial(
                reliability_diagram, f"reliability_{task}", task, found.before.diagram, found.after.diagram
            )
            for task, found in self.tasks.items()
        }


@takes_settings(CalibrateConfig)
def calibrate(
    model: str | os.PathLike[str] | Model = "model.pt",
    data: TableLike | None = None,
    *,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    save: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    **keywords: Any,
) -> CalibrationResult:
    """Fit one calibrator per task on held-out rows and store the calibrators in the artifact.

    With the table that the model was trained on, calibrators are fitted on its validation rows and judged on
    its test rows. Any other table is split as the model's config says: one part for the fit, one to judge.
    A task is calibrated on the rows where it can happen (conversions on clicked rows) or, if the settings say
    so, on all impressions. Expected values are multiplied by one factor, from the converted rows.

    Args:
        model: the path of an artifact, or a model in memory, which is calibrated in place.
        data: a labelled table; by default the table that the model was trained on.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.
        save: the path of the calibrated artifact; by default the path given as `model`.
        out: the run folder; None for none.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])  # impressions
        >>> model = ctrkit.train(data=rows[:5_000], network="lr", training={"epochs": 1}).trained
        >>> result = ctrkit.calibrate(model, rows[5_000:15_000], method="platt")
        >>> result.tasks["click"].choice.method
        'platt'
    """
    settings = settings_of(CalibrateConfig, config, overrides, keywords)
    with run_folder(out, "calibrate") as run:
        result = _calibrated(model, data, settings, save)
        run.write(settings, result)
    return result


def _calibrated(
    model: str | os.PathLike[str] | Model,
    data: TableLike | None,
    settings: CalibrateConfig,
    save: str | os.PathLike[str] | None,
) -> CalibrationResult:
    loaded = model if isinstance(model, Model) else load(model)
    target = save or (None if isinstance(model, Model) else model)
    if target:
        check_writable(target)
    opened = labelled_rows(loaded, data)
    fitted, judged, notes = _divided(loaded, opened, settings.seed)
    fitted, judged = opened.counted(fitted), opened.counted(judged)
    outputs = loaded.outputs_of(opened.encoded)
    tasks: dict[str, TaskCalibration] = {}
    calibrators = dict(loaded.calibrators)
    for index, task in enumerate(loaded.tasks):
        entire = settings.conversion == "entire_space"
        rows = task_rows(loaded, opened, outputs.logits, index, field=settings.field, entire_space=entire)
        columns = {"labels": loaded.spec.labels[task], "segments": settings.field, **columns_of(loaded)}
        try:
            with arguments_named(columns, opened.file):
                tasks[task] = _calibrate_task(task, rows, fitted, judged, settings, first=index == 0)
        except DataError as error:
            if not index:
                raise
            # A later task that cannot be calibrated on these rows does not undo the work on earlier tasks.
            stays = "its calibrator stays as it was" if task in calibrators else "it stays uncalibrated"
            notes += (f"{task}: {stays}, as {error.problem}.",)
            warnings.warn(notes[-1], CalibrationWarning, stacklevel=2)
            continue
        if tasks[task].doubt is not None:
            notes += (f"{task}: {tasks[task].doubt}",)
            warnings.warn(notes[-1], CalibrationWarning, stacklevel=2)
        own = tasks[task].choice.calibrator
        field = settings.field if own.uses_segments else None
        calibrators[task] = TaskCalibrator(EntireSpaceCalibration(own) if rows.joint else own, field)
    value = None
    if (expected := outputs.expected_value) is not None:
        fit, judge = (ValueRows.of(opened.encoded, expected[rows], rows) for rows in (fitted, judged))
        try:
            value = ValueCalibration.of(fit, judge, settings.confidence)
        except DataError as error:
            stays = "stay as they were" if loaded.value_scaling is not None else "stay uncalibrated"
            notes += (f"{VALUE}: expected values {stays}, as {error.problem}.",)
            warnings.warn(notes[-1], CalibrationWarning, stacklevel=2)
    told = (*notes, *opened.remarks)
    result = CalibrationResult(os.fspath(target) if target else None, tasks, told, value)
    loaded.set_calibrators(calibrators, None if value is None else value.scaling)
    loaded.artifact.metrics["calibrate"] = result.to_dict()["tasks"]
    if target:
        loaded.artifact.save(target)
    return result


def _divided(model: Model, opened: LabelledTable, seed: int) -> tuple[Integers, Integers, tuple[str, ...]]:
    """The rows to fit on, the rows to judge on, and notes about them."""
    split = opened.split
    if split is not None:
        note = (
            f"Calibrators were fitted on {split.valid.size:,} validation rows and judged on"
            f" {split.test.size:,} test rows."
        )
        return split.valid, split.test, (note,)
    halves = opened.config.split.model_copy(update={"train": 0.5, "valid": 0.25})
    split = split_rows(opened.config.features, halves, opened.table, seed, opened.file)
    judged = np.concatenate([split.valid, split.test])
    note = (
        f"This is not the training table: calibrators were fitted on {split.train.size:,} of its rows"
        f" and judged on the other {judged.size:,}."
    )
    seen = seen_in_training(model, opened.table, opened.encoded)
    if seen is None:
        return split.train, judged, (note,)
    overlap = (
        f"The model was trained on about {seen:.0%} of these rows. On training rows its probabilities are "
        "too extreme, so do not trust the calibrators or the metrics here. Give rows that it has not seen."
    )
    warnings.warn(overlap, CalibrationWarning, stacklevel=3)
    return split.train, judged, (note, overlap)


def _calibrate_task(
    task: str,
    rows: TaskRows,
    fitted: Integers,
    judged: Integers,
    config: CalibrateConfig,
    *,
    first: bool,
) -> TaskCalibration:
    """Choose and fit on one set of rows, judge on another."""
    fitted, judged = fitted[rows.possible[fitted]], judged[rows.possible[judged]]
    y, w = rows.labels[judged], rows.weight[judged]
    for what, labels in (("fit", rows.labels[fitted]), ("judge", y)):
        _need_both(labels, f"would {what} the calibration of '{task}'")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        choice = _chosen(rows, fitted, config, first=first)
    for doubt, category in dict.fromkeys((str(warning.message), warning.category) for warning in caught):
        warnings.warn(f"{task}: {doubt}", category, stacklevel=3)
    groups = rows.groups[judged] if rows.groups is not None else None
    segments = rows.segments[judged] if rows.segments is not None else None

    def judge(probabilities: Floats) -> Judgement:
        summary = assess(y, probabilities, groups, config.confidence, w)
        return Judgement(summary, reliability(y, probabilities, config.bins, groups=groups, weight=w))

    logits = rows.logits[judged]
    after = choice.calibrator(logits, segments)
    wrong_mean = _doubt(choice, after, rows, fitted, judged)
    return TaskCalibration(choice, judge(expit(logits)), judge(after), rows.joint, wrong_mean)


def _doubt(
    choice: CalibratorChoice, after: Floats, rows: TaskRows, fitted: Integers, judged: Integers
) -> str | None:
    """A sentence where a calibrator that does not set the mean probability makes PCOC wrong on the rows to
    judge, and Platt scaling does not. Where a comparison has kept the model's own probabilities, its reason
    says enough."""
    name = choice.method
    labels, weight = rows.labels[fitted], rows.weight[fitted]
    few = min(labels.sum(), (1 - labels).sum()) < PlattScaling.minimum_positives
    if choice.calibrator.sets_mean or few or (choice.scores and not choice.calibrator.learns):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        platt = PlattScaling().fit(rows.logits[fitted], labels, weight)
    y, logits, w = rows.labels[judged], rows.logits[judged], rows.weight[judged]
    before, found, mended = (pcoc(y, p, w) for p in (expit(logits), after, platt(logits)))
    if not spoils_pcoc(before, found) or spoils_pcoc(found, mended):
        return None
    return (
        f"{name} leaves PCOC at {found:.3g} on held-out rows (before: {before:.3g}), as it cannot set the"
        f" mean probability; Platt scaling gives {mended:.3g}. Use `--method platt`."
    )


def _need_both(labels: Floats, what: str) -> None:
    """Raise a DataError if there are no rows, or rows of one class only."""
    if not labels.size:
        raise DataError(f"there are no rows that {what}", hint="Give a larger table")
    if labels.min() == labels.max():
        only = "positive" if labels[0] else "negative"
        raise DataError(f"all {labels.size:,} rows that {what} are {only}", hint="Give a larger table")


def _chosen(rows: TaskRows, fitted: Integers, config: CalibrateConfig, *, first: bool) -> CalibratorChoice:
    """The calibrator of a task, fitted; down-sampling concerns the first task alone."""
    labels = rows.labels[fitted]
    if config.kept_negatives is not None and first:
        calibrator = DownsamplingCorrection(config.kept_negatives)
        reason = f"Downsampling was requested: training kept {config.kept_negatives:.3g} of the negatives."
        positives = int(labels.sum())
        return CalibratorChoice(calibrator, calibrator.name, reason, (), {}, labels.size, positives, 0, 0)
    automatic = config.method == "auto" or config.kept_negatives is not None
    return choose(
        rows.logits[fitted],
        labels,
        methods=None if automatic else (config.method,),
        folds=config.folds,
        seed=config.seed,
        groups=rows.groups[fitted] if rows.groups is not None else None,
        segments=rows.segments[fitted] if rows.segments is not None else None,
        weight=rows.weight[fitted],
    )


def _before_and_after(task: str, found: TaskCalibration) -> Table:
    """Every calibration metric before and after, with its interval if it has one."""
    before, after = found.before.summary, found.after.summary
    names = [part.name for part in fields(before)]
    rows = tuple((name, getattr(before, name), getattr(after, name)) for name in names)
    where = "held-out rows of the entire space" if found.entire_space else "held-out rows"
    title = f"{task}: calibrator {found.choice.method}, on {where}"
    return Table(title, ("metric", "before", "after"), rows)
