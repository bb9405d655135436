"""The settings and the result of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from ctrkit.api.evaluation.methods import MethodComparison
from ctrkit.api.evaluation.report import ARTIFACTS, ComparedWords, evaluation_figures, evaluation_report
from ctrkit.api.evaluation.value import ValueEvaluation
from ctrkit.api.results import Result
from ctrkit.api.scores.columns import ScoreColumns
from ctrkit.evaluation.drift import Drift
from ctrkit.evaluation.gates import GateOutcome, MetricGate
from ctrkit.evaluation.task import EvaluationSettings, TaskEvaluation
from ctrkit.evaluation.unknown import UnknownShare
from ctrkit.reports import Drawings, Report
from ctrkit.schema.features import VALUE


class EvaluateConfig(EvaluationSettings, ScoreColumns):
    """What to evaluate, and the gates that stop a pipeline.

    Attributes:
        fields: columns whose values calibration is shown by; by default the spec's categorical features, and
            none of a table of scores.
        figures: whether to draw figures; without them a pipeline that only needs its gates is faster.
        columns: the log's names of money and counts, such as `{revenue: value}` (see
            `ctrkit.metrics.business`).
        gates: metric -> the range it must lie in. `auc` is the first task's metric, `conversion/auc` that of
            another task, `difference/auc` that of this artifact minus that of the other one, `value/pcoc`
            that of expected values, and `psi` the largest drift of any column.
        seeds: with `against`, the number of seeds with which both methods are trained again on the training
            table, to compare the methods and not only these two artifacts.
    """

    fields: tuple[str, ...] | None = None
    figures: bool = True
    columns: dict[str, str] = Field(default_factory=dict)
    gates: dict[str, MetricGate] = Field(default_factory=dict)
    seeds: int | None = Field(default=None, ge=2)


@dataclass(frozen=True)
class EvaluationResult(Result):
    """The evaluation of a model on labelled rows.

    Attributes:
        model: the model's name.
        against: the name of the artifact to compare with, if there is one.
        data: the name of the table.
        tasks: task -> its evaluation, in funnel order; with several tasks, the last is the whole funnel.
        drifts: the drift of each column, largest first; None if the training rows are not known.
        unknown: the share of unknown ids of each column.
        business: clicks and money in the log, quantity -> value.
        gates: the outcome of each gate.
        methods: the comparison of two methods over seeds, if it was asked for.
        notes: sentences about the rows and the metrics.
        drawn: whether `figures` gives any.
        value: the evaluation of expected values; None if the model predicts none.
        words: what the predictions are called where they are compared with others.
    """

    model: str
    against: str | None
    data: str
    tasks: dict[str, TaskEvaluation]
    drifts: tuple[Drift, ...] | None
    unknown: tuple[UnknownShare, ...]
    business: dict[str, float]
    gates: tuple[GateOutcome, ...]
    methods: MethodComparison | None
    notes: tuple[str, ...]
    drawn: bool = True
    value: ValueEvaluation | None = None
    words: ComparedWords = ARTIFACTS

    @property
    def broken(self) -> tuple[GateOutcome, ...]:
        """The gates that did not hold."""
        return tuple(gate for gate in self.gates if not gate.held)

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "against": self.against,
            "data": self.data,
            "tasks": {name: found.to_dict() for name, found in self.tasks.items()},
            **({} if self.value is None else {VALUE: self.value.to_dict()}),
            "drift": None if self.drifts is None else [one.to_dict() for one in self.drifts],
            "unknown": [one.to_dict() for one in self.unknown],
            "business": self.business,
            "gates": [gate.to_dict() for gate in self.gates],
            "methods": None if self.methods is None else self.methods.to_dict(),
            "notes": list(self.notes),
        }

    def report(self) -> Report:
        return evaluation_report(
            self.tasks, self.drifts, self.unknown, self.business, self.gates, self.methods, self.notes,
            self.value, words=self.words,
        )  # fmt: skip

    def figures(self) -> Drawings:
        if not self.drawn:
            return {}
        return evaluation_figures(self.model, self.against, self.tasks, self.drifts, self.words)
