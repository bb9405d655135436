"""The calibration of a model on labelled rows."""

from __future__ import annotations

import os
import warnings

import numpy as np

from ctrkit.api.calibration.result import CalibrateConfig, CalibrationResult
from ctrkit.api.calibration.tasks import calibrate_tasks
from ctrkit.api.models.labelled import (
    LabelledTable,
    columns_of,
    labelled_rows,
    need_base_rate,
    training_overlap,
)
from ctrkit.api.models.model import Model, load
from ctrkit.api.models.task_rows import task_rows
from ctrkit.api.models.value_calibration import ValueCalibration
from ctrkit.api.models.value_rows import ValueRows
from ctrkit.api.scores.columns import rows_not_scores
from ctrkit.arrays import Integers
from ctrkit.calibration import CalibrationWarning
from ctrkit.data.split import split_rows
from ctrkit.errors import DataError
from ctrkit.schema.features import VALUE
from ctrkit.tables import TableLike, check_writable


def calibrate_model(
    model: str | os.PathLike[str] | Model,
    data: TableLike | None,
    settings: CalibrateConfig,
    save: str | os.PathLike[str] | None,
) -> CalibrationResult:
    """Calibrate a model, and store its calibrators.

    Args:
        model: the path of an artifact, or a model in memory, which is calibrated in place.
        data: a labelled table; None for the table that the model was trained on.
        settings: how to calibrate.
        save: the path of the calibrated artifact; None for the path of the model.
    """
    settings.need_scores()
    loaded = model if isinstance(model, Model) else load(model)
    target = save or (None if isinstance(model, Model) else model)
    if target:
        check_writable(target)
    with rows_not_scores(data):
        opened = labelled_rows(loaded, data)
    need_base_rate(opened)
    fitted, judged, notes = divided(loaded, opened, settings.seed)
    fitted, judged = opened.counted(fitted), opened.counted(judged)
    outputs = loaded.outputs_of(opened.encoded)
    entire = settings.conversion == "entire_space"
    found = calibrate_tasks(
        loaded.spec.labels,
        lambda index: task_rows(
            loaded, opened, outputs.logits, index, field=settings.field, entire_space=entire
        ),
        fitted,
        judged,
        settings,
        columns_of(loaded),
        opened.file,
        loaded.calibrators,
    )
    notes += found.notes
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
    result = CalibrationResult(os.fspath(target) if target else None, found.tasks, told, value)
    loaded.set_calibrators(found.calibrators, None if value is None else value.scaling)
    loaded.artifact.metrics["calibrate"] = result.to_dict()["tasks"]
    if target:
        loaded.artifact.save(target)
    return result


def divided(model: Model, opened: LabelledTable, seed: int) -> tuple[Integers, Integers, tuple[str, ...]]:
    """The rows to fit calibrators on, the rows to judge on, and notes about them."""
    split = opened.split
    if split is not None:
        note = (
            f"Calibrators were fitted on {split.valid.size:,} validation rows and judged on"
            f" {split.test.size:,} test rows."
        )
        return split.valid, split.test, (note,)
    seen = training_overlap(model, opened.table, opened.encoded)
    rows = np.arange(opened.table.height)
    if seen is not None:
        rows = rows[seen.others("calibration", opened.file)]
    halves = opened.config.split.model_copy(update={"train": 0.5, "valid": 0.25, "folds": None, "fold": None})
    until = opened.settled_until
    split = split_rows(opened.config.features, halves, opened.table[rows], seed, opened.file, until)
    fitted, judged = rows[split.train], rows[np.concatenate([split.valid, split.test])]
    note = (
        f"This is not the training table: calibrators were fitted on {fitted.size:,} of its rows"
        f" and judged on the other {judged.size:,}."
    )
    return fitted, judged, (note, *(() if seen is None else (seen.left_out,)))
