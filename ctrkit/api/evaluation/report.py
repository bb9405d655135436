"""What a person reads of an evaluation: the verdict, tables and figures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ctrkit.api.models.leakage import BOTH
from ctrkit.evaluation.drift import Drift
from ctrkit.evaluation.gates import GateOutcome
from ctrkit.evaluation.task import TaskEvaluation
from ctrkit.metrics import Interval
from ctrkit.reports import Figure, Report, Table
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
_SLICED = ("auc", "gauc", "normalized_entropy", "pcoc")


def evaluation_report(
    model: str,
    against: str | None,
    tasks: Mapping[str, TaskEvaluation],
    drifts: Sequence[Drift] | None,
    business: Mapping[str, float],
    gates: Sequence[GateOutcome],
    notes: Sequence[str],
    drawn: bool,
) -> Report:
    """Metrics, what is miscalibrated, money and gates first; by field, by slice and drift for those who look
    closer; and figures, where they are to be drawn."""
    tables = [_of_tasks(tasks)] if against is None else [_compared(found) for found in tasks.values()]
    details: list[Table] = []
    figures: list[Figure] = []
    names = _short(model, against)
    for found in tasks.values():
        tables += _miscalibrated(found)
        details += [*_fields(found), *_slices(found)]
        figures += _figures(found, names) if drawn else []
    if drifts:
        details.append(_drifts(drifts))
        figures += [drift_figure(drifts)] if drawn else []
    if business:
        rows = tuple((name.replace("_", " "), f"{value:,.5g}") for name, value in business.items())
        tables.append(Table("What the log says of clicks and money", ("what", "value"), rows))
    if gates:
        outcomes = tuple((gate.metric, "held" if gate.held else "BROKEN", gate.reason) for gate in gates)
        tables.append(Table("Gates", ("gate", "outcome", "why"), outcomes))
    return Report(
        "Evaluation", _answer(tasks), tuple(tables), tuple(figures), tuple(notes), details=tuple(details)
    )


def _answer(tasks: Mapping[str, TaskEvaluation]) -> str:
    """All verdicts, one a line; what holds of the rows, and so of every task, is said once, last."""
    verdicts = [found.verdict for found in tasks.values()]
    own = [" ".join([v.said, *(one.sentence for one in v.reasons if one.rule != "drift")]) for v in verdicts]
    drifted = [one.sentence for v in verdicts for one in v.reasons if one.rule == "drift"]
    return "\n".join(dict.fromkeys([*own, *drifted]))


def _of_tasks(tasks: Mapping[str, TaskEvaluation]) -> Table:
    """Every metric of every task."""
    all_found = list(tasks.values())
    rows = [
        (name, *(_interval(found.measured.intervals.get(name)) for found in all_found))
        for name in all_found[0].measured.intervals
    ]
    rows += [
        (f"lift at {share:.0%}", *(f"{found.gains[0].lift[share]:.4g}" for found in all_found))
        for share in all_found[0].gains[0].lift
    ]
    of = tuple(f"{found.task}: {found.positives:,} of {found.rows:,}" for found in all_found)
    return Table("Metrics, with positives of rows", ("metric", *of), tuple(rows))


def _compared(found: TaskEvaluation) -> Table:
    """Every metric of one task, the other model's beside it, and the difference."""
    assert found.other is not None
    rows: list[tuple[str, ...]] = []
    for name, one in found.measured.intervals.items():
        difference = found.differences.get(name)
        p_value = "–" if difference is None else f"{difference.p_value:.3g}"
        apart = _interval(None if difference is None else difference.interval)
        rows.append((name, _interval(one), _interval(found.other.intervals.get(name)), apart, p_value))
    for share, value in found.gains[0].lift.items():
        rows.append((f"lift at {share:.0%}", f"{value:.4g}", *_lift(found, share)))
    title = f"{found.task}: {found.positives:,} positives of {found.rows:,} rows"
    return Table(title, ("metric", "model", "other", "difference", "p-value"), tuple(rows))


def _lift(found: TaskEvaluation, share: float) -> tuple[str, ...]:
    first, second = (one.lift[share] for one in found.gains)
    return f"{second:.4g}", f"{first - second:.3g}", "–"


