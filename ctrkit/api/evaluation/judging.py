"""Predictions and labels, judged: the same for a model's predictions and for a table of scores."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from ctrkit.api.evaluation.methods import MethodComparison
from ctrkit.api.evaluation.report import ARTIFACTS, ComparedWords
from ctrkit.api.evaluation.result import EvaluateConfig, EvaluationResult
from ctrkit.api.evaluation.value import ValueEvaluation
from ctrkit.api.models.leakage import BOTH
from ctrkit.arrays import Floats
from ctrkit.errors import arguments_named
from ctrkit.evaluation.drift import Drift
from ctrkit.evaluation.gates import check_gates
from ctrkit.evaluation.leaks import Leak
from ctrkit.evaluation.measures import MEASURES, EvaluationWarning
from ctrkit.evaluation.task import LabelledRows, TaskEvaluation, evaluate_task
from ctrkit.evaluation.unknown import UnknownShare
from ctrkit.evaluation.verdict import of_sampled_rows
from ctrkit.metrics import MetricInterval
from ctrkit.metrics.business import business
from ctrkit.progress import OnStep

# The gate on drift: the largest population stability index of any column.
DRIFT = "psi"
_DIFFERENCE = "difference"
_BIASED = (
    "Noise makes ECE, MCE, ACE, KS and smooth ECE too large. Their intervals are corrected for it, their "
    "values are not: a value above its interval is mostly noise. debiased_ece has no such bias."
)


@dataclass(frozen=True)
class Predictions:
    """Predictions on labelled rows, and what is known about these rows.

    Attributes:
        model: the name of what made the predictions.
        against: the name of what made the predictions to compare with; None if there are none.
        file: the name of the rows' table, for messages; None in memory.
        labels: task -> column of its labels, in funnel order.
        rows: name of a task -> its rows, in funnel order; with several tasks, the last is the whole funnel.
        columns: column of the table for the arguments `weight` and `groups` of metrics.
        business: clicks and money in the log, quantity -> value.
        notes: sentences about the rows, for the report.
        drifts: the drift of each column, largest first; None if it is not known.
        unknown: the share of unknown ids of each column.
        leaks: task -> features that give its label away.
        value: the evaluation of expected values; None if there are none.
        methods: the comparison of two methods over seeds, if there is one.
        seen: the share of the rows that the model was trained on; None where it does not matter.
        words: what the predictions are called where they are compared with others.
        sampled: whether the negatives of the rows are sampled.
    """

    model: str
    against: str | None
    file: str | None
    labels: Mapping[str, str]
    rows: Iterable[tuple[str, LabelledRows]]
    columns: Mapping[str, str | None]
    business: dict[str, float]
    notes: Sequence[str]
    drifts: tuple[Drift, ...] | None = None
    unknown: tuple[UnknownShare, ...] = ()
    leaks: Mapping[str, tuple[Leak, ...]] = field(default_factory=dict)
    value: ValueEvaluation | None = None
    methods: MethodComparison | None = None
    seen: float | None = None
    words: ComparedWords = ARTIFACTS
    sampled: bool = False


def clicks_and_money(
    table: pl.DataFrame,
    labels: Mapping[str, str],
    columns: Mapping[str, str],
    weight: Floats,
    value: str | None = None,
    values: Floats | None = None,
) -> dict[str, float]:
    """Clicks and money in the log, where each row is an impression.

    Args:
        table: the rows.
        labels: task -> column.
        columns: the user's names of money and counts, quantity -> column.
        weight: the weight of each row, [N].
        value: column of values, which are the revenue; None if there is none.
        values: the value of each row, 0 where the last label is 0, [N].
    """
    counted = {f"{task}s": name for task, name in labels.items() if task in ("click", "conversion")}
    if value is not None and values is not None:
        # Rows whose last label is 0 may hold anything there.
        counted["revenue"], table = value, table.with_columns(pl.Series(value, values))
    found = business(table, "impressions", {**counted, **columns}, weight).to_dict()
    return {name: value for name, value in found.items() if value is not None}


def judged(of: Predictions, settings: EvaluateConfig, on_step: OnStep) -> EvaluationResult:
    """Measure predictions task by task, and judge whether one can bid on them.

    Raises:
        DataError: bad values, or one class only in the rows of the first task.
    """
    steps, notes = len(of.labels) + 3, [*of.notes, _BIASED]
    on_step(1, steps, "predicting")
    tasks: dict[str, TaskEvaluation] = {}
    least = settings.fit.minimum_positives
    for done, (name, rows) in enumerate(of.rows):
        on_step(2 + done, steps, name)
        doubt = _doubt(name, rows, least, first=not done)
        if doubt is not None:
            warnings.warn(doubt, EvaluationWarning, stacklevel=2)
            notes.append(f"{doubt}.")
        if not done or 0 < rows.labels.sum() < rows.labels.size:
            columns = {"labels": of.labels.get(name), **of.columns}
            with arguments_named(columns, of.file):
                tasks[name] = evaluate_task(
                    name, rows, of.drifts, settings, of.leaks.get(name, ()), of.unknown, of.seen
                )
            if of.sampled:
                tasks[name] = replace(tasks[name], verdict=of_sampled_rows(tasks[name].verdict))
            notes += _undefined(tasks[name])
    if of.value is not None:
        notes += of.value.notes([*of.labels][-1], least)
    gated = {**_gate_values(tasks, of.drifts), **({} if of.value is None else of.value.by_name)}
    on_step(steps, steps, "writing")
    return EvaluationResult(
        of.model,
        of.against,
        of.file or "a table in memory",
        tasks,
        of.drifts,
        of.unknown,
        of.business,
        check_gates(settings.gates, gated),
        of.methods,
        tuple(notes),
        settings.figures,
        of.value,
        of.words,
    )


def _doubt(task: str, rows: LabelledRows, least: int, *, first: bool) -> str | None:
    """Why a task's metrics are left out, or mostly noise; None if they are neither."""
    positives, size, effective = int(rows.labels.sum()), rows.labels.size, rows.effective_positives
    if not first and positives in (0, size):
        return f"{task}: left out, as {'all' if positives else 'none'} of its {size:,} rows are positive"
    if effective >= least:
        return None
    few = f"{positives} positive rows"
    if effective < positives - 0.5:
        few += f", which by weight count as {effective:.1f},"
    return f"{task}: {few} are too few, metrics are mostly noise; at least {least} are needed"


