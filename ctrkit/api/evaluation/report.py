"""The report of an evaluation: the verdict, tables and figures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean, stdev
from typing import NamedTuple

from ctrkit.api.evaluation.methods import MethodComparison
from ctrkit.api.evaluation.value import ValueEvaluation
from ctrkit.api.models.leakage import BOTH
from ctrkit.evaluation.drift import Drift
from ctrkit.evaluation.gates import GateOutcome
from ctrkit.evaluation.task import TaskEvaluation
from ctrkit.evaluation.unknown import UnknownShare
from ctrkit.evaluation.verdict import SAMPLED, SEEN_ROWS
from ctrkit.reports import DrawFigure, Drawings, Report, Table
from ctrkit.reports.cells import Value, share
from ctrkit.reports.evaluation_figures import (
    difference_figure,
    drift_figure,
    field_heat_map,
    gain_figure,
    reliability_figure,
    score_figure,
    slice_figure,
)

_DRIFTS = 10
_VALUES = 5
_ABBREVIATED = {"normalized_entropy": "NE"}
# The rules whose findings are the same for every task.
_OF_ALL = ("drift", "unknown items", SEEN_ROWS, SAMPLED)
_SLICED = ("auc", "gauc", "normalized_entropy", "pcoc")


class ComparedWords(NamedTuple):
    """What two sets of predictions are called."""

    both: str
    this: str
    other: str


ARTIFACTS = ComparedWords("two artifacts", "this artifact", "other artifact")
SCORES = ComparedWords("two sets of scores", "these scores", "other scores")


def evaluation_report(
    tasks: Mapping[str, TaskEvaluation],
    drifts: Sequence[Drift] | None,
    unknown: Sequence[UnknownShare],
    business: Mapping[str, float],
    gates: Sequence[GateOutcome],
    methods: MethodComparison | None,
    notes: Sequence[str],
    value: ValueEvaluation | None = None,
    *,
    words: ComparedWords,
) -> Report:
    """The report of `ctrkit evaluate`.

    First come metrics, miscalibrated values, money and gates; details are fields, slices, unknown ids and
    drift.
    """
    compared = [_compared(found, words) for found in tasks.values() if found.other is not None]
    tables = [*(compared or [_of_tasks(tasks)]), *_methods(methods)]
    details: list[Table] = []
    for found in tasks.values():
        tables += _miscalibrated(found)
        details += [*_fields(found), *_slices(found)]
    if value is not None:
        tables.append(value.table())
    details += _unknown(unknown)
    if drifts:
        details.append(_drifts(drifts))
    if business:
        rows = tuple((name.replace("_", " "), value) for name, value in business.items())
        tables.append(Table("Clicks and money in the log", ("quantity", "value"), rows))
    if gates:
        outcomes = tuple((gate.metric, "held" if gate.held else "BROKEN", gate.reason) for gate in gates)
        tables.append(Table("Gates", ("gate", "outcome", "why"), outcomes))
    return Report("Evaluation", _answer(tasks, methods), tuple(tables), tuple(notes), details=tuple(details))


def _answer(tasks: Mapping[str, TaskEvaluation], methods: MethodComparison | None) -> str:
    """All verdicts, one a line. What is the same for every task is stated once, at the end."""
    verdicts = [found.verdict for found in tasks.values()]
    own = [
        " ".join([v.said, *(one.sentence for one in v.reasons if one.rule not in _OF_ALL)]) for v in verdicts
    ]
    shared = [one.sentence for v in verdicts for one in v.reasons if one.rule in _OF_ALL]
    compared = {} if methods is None else methods.tasks
    between = [f"{task}: {one.sentence}" for task, found in compared.items() for one in found]
    return "\n".join(dict.fromkeys([*own, *shared, *between]))


def _of_tasks(tasks: Mapping[str, TaskEvaluation]) -> Table:
    """Every metric of every task."""
    all_found = list(tasks.values())
    rows: list[tuple[Value, ...]] = [
        ("rows", *(found.rows for found in all_found)),
        ("positives", *(found.positives for found in all_found)),
    ]
    rows += [
        (name, *(found.measured.intervals.get(name) for found in all_found))
        for name in all_found[0].measured.intervals
    ]
    rows += [
        (f"lift at {part:.0%}", *(found.gains[0].lift[part] for found in all_found))
        for part in all_found[0].gains[0].lift
    ]
    return Table("Metrics", ("metric", *tasks), tuple(rows))


def _compared(found: TaskEvaluation, words: ComparedWords) -> Table:
    """Every metric of one task for both models, and the difference."""
    assert found.other is not None
    rows: list[tuple[Value, ...]] = []
    for name, one in found.measured.intervals.items():
        difference = found.differences.get(name)
        compared = (None, None) if difference is None else (difference.interval, difference.p_value)
        rows.append((name, one, found.other.intervals.get(name), *compared))
    first, second = (one.lift for one in found.gains)
    rows += [
        (f"lift at {part:.0%}", value, second[part], value - second[part], None)
        for part, value in first.items()
    ]
    title = f"{found.task}: {words.both} on {found.rows:,} rows with {found.positives:,} positives"
    return Table(title, ("metric", words.this, words.other, "difference", "p-value"), tuple(rows))


def _methods(methods: MethodComparison | None) -> list[Table]:
    """The metrics of two methods by seed, and the mean difference with both intervals."""
    tables: list[Table] = []
    if methods is None:
        return tables
    for task, found in methods.tasks.items():
        rows: list[tuple[Value, ...]] = []
        for one in found:
            rows += [
                (f"{one.metric}, seed {seed}", first, second, first - second, None, None)
                for seed, first, second in zip(methods.seeds, one.first, one.second, strict=True)
            ]
            means = (fmean(one.first), fmean(one.second))
            rows.append((f"{one.metric}, mean", *means, one.over_seeds, one.over_rows, one.p_value))
            spread = (stdev(one.first), stdev(one.second))
            rows.append((f"{one.metric}, deviation over seeds", *spread, None, None, None))
        header = (
            "metric",
            "this method",
            "other method",
            "difference, over seeds",
            "over rows",
            "p-value over seeds",
        )
        title = f"{task}: two methods, {len(methods.seeds)} seeds each"
        tables.append(Table(title, header, tuple(rows)))
    return tables


def _fields(found: TaskEvaluation) -> list[Table]:
    """Field-ECE and Field-RCE."""
    if not found.fields:
        return []
    errors = tuple(
        (name, one.ece, one.rce, len(one.values), sum(value.beyond_noise for value in one.values))
        for name, one in found.fields.items()
    )
    header = ("field", "Field-ECE", "Field-RCE", "values tested", "miscalibrated")
    return [Table(f"{found.task}: calibration by field", header, errors)]


def _miscalibrated(found: TaskEvaluation) -> list[Table]:
    """The values of fields that are miscalibrated beyond noise, largest first."""
    wrong = [
        (f"{name} = {one.value}", one.rows, one.positives, one.pcoc)
        for name, report in found.fields.items()
        for one in report.values
        if one.beyond_noise
    ]
    if not wrong:
        return []
    rows = tuple(sorted(wrong, key=lambda row: -row[1])[: 2 * _VALUES])
    title = f"{found.task}: miscalibrated beyond noise, the largest {len(rows)} of {len(wrong)}"
    return [Table(title, ("field and value", "rows", "positives", "PCOC"), rows)]


def _slices(found: TaskEvaluation) -> list[Table]:
    """Metrics by item popularity and by user activity in one table, the rarest first."""
    parts = [(name, one) for name, slices in found.slices.items() for one in slices]
    shown = [metric for metric in _SLICED if any(one.values.get(metric) for _, one in parts)]
    rows = tuple(
        (f"{name.split()[0]}: {one.name}", one.rows, one.positives, *(one.values[metric] for metric in shown))
        for name, one in parts
    )
    header = ("times seen", "rows", "positives", *(_ABBREVIATED.get(name, name) for name in shown))
    names = " and ".join(found.slices)
    return [Table(f"{found.task} by {names}", header, rows)] if parts else []


def _unknown(unknown: Sequence[UnknownShare]) -> list[Table]:
    """The columns that have ids unknown to the model, the largest share first."""
    held = sorted((one for one in unknown if one.evaluated or one.training), key=lambda one: -one.evaluated)
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (
            one.column,
            None if one.training is None else share(one.training),
            share(one.evaluated),
            one.advice if one.far_above else "",
        )
        for one in held
    )
    header = ("column", "in training", "now", "if they are new")
    return [Table("Ids that are unknown to the model", header, rows)] if rows else []


def _drifts(drifts: Sequence[Drift]) -> Table:
    rows = tuple(
        (one.column, one.psi, one.noise, one.level, one.largest, share(one.training), share(one.evaluated))
        for one in drifts[:_DRIFTS]
    )
    header = ("column", "PSI", "noise", "level", "largest change", "share in training", "share now")
    return Table(f"Drift since training, the largest {len(rows)} of {len(drifts)}", header, rows)


def evaluation_figures(
    model: str,
    against: str | None,
    tasks: Mapping[str, TaskEvaluation],
    drifts: Sequence[Drift] | None,
    words: ComparedWords,
) -> Drawings:
    """The figures of every task, and of drift."""
    names = _short(model, against)
    drawings = {key: draw for found in tasks.values() for key, draw in _of_task(found, names, words).items()}
    return {**drawings, "drift": partial(drift_figure, drifts)} if drifts else drawings


def _of_task(found: TaskEvaluation, names: Sequence[str], words: ComparedWords) -> dict[str, DrawFigure]:
    task = found.task
    part = task.replace(BOTH, "_")  # of a file's name
    diagrams = dict(zip(names, found.diagrams, strict=True))
    gains = dict(zip(names, found.gains, strict=True))
    drawings: dict[str, DrawFigure] = {
        f"reliability of {task}": partial(reliability_figure, f"reliability_{part}", task, diagrams),
        f"gain of {task}": partial(gain_figure, f"gain_{part}", task, gains),
        f"scores of {task}": partial(score_figure, f"scores_{part}", task, found.scores),
    }
    mapped = {
        name: [(str(one.value), one.pcoc, one.beyond_noise) for one in report.values if one.predicted > 0]
        for name, report in found.fields.items()
    }
    if any(mapped.values()):
        drawings[f"fields of {task}"] = partial(field_heat_map, f"fields_{part}", task, mapped)
    for name, parts in found.slices.items():
        shown = [metric for metric in _SLICED if any(one.values.get(metric) for one in parts)]
        if shown:
            file = f"{name.replace(' ', '_')}_{part}"
            drawings[f"{name} of {task}"] = partial(slice_figure, file, task, name, parts, shown)
    differences = [(name, one.interval) for name, one in found.differences.items() if one is not None]
    if differences:
        file = f"difference_{part}"
        drawings[f"differences of {task}"] = partial(
            difference_figure, file, task, differences, f"{words.this} minus {words.other}"
        )
    return drawings


def _short(model: str, against: str | None) -> tuple[str, ...]:
    """Names for legends: a model's file name, or its whole path if both files have the same name."""
    names = [model] if against is None else [model, against]
    short = [os.path.basename(name) for name in names]
    if len(set(short)) == len(names):
        return tuple(short)
    return tuple(names) if len(set(names)) == len(names) else (f"{names[0]} (model)", f"{names[1]} (other)")
