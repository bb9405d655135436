"""Calibrators of the tasks of a funnel: chosen and fitted on some rows, judged on others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scipy.special import expit

from ctrkit.api.calibration.result import CalibrateConfig, Judgement, TaskCalibration
from ctrkit.api.models.task_calibrators import TaskCalibrator
from ctrkit.api.models.task_rows import TaskRows
from ctrkit.arrays import Floats, Integers
from ctrkit.calibration import (
    CalibrationWarning,
    CalibratorChoice,
    DownsamplingCorrection,
    EntireSpaceCalibration,
    PlattScaling,
    assess,
    choose,
    spoils_pcoc,
)
from ctrkit.errors import DataError, arguments_named
from ctrkit.metrics import pcoc, reliability


@dataclass(frozen=True)
class CalibratedTasks:
    """The calibration of the tasks of a funnel.

    Attributes:
        tasks: task -> its calibration; a later task that could not be calibrated is left out.
        calibrators: task -> its calibrator, also of tasks whose calibrator stays as it was.
        notes: sentences about the tasks.
    """

    tasks: dict[str, TaskCalibration]
    calibrators: dict[str, TaskCalibrator]
    notes: tuple[str, ...]


def calibrate_tasks(
    labels: Mapping[str, str],
    rows_of: Callable[[int], TaskRows],
    fitted: Integers,
    judged: Integers,
    settings: CalibrateConfig,
    columns: Mapping[str, str | None],
    file: str | None,
    before: Mapping[str, TaskCalibrator],
) -> CalibratedTasks:
    """Calibrate every task on its own rows.

    Args:
        labels: task -> column of its labels, in funnel order.
        rows_of: gives the rows of a task, by its place in the funnel.
        fitted: the rows to fit on.
        judged: the rows to judge on.
        settings: how to calibrate.
        columns: column of the table for the arguments `weight` and `groups` of metrics.
        file: the table's name, for messages.
        before: task -> the calibrator that it has until now.

    Raises:
        DataError: the first task cannot be calibrated on these rows.
    """
    tasks: dict[str, TaskCalibration] = {}
    calibrators, notes = dict(before), []
    for index, (task, label) in enumerate(labels.items()):
        rows = rows_of(index)
        try:
            with arguments_named({"labels": label, "segments": settings.field, **columns}, file):
                tasks[task] = _calibrate_task(task, rows, fitted, judged, settings, first=index == 0)
        except DataError as error:
            if not index:
                raise
            # A later task that cannot be calibrated on these rows does not undo the work on earlier tasks.
            stays = "its calibrator stays as it was" if task in calibrators else "it stays uncalibrated"
            notes.append(f"{task}: {stays}, as {error.problem}.")
            warnings.warn(notes[-1], CalibrationWarning, stacklevel=3)
            continue
        if tasks[task].doubt is not None:
            notes.append(f"{task}: {tasks[task].doubt}")
            warnings.warn(notes[-1], CalibrationWarning, stacklevel=3)
        own = tasks[task].choice.calibrator
        field = settings.field if own.uses_segments else None
        calibrators[task] = TaskCalibrator(EntireSpaceCalibration(own) if rows.joint else own, field)
    return CalibratedTasks(tasks, calibrators, tuple(notes))


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
