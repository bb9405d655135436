"""Evaluation of one task of a model on labelled rows: metrics, by field and by slice too, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ctrkit.arrays import Floats, Integers
from ctrkit.config import Config
from ctrkit.evaluation.drift import Drift
from ctrkit.evaluation.fields import FieldReport, by_fields, segments_of
from ctrkit.evaluation.gain import Gain, gain
from ctrkit.evaluation.leaks import Leak
from ctrkit.evaluation.measures import (
    MAIN,
    MEASURES,
    Drawing,
    Measured,
    MetricDifference,
    compare_models,
    measure,
)
from ctrkit.evaluation.scores import ScoreDistribution, score_distribution
from ctrkit.evaluation.slices import Division, Slice, by_slice
from ctrkit.evaluation.unknown import UnknownShare
from ctrkit.evaluation.verdict import FitRules, TaskVerdict, judge
from ctrkit.metrics import MetricInterval, Reliability, reliability
from ctrkit.metrics.checks import independent_units, need_both_classes

# The largest number of rows that a bootstrap draws in all, and the fewest draws for usable intervals.
_DRAWN_ROWS = 20_000_000
_FEWEST_DRAWS = 50


class EvaluationSettings(Config):
    """How to evaluate.

    Attributes:
        bins: number of bins of the reliability diagram.
        parts: number of slices by item popularity and by user activity.
        minimum_rows: values of a field with fewer rows are measured together.
        draws: number of bootstrap draws, for metrics whose interval has no closed form. Above 100,000 rows
            there are fewer draws, but at least 50.
        confidence: confidence level of all intervals.
        seed: seed of everything random.
        fit: thresholds of the verdict.
    """

    bins: int = Field(default=10, ge=2)
    parts: int = Field(default=5, ge=2)
    minimum_rows: int = Field(default=200, ge=2)
    draws: int = Field(default=200, ge=20)
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    seed: int = Field(default=0, ge=0)
    fit: FitRules = FitRules()


@dataclass(frozen=True)
class Scored:
    """A model's predictions.

    Attributes:
        probabilities: the calibrated probabilities, [N].
        scores: what the model ranks rows by, [N]: the probabilities, with ties broken by the logits
            (`ctrkit.calibration.ranking_key`).
    """

    probabilities: Floats
    scores: Floats

    def __getitem__(self, rows: NDArray[Any]) -> Scored:
        """The predictions of some of the rows."""
        return Scored(self.probabilities[rows], self.scores[rows])


@dataclass(frozen=True)
class LabelledRows:
    """Labelled rows of one task.

    Attributes:
        labels: 0 or 1, [N].
        weight: the weight of each row, above 0, [N]; a row of weight 2 counts as two copies of it.
        model: the model's predictions.
        other: the predictions of the model to compare with.
        groups: the group of each row, usually its user, [N]. A row without a group has a number below 0 of
            its own.
        fields: categorical field -> its value on each row, as text, [N].
        divisions: what the rows are sliced by -> their division.
    """

    labels: Floats
    weight: Floats
    model: Scored
    other: Scored | None
    groups: Integers | None
    fields: Mapping[str, NDArray[Any]]
    divisions: Mapping[str, Division]

    def __getitem__(self, rows: NDArray[Any]) -> LabelledRows:
        """Some of the rows."""
        return LabelledRows(
            self.labels[rows],
            self.weight[rows],
            self.model[rows],
            None if self.other is None else self.other[rows],
            None if self.groups is None else self.groups[rows],
            {name: values[rows] for name, values in self.fields.items()},
            {name: division[rows] for name, division in self.divisions.items()},
        )

    @property
    def effective_positives(self) -> float:
        """The effective number of positive rows (Kish): with equal weights, their number."""
        weight = self.weight[self.labels == 1]
        return independent_units(weight, np.arange(weight.size))


@dataclass(frozen=True)
class TaskEvaluation:
    """The evaluation of one task.

    Attributes:
        task: the task's name.
        rows: the number of rows.
        positives: the number of positive rows.
        measured: every metric of the model.
        other: every metric of the other model, if there is one.
        differences: metric -> model minus other.
        fields: field -> calibration by its values.
        slices: what the rows are sliced by -> metrics by slice.
        diagrams: the reliability of the model and, if there is one, of the other model.
        gains: the gain curve of the model and, if there is one, of the other model.
        scores: the distribution of the model's predictions.
        verdict: whether the model is fit to bid on.
    """

    task: str
    rows: int
    positives: int
    measured: Measured
    other: Measured | None
    differences: dict[str, MetricDifference | None]
    fields: dict[str, FieldReport]
    slices: dict[str, tuple[Slice, ...]]
    diagrams: tuple[Reliability, ...]
    gains: tuple[Gain, ...]
    scores: ScoreDistribution
    verdict: TaskVerdict

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        compared: dict[str, Any] | None = None
        if self.other is not None:
            found = self.differences.items()
            compared = {
                "metrics": _plain(self.other.intervals),
                "differences": {name: None if one is None else one.to_dict() for name, one in found},
                "reliability": _bins(self.diagrams[1]),
                "gain": self.gains[1].to_dict(),
            }
        return {
            "rows": self.rows,
            "positives": self.positives,
            "metrics": _plain(self.measured.intervals),
            "undefined": self.measured.reasons,
            "against": compared,
            "fields": {name: found.to_dict() for name, found in self.fields.items()},
            "slices": {name: [one.to_dict() for one in parts] for name, parts in self.slices.items()},
            "reliability": _bins(self.diagrams[0]),
            "gain": self.gains[0].to_dict(),
            "scores": self.scores.to_dict(),
            "verdict": self.verdict.to_dict(),
        }


def evaluate_task(
    task: str,
    rows: LabelledRows,
    drifts: tuple[Drift, ...] | None,
    settings: EvaluationSettings,
    leaks: tuple[Leak, ...] = (),
    unknown: tuple[UnknownShare, ...] = (),
    seen: float | None = None,
) -> TaskEvaluation:
    """Measure one task on the rows given, and judge whether the model is fit to bid on.

    Args:
        task: the task's name.
        rows: the labelled rows.
        drifts: the drift of each column since training; None if it is not known.
        settings: how to evaluate.
        leaks: features that give the task's label away.
        unknown: the share of unknown ids of each column.
        seen: the share of rows that the model was trained on; None where it does not matter.

    Raises:
        DataError: bad values, or only one class.
    """
    y, w, p, groups = rows.labels, rows.weight, rows.model.probabilities, rows.groups
    need_both_classes(float(w @ y), float(w @ (1 - y)), f"an evaluation of '{task}'")
    drawing = Drawing(_affordable(settings.draws, y.size), settings.confidence, settings.seed)
    models = [rows.model] if rows.other is None else [rows.model, rows.other]
    compared = None
    if rows.other is not None:
        scores = (rows.model.scores, rows.other.scores)
        compared = compare_models(MEASURES, y, p, rows.other.probabilities, groups, drawing, w, scores)
        measured = compared.first
    else:
        measured = measure(MEASURES, y, p, groups, drawing, w, rows.model.scores)
    fields = by_fields(y, p, rows.fields, groups, settings.minimum_rows, settings.confidence, w)
    slices = {
        name: by_slice(y, p, division, MAIN, groups, settings.confidence, w, rows.model.scores)
        for name, division in rows.divisions.items()
    }
    verdict = judge(
        task,
        int(y.sum()),
        measured.intervals["pcoc"],
        measured.intervals["normalized_entropy"],
        segments_of(fields),
        drifts,
        settings.fit,
        measured.intervals["auc"],
        leaks,
        rows.effective_positives,
        unknown,
        seen,
    )
    return TaskEvaluation(
        task,
        int(y.size),
        int(y.sum()),
        measured,
        compared.second if compared is not None else None,
        compared.differences if compared is not None else {},
        fields,
        slices,
        tuple(
            reliability(
                y,
                one.probabilities,
                settings.bins,
                confidence=settings.confidence,
                groups=groups,
                weight=w,
            )
            for one in models
        ),
        tuple(gain(y, one.scores, weight=w) for one in models),
        score_distribution(y, p, weight=w),
        verdict,
    )


def _affordable(draws: int, rows: int) -> int:
    """The number of bootstrap draws that takes reasonable time."""
    return max(min(draws, _DRAWN_ROWS // rows), min(draws, _FEWEST_DRAWS))


def _plain(intervals: Mapping[str, MetricInterval | None]) -> dict[str, Any]:
    return {name: None if found is None else found.to_dict() for name, found in intervals.items()}


def _bins(diagram: Reliability) -> dict[str, Any]:
    return {name: values.tolist() for name, values in vars(diagram).items()}