def _fields(found: TaskEvaluation) -> list[Table]:
    """Field-ECE and Field-RCE."""
    if not found.fields:
        return []
    errors = tuple(
        (name, f"{one.ece:.4g}", f"{one.rce:.4g}", str(len(one.values)),
         str(sum(value.beyond_noise for value in one.values)))
        for name, one in found.fields.items()
    )  # fmt: skip
    header = ("field", "Field-ECE", "Field-RCE", "values looked at", "miscalibrated")
    return [Table(f"{found.task}: calibration by field", header, errors)]


def _miscalibrated(found: TaskEvaluation) -> list[Table]:
    """The values of fields that are miscalibrated beyond noise, largest first."""
    wrong = [
        (one.rows, (f"{name} = {one.value}", f"{one.rows:,}", f"{one.positives:,}", _interval(one.pcoc)))
        for name, report in found.fields.items()
        for one in report.values
        if one.beyond_noise
    ]
    if not wrong:
        return []
    wrong.sort(key=lambda pair: -pair[0])
    rows = tuple(row for _, row in wrong[: 2 * _VALUES])
    title = f"{found.task}: miscalibrated beyond noise, the largest {len(rows)} of {len(wrong)}"
    return [Table(title, ("where", "rows", "positives", "PCOC"), rows)]


def _slices(found: TaskEvaluation) -> list[Table]:
    """The long tail of items and the cold start of users, rarest first, in one table."""
    parts = [(name, one) for name, slices in found.slices.items() for one in slices]
    shown = [metric for metric in _SLICED if any(one.values.get(metric) for _, one in parts)]
    rows = tuple(
        (f"{name.split()[0]}: {one.name}", f"{one.rows:,}", f"{one.positives:,}",
         *(_brief(one.values[metric]) for metric in shown))
        for name, one in parts
    )  # fmt: skip
    header = ("seen so often", "rows", "positives", *(_ABBREVIATED.get(name, name) for name in shown))
    names = " and ".join(found.slices)
    return [Table(f"{found.task} by {names}", header, rows)] if parts else []


def _drifts(drifts: Sequence[Drift]) -> Table:
    rows = tuple(
        (one.column, f"{one.psi:.3f}", f"{one.noise:.3f}", one.level, one.largest,
         f"{one.training:.1%}", f"{one.evaluated:.1%}")
        for one in drifts[:_DRIFTS]
    )  # fmt: skip
    header = ("column", "PSI", "noise", "level", "most at", "in training", "now")
    return Table(f"Drift since training, the largest {len(rows)} of {len(drifts)}", header, rows)


def _figures(found: TaskEvaluation, names: Sequence[str]) -> list[Figure]:
    task = found.task
    part = task.replace(BOTH, "_")  # of a file's name
    figures = [
        reliability_figure(f"reliability_{part}", task, dict(zip(names, found.diagrams, strict=True))),
        gain_figure(f"gain_{part}", task, dict(zip(names, found.gains, strict=True))),
        score_figure(f"scores_{part}", task, found.scores),
    ]
    mapped = {
        name: [(str(one.value), one.pcoc, one.beyond_noise) for one in report.values if one.predicted > 0]
        for name, report in found.fields.items()
    }
    if any(mapped.values()):
        figures.append(field_heat_map(f"fields_{part}", task, mapped))
    for name, parts in found.slices.items():
        shown = [metric for metric in _SLICED if any(one.values.get(metric) for one in parts)]
        if shown:
            figures.append(slice_figure(f"{name.replace(' ', '_')}_{part}", task, name, parts, shown))
    differences = [(name, one.interval) for name, one in found.differences.items() if one is not None]
    if differences:
        figures.append(difference_figure(f"difference_{part}", task, differences))
    return figures


def _short(model: str, against: str | None) -> tuple[str, ...]:
    """Names for legends: that of the file, or of its whole path where both files are called the same."""
    names = [model] if against is None else [model, against]
    short = [os.path.basename(name) for name in names]
    if len(set(short)) == len(names):
        return tuple(short)
    return tuple(names) if len(set(names)) == len(names) else (f"{names[0]} (model)", f"{names[1]} (other)")


def _interval(found: Interval | None) -> str:
    return "–" if found is None else f"{found.value:.4g} [{found.low:.3g}, {found.high:.3g}]"


def _brief(found: Interval | None) -> str:
    return "–" if found is None else f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
