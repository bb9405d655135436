"""A model reduced, recalibrated, and held against what it was."""

from __future__ import annotations

import copy
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctrkit.api.calibration.of_model import divided
from ctrkit.api.models.labelled import LabelledTable, labelled_rows, need_base_rate
from ctrkit.api.models.model import Model
from ctrkit.api.models.task_calibrators import TaskCalibrator
from ctrkit.api.models.task_rows import TaskRows, task_rows
from ctrkit.api.reductions.report import Change, ExportConfig, ReductionReport, TaskChange, gates_of
from ctrkit.arrays import Floats, Integers
from ctrkit.calibration import CalibrationWarning
from ctrkit.errors import ConfigError, DataError, RunError
from ctrkit.metrics import auc, ece, log_loss
from ctrkit.progress import OnStep
from ctrkit.tables import TableLike

if TYPE_CHECKING:
    from ctrkit.serving.reductions import Reduction


def reduced_model(
    model: Model, config: ExportConfig, kind: str, data: TableLike | None, on_step: OnStep
) -> tuple[Model, list[Reduction], ReductionReport]:
    """A reduced model with calibrators of its own, the reductions, and what they cost.

    Of the training table, calibrators are fitted on the validation rows and costs are measured on the test
    rows; any other table is divided into two halves.

    Args:
        model: the model, which stays as it is.
        config: which reductions, and what they may cost.
        kind: the format.
        data: a labelled table; None for the table that the model was trained on.
        on_step: called with (steps done, number of steps, what is being done).

    Raises:
        ConfigError: the model is no network, has nothing to reduce, or the reduction is none for the format.
        DataError: a faulty table, or one that cannot judge the first task.
        RunError: a cost is not allowed.
    """
    from ctrkit.models.model import CtrModel
    from ctrkit.serving.reductions import QUANTISATIONS, LowRank, check_formats, reduced
    from ctrkit.serving.trial import REQUEST, TrialGraphs, milliseconds_of

    if not isinstance(model.network, CtrModel):
        raise ConfigError("only networks are reduced, and this is another model", hint="Export it as it is")
    names: list[str] = [*dict.fromkeys(config.quantise)]
    reductions: list[Reduction] = [QUANTISATIONS[name]() for name in names]
    if config.low_rank is not None:
        reductions.insert(0, LowRank(config.low_rank))
        names.insert(0, f"cross layers of rank {config.low_rank}")
    check_formats(reductions, kind)
    opened = labelled_rows(model, data)
    need_base_rate(opened)
    fitted, judged, _ = divided(model, opened, seed=0)
    fitted, judged = opened.counted(fitted), opened.counted(judged)
    found = copy.copy(model)
    found.network = reduced(model.network, reductions)
    with tempfile.TemporaryDirectory() as scratch:
        on_step(0, 1, "exporting the reduced graphs, and measuring what they cost")
        folder = Path(scratch)
        before = TrialGraphs(model.network, kind, (), folder / "before")
        after = TrialGraphs(found.network, kind, reductions, folder / "after")
        logits = after.logits(opened.encoded)
        found.calibrators = _fitted_again(model, opened, logits, fitted)
        tasks = _changes(model, found, opened, logits, judged)
        milliseconds = Change(*milliseconds_of((before, after), opened.encoded))
        megabytes = Change(before.megabytes, after.megabytes)
    gates = gates_of(tasks, config)
    report = ReductionReport(tuple(names), tasks, milliseconds, REQUEST, megabytes, gates)
    if report.broken:
        raise RunError(
            f"The reduced model costs too much on {judged.size:,} held-out rows: "
            + "; ".join(gate.reason for gate in report.broken)
            + ". Nothing was written: reduce less, or allow more, for example with --set auc_fall=0.002."
        )
    return found, reductions, report


def _fitted_again(
    model: Model, opened: LabelledTable, logits: Floats, fitted: Integers
) -> dict[str, TaskCalibrator]:
    """The model's calibrators, fitted on other logits [n, T]; one that the rows cannot fit stays as it is."""
    found = dict(model.calibrators)
    for index, task in enumerate(model.tasks):
        held = found.get(task)
        if held is None or not held.of_logits.learns:
            continue
        rows = _rows_of(model, opened, logits, index, held)
        at = fitted[rows.possible[fitted]]
        segments = None if rows.segments is None else rows.segments[at]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CalibrationWarning)  # told when it was calibrated at first
                own = type(held.of_logits)().fit(rows.logits[at], rows.labels[at], rows.weight[at], segments)
        except DataError:
            continue
        found[task] = held.holding(own)
    return found


def _rows_of(
    model: Model, opened: LabelledTable, logits: Floats, index: int, held: TaskCalibrator | None
) -> TaskRows:
    field, entire = (None, False) if held is None else (held.field, held.entire_space)
    return task_rows(model, opened, logits, index, field=field, entire_space=entire)


def _changes(
    model: Model, found: Model, opened: LabelledTable, logits: Floats, judged: Integers
) -> dict[str, TaskChange]:
    """The metrics of each task given the task before it."""
    own = model.outputs_of(opened.encoded).logits
    before, after = model.probabilities(own, opened.encoded), found.probabilities(logits, opened.encoded)
    changes = {}
    for index, task in enumerate(model.tasks):
        rows = _rows_of(model, opened, own, index, None)
        at = judged[rows.possible[judged]]
        y, w, both = rows.labels[at], rows.weight[at], (before[task][at], after[task][at])
        if np.unique(y).size < 2:
            continue
        changes[task] = TaskChange(
            int(at.size),
            Change(*(auc(y, p, w) for p in both)),
            Change(*(log_loss(y, p, w) for p in both)),
            Change(*(ece(y, p, weight=w) for p in both)),
            float(np.abs(both[1] - both[0]).max()),
            task in model.calibrators,
        )
    if model.tasks[0] not in changes:
        raise DataError(
            f"all held-out rows have the same label of '{model.tasks[0]}'",
            file=opened.file,
            hint="Give a larger table with --data",
        )
    return changes
