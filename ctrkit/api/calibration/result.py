"""The settings and the result of a calibration."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

from pydantic import Field, model_validator

from ctrkit.api.models.value_calibration import ValueCalibration
from ctrkit.api.results import Result
from ctrkit.api.scores.calibrator import ScoreCalibrator
from ctrkit.api.scores.columns import ScoreColumns
from ctrkit.calibration import CalibrationSummary, CalibratorChoice, DownsamplingCorrection
from ctrkit.metrics import Reliability
from ctrkit.reports import Drawings, Report, Table
from ctrkit.reports.figures import reliability_diagram
from ctrkit.schema.features import VALUE


class CalibrateConfig(ScoreColumns):
    """How to calibrate.

    Attributes:
        method: name of the calibrator; `auto` chooses one by cross-validated log loss.
        field: categorical feature, or column of a table of scores, whose values get a correction each; it
            makes `field-aware` a candidate.
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
        calibrator: the calibrator of a table of scores; None for a model, which holds its own.
        saved: the path of this calibrator; None if it was not saved.
        written: sentences about the tables that it was applied to.
    """

    model: str | None
    tasks: dict[str, TaskCalibration]
    notes: tuple[str, ...]
    value: ValueCalibration | None = None
    calibrator: ScoreCalibrator | None = None
    saved: str | None = None
    written: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        tasks = {task: found.to_dict() for task, found in self.tasks.items()}
        value = {} if self.value is None else {VALUE: self.value.to_dict()}
        kept = {} if self.calibrator is None else {"calibrator": self.saved, "written": list(self.written)}
        return {"model": self.model, **kept, "tasks": tasks, **value, "notes": list(self.notes)}

    def report(self) -> Report:
        reasons = {task: found.choice.reason for task, found in self.tasks.items()}
        tables = [_before_and_after(task, found) for task, found in self.tasks.items()]
        if self.value is not None:
            reasons[VALUE] = self.value.reason
            tables.append(self.value.table())
        answer = "\n".join([*(f"{name}: {reason}" for name, reason in reasons.items()), *self.written])
        return Report("Calibration", answer, tuple(tables), self.notes)

    def figures(self) -> Drawings:
        return {
            f"reliability_{task}": partial(
                reliability_diagram, f"reliability_{task}", task, found.before.diagram, found.after.diagram
            )
            for task, found in self.tasks.items()
        }


def _before_and_after(task: str, found: TaskCalibration) -> Table:
    """Every calibration metric before and after, with its interval if it has one."""
    before, after = found.before.summary, found.after.summary
    names = [part.name for part in fields(before)]
    rows = tuple((name, getattr(before, name), getattr(after, name)) for name in names)
    where = "held-out rows of the entire space" if found.entire_space else "held-out rows"
    title = f"{task}: calibrator {found.choice.method}, on {where}"
    return Table(title, ("metric", "before", "after"), rows)
