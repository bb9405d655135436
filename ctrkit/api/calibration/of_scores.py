"""The calibration of a table of scores, and of arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.api.calibration.result import CalibrateConfig, CalibrationResult
from ctrkit.api.calibration.tasks import calibrate_tasks
from ctrkit.api.models.task_calibrators import TaskCalibrator
from ctrkit.api.models.task_rows import TaskRows
from ctrkit.api.scores.calibrator import ScoreCalibrator
from ctrkit.api.scores.columns import ScoreColumns
from ctrkit.api.scores.table import TIME, ScoreTable, read_scores
from ctrkit.arrays import Integers
from ctrkit.calibration import choose, logits_of
from ctrkit.data.split import SplitConfig, split_table
from ctrkit.errors import ConfigError, DataError, arguments_named
from ctrkit.schema.scores import FUNNEL
from ctrkit.tables import TableLike, check_writable, name_of, read_chunks, table_writer

# Shares of the rows to fit on and, in two parts, to judge on.
_HALVES = SplitConfig(train=0.5, valid=0.25)
_NEW = "Give rows that the model was not trained on: on its training rows its probabilities are too extreme."


def calibrate_table(
    source: TableLike, settings: CalibrateConfig, save: str | os.PathLike[str] | None
) -> CalibrationResult:
    """Calibrate the predictions of a table: fitted on one half of the rows, judged on the other.

    Args:
        source: a table of scores (see `read_scores`).
        settings: how to calibrate, and the names of the columns.
        save: the file for the calibrator; None for none.

    Raises:
        DataError: a faulty table, or too few rows.
    """
    if save:
        check_writable(save)
    segments = () if settings.field is None else (settings.field,)
    scores = read_scores(source, settings, segments, timed=True)
    fitted, judged, notes = _divided(scores, settings.seed)
    values: tuple[str | None, ...] = ()
    numbers = None
    if settings.field is not None:
        values, numbers = ScoreCalibrator.numbered(scores.segments(settings.field))
    entire = settings.conversion == "entire_space"
    found = calibrate_tasks(
        scores.label_columns,
        lambda index: TaskRows.of(
            index, scores.logits, scores.labels, scores.weight, scores.groups, numbers, entire_space=entire
        ),
        fitted,
        judged,
        settings,
        scores.columns,
        scores.file,
        {},
    )
    reasons = {task: one.choice.reason for task, one in found.tasks.items()}
    calibrator = ScoreCalibrator(found.calibrators, settings.field, values, reasons)
    if not calibrator.uses_segments:
        calibrator = replace(calibrator, field=None, values=())
    if save:
        calibrator.save(save)
    told = (*notes, *found.notes, *scores.notes, _NEW)
    return CalibrationResult(
        None, found.tasks, told, calibrator=calibrator, saved=os.fspath(save) if save else None
    )


def calibrate_scores(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    segments: Any = None,
    groups: ArrayLike | None = None,
    method: str = "auto",
    folds: int = 5,
    seed: int = 0,
) -> ScoreCalibrator:
    """A calibrator for the probabilities of any model, fitted on all rows that are given.

    Give rows that the model was not trained on. `ctrkit.calibrate(scores=...)` fits on one part of a table
    and judges on another.

    Args:
        labels: 0 or 1, [N].
        probabilities: the model's probabilities, in [0, 1], [N].
        weight: the weight of each row, at least 0, [N].
        segments: a value of each row, such as the advertiser, [N]; it makes `field-aware` a candidate.
        groups: the group of each row, usually its user, [N]; rows of one group stay in one fold.
        method: name of the calibrator; `auto` chooses one by cross-validated log loss.
        folds: number of folds of the cross-validation.
        seed: seed of the folds.

    Returns:
        The calibrator, which gives calibrated probabilities when it is called, and saves itself.

    Raises:
        ConfigError: an unknown method.
        DataError: bad values, or only one class.

    Example:
        >>> import ctrkit, numpy
        >>> random = numpy.random.default_rng(0)
        >>> p = random.beta(1, 9, 10_000)
        >>> clicks = random.random(10_000) < p
        >>> calibrator = ctrkit.calibrate_scores(clicks, 1 - (1 - p) ** 3)  # about three times too high
        >>> bool(0.9 < calibrator(1 - (1 - p) ** 3).sum() / clicks.sum() < 1.1)
        True
    """
    logits = logits_of(probabilities)
    values: tuple[str | None, ...] = ()
    numbers = None
    if segments is not None:
        values, numbers = ScoreCalibrator.numbered(segments)
    methods = None if method == "auto" else (method,)
    choice = choose(logits, labels, methods, folds, seed, groups, numbers, weight=weight)
    field = "segments" if choice.calibrator.uses_segments else None
    held = TaskCalibrator(choice.calibrator, field)
    return ScoreCalibrator({"click": held}, field, values if field else (), {"click": choice.reason})


def apply_calibrator(
    calibrator: ScoreCalibrator,
    source: TableLike,
    columns: ScoreColumns,
    to: str | os.PathLike[str] | None,
) -> Iterator[str]:
    """Write a table with calibrated probabilities beside its columns, and say what was written.

    A prediction in the column `score` is calibrated in `calibrated_score`. All other cells stay as they are.

    Args:
        calibrator: the calibrator.
        source: a table with predictions.
        columns: the names of its columns.
        to: the file to write, `.csv`, `.parquet` or `.jsonl`; None for the name of the table with
            `.calibrated` before its ending.

    Raises:
        DataError: a faulty table, or one that lacks the segments of the calibrator.
    """
    target = to or _beside(source)
    check_writable(target)
    segments = (calibrator.field,) if calibrator.uses_segments and calibrator.field else ()
    rows, sums = 0, dict[str, list[float]]()
    with table_writer(target) as write:
        for chunk in read_chunks(source):
            names, there = columns.predictions(chunk.table.columns)
            tasks = [task for task in calibrator.calibrators if FUNNEL[task] in there]
            tasks = tasks or list(calibrator.calibrators)[:1]
            scores = read_scores(chunk.table, columns, segments, labelled=False, tasks=tasks, file=chunk.file)
            values = scores.segments(segments[0]) if segments else None
            with arguments_named({"segments": calibrator.field}, scores.file):
                found = calibrator.of_tasks(dict(zip(tasks, scores.probabilities.T, strict=True)), values)
            added = {}
            for task, given in zip(tasks, scores.probabilities.T, strict=True):
                name = f"calibrated_{names.get(FUNNEL[task], FUNNEL[task])}"
                if name in chunk.table.columns:
                    raise DataError(
                        "the table has this column already",
                        file=chunk.file,
                        column=name,
                        hint="Drop or rename it",
                    )
                added[name] = found[task]
                before, after = sums.setdefault(name, [0.0, 0.0])
                sums[name] = [before + float(given.sum()), after + float(found[task].sum())]
            write(chunk.table.with_columns(**added))
            rows += chunk.table.height
    for name, (before, after) in sums.items():
        yield (
            f"{rows:,} rows were written to {os.fspath(target)} with the column {name}: its mean is"
            f" {after / rows:.4g}, and was {before / rows:.4g}."
        )


def _divided(scores: ScoreTable, seed: int) -> tuple[Integers, Integers, tuple[str, ...]]:
    """The rows to fit on, the rows to judge on, and how they were divided."""
    time = TIME if TIME in scores.table.columns else None
    split = split_table(time, _HALVES, scores.table, seed, scores.file, scores.groups)
    judged = np.concatenate([split.valid, split.test])
    fitted, rest = f"{split.train.size:,}", f"{judged.size:,}"
    if time:
        how = f"the first {fitted} rows by time, and judged on the {rest} after them"
    elif scores.groups is None:
        how = f"{fitted} random rows, and judged on the other {rest}"
    else:
        how = f"{fitted} rows of random users, and judged on the {rest} rows of the others"
    note = f"Calibrators were fitted on {how}."
    return split.train, judged, (note,)


def _beside(source: TableLike) -> str:
    """The name of the calibrated table of a file."""
    name = name_of(source)
    if name is None:
        raise ConfigError("a table in memory has no name to write to", hint="Give `to`")
    stem, ending = os.path.splitext(name.removesuffix(".gz"))
    return f"{stem}.calibrated{ending if ending in ('.csv', '.parquet', '.jsonl') else '.csv'}"