def _undefined(found: TaskEvaluation) -> list[str]:
    """Notes on the metrics that could not be measured for a task; each reason is stated once."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in found.measured.reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return [
        f"{found.task}: {', '.join(names)} could not be measured: {reason}."
        for reason, names in by_reason.items()
    ]


def gate_names(tasks: Sequence[str], compared: bool) -> list[str]:
    """The names of all metrics of tasks that a gate can be on.

    Args:
        tasks: the tasks, in funnel order.
        compared: whether there are predictions to compare with.
    """
    names = [one.name for one in MEASURES]
    if compared:
        names += [f"{_DIFFERENCE}/{one.name}" for one in MEASURES]
    later = [*tasks[1:], *([BOTH.join(tasks)] if len(tasks) > 1 else [])]
    return [DRIFT, *names, *(f"{task}/{name}" for task in later for name in names)]


def _gate_values(
    tasks: dict[str, TaskEvaluation], drifts: Sequence[Drift] | None
) -> dict[str, MetricInterval | float | None]:
    """The measured metrics, by the names that gates use."""
    found: dict[str, MetricInterval | float | None] = {}
    for index, (task, of_task) in enumerate(tasks.items()):
        before = f"{task}/" if index else ""
        found |= {f"{before}{name}": one for name, one in of_task.measured.intervals.items()}
        for name, difference in of_task.differences.items():
            found[f"{before}{_DIFFERENCE}/{name}"] = None if difference is None else difference.interval
    if drifts:
        found[DRIFT] = max(one.psi for one in drifts)
    return found
