"""`ctrkit monitor`: how a model does on a log, by period of time: drift, calibration, clicks and money."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field

from ctrkit.api.evaluation.of_model import name_of_model
from ctrkit.api.evaluation.periods import WATCHED, Judge, Length, Period, periods_of, rows_of_log
from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.model import Model, load
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.config import Config, ConfigLike, settings_of
from ctrkit.evaluation.gates import GateOutcome, MetricGate, check_gates, need_known
from ctrkit.evaluation.profile import values_as_text
from ctrkit.metrics import MetricInterval
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Drawings, Report, Table
from ctrkit.reports.cells import Value, interval, text
from ctrkit.reports.monitor_figures import calibration_by_period, drift_by_period
from ctrkit.schema import require_columns
from ctrkit.tables import TableLike

ALL = "all"
PSI, MISSING, UNKNOWN, SKEW = "psi", "missing", "unknown", "skew"
# Gates that hold by default where they can be measured.
USUAL = {
    PSI: MetricGate(maximum=0.25),
    MISSING: MetricGate(maximum=0.1),
    UNKNOWN: MetricGate(maximum=0.1),
    "pcoc": MetricGate(minimum=0.9, maximum=1.1),
}
# Shares of fewer rows are too noisy for a gate.
LEAST = 1000
# Columns in tables of drift, and values of a segment.
_MOST = 20


class MonitorConfig(Config):
    """How a log is watched.

    Attributes:
        by: length of a period; by default one that suits the log.
        segment: column by whose values the log is judged too.
        columns: the log's names of money and counts, such as `{revenue: value}` (see
            `ctrkit.metrics.business`).
        ignore: columns whose drift breaks no gate, such as `hour` in the log of half a day.
        gates: metric -> the range in which it must lie on all rows. `pcoc` is the first task's metric,
            `conversion/pcoc` that of another task; they break if the whole interval is out of range, unless
            `beyond_noise` is false. `psi` is the largest drift of a column, `missing` and `unknown` are the
            largest shares of rows without a value and of unknown ids beyond those of training, and `skew` is
            the largest difference between a probability that was served and the model's. By default psi,
            missing, unknown and pcoc have gates, where they can be measured.
        confidence: confidence level of all intervals.
    """

    by: Length | None = None
    segment: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    gates: dict[str, MetricGate] = Field(default_factory=dict)
    confidence: float = Field(default=0.95, gt=0, lt=1)


@dataclass(frozen=True, repr=False)
class MonitorResult(Result):
    """A log that was watched.

    Attributes:
        model: the model's name.
        data: the name of the log.
        whole: all rows.
        periods: the rows of each period, in the order of time; none in a log without times.
        segments: the rows of each value of the segment, the most frequent first.
        gates: the outcome of each gate.
        notes: sentences about the rows.
    """

    model: str
    data: str
    whole: Period
    periods: tuple[Period, ...]
    segments: tuple[Period, ...]
    gates: tuple[GateOutcome, ...]
    notes: tuple[str, ...]

    @property
    def broken(self) -> tuple[GateOutcome, ...]:
        """The gates that did not hold."""
        return tuple(gate for gate in self.gates if not gate.held)

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "whole": self.whole.to_dict(),
            "periods": [one.to_dict() for one in self.periods],
            "segments": [one.to_dict() for one in self.segments],
            "gates": [gate.to_dict() for gate in self.gates],
            "notes": list(self.notes),
        }

    def report(self) -> Report:
        parts = (*self.periods, self.whole)
        tables = [_of_task(task, parts, "by period") for task in self.whole.predicted]
        tables += [_drifts(self.whole)] if self.whole.drifts else []
        gates = [(one.metric, "yes" if one.held else "no", one.reason) for one in self.gates]
        tables += [Table("Gates", ("metric", "held", "why"), tuple(gates))] if gates else []
        details = [_drift_by_period(parts)] if self.whole.drifts and self.periods else []
        details += [
            _of_task(task, self.segments, "by segment") for task in self.whole.predicted if self.segments
        ]
        details += [_values(self.whole)]
        details += [_money(parts)] if self.whole.money else []
        details += [_skew(self.whole)] if self.whole.skew else []
        return Report("Monitor", self._answer(), tuple(tables), self.notes, details=tuple(details))

    def figures(self) -> Drawings:
        if len(self.periods) < 2:
            return {}
        names = [one.name for one in self.periods]
        found: dict[str, Any] = {}
        for task in self.whole.predicted:
            pcoc = [
                one.measured[task].intervals["pcoc"] if task in one.measured else None for one in self.periods
            ]
            if any(one is not None for one in pcoc):
                found[f"pcoc_{task}"] = partial(calibration_by_period, f"pcoc_{task}", task, names, pcoc)
        if self.whole.drifts:
            columns = [one.column for one in self.whole.drifts[:_MOST]]
            psi = [[_of_column(one, name) for name in columns] for one in self.periods]
            found["drift_by_period"] = partial(drift_by_period, columns, names, np.array(psi))
        return found

    def _answer(self) -> str:
        found = [
            f"{self.whole.rows:,} rows in {len(self.periods) or 1} period{'s' * (len(self.periods) > 1)}."
        ]
        for task, measured in self.whole.measured.items():
            pcoc = measured.intervals["pcoc"]
            if pcoc is not None:
                found.append(f"{task}: predicted over observed is {text(interval(pcoc.to_dict()))}.")
        if self.whole.psi is not None:
            found.append(f"'{self.whole.psi.column}' drifts most: PSI {self.whole.psi.psi:.3f}.")
        found += [f"Broken: {one.reason}." for one in self.broken]
        return "\n".join(found)


@takes_settings(MonitorConfig)
def monitor(
    data: TableLike | None = None,
    *,
    model: str | os.PathLike[str] | Model = "model.pt",
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep = silent,
    **keywords: Any,
) -> MonitorResult:
    """Watch a log with the eyes of a model: drift of its features since training, calibration, clicks and
    money, by period of time.

    The log is any table with the model's features, such as the impressions of `ctrkit.join_feedback`. Without
    labels, drift and predictions alone are told. Each task is measured where the task before it has happened
    and its label is known. Where the log holds the probabilities that were served, they are compared with
    the model's.

    Args:
        data: the log; by default the test rows of the table that the model was trained on.
        model: an artifact's path, or a model in memory.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.
        out: the run folder; None for none.
        on_step: called with (steps done, number of steps, what is being done).

    Raises:
        ConfigError: a gate is on an unknown metric.
        DataError: the log is faulty, has no rows, or has too many periods.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])  # impressions
        >>> model = ctrkit.train(data=rows[:5_000], network="lr").trained
        >>> found = ctrkit.monitor(rows[5_000:9_000], model=model, by="week")
        >>> found.whole.rows
        4000
    """
    settings = settings_of(MonitorConfig, config, overrides, keywords)
    loaded = model if isinstance(model, Model) else load(model)
    names = [f"{_prefix(loaded, task)}{one.name}" for task in loaded.tasks for one in WATCHED]
    need_known(settings.gates, [PSI, MISSING, UNKNOWN, SKEW, *names])
    with run_folder(out, "monitor") as run:
        on_step(0, 1, "reading")
        rows = rows_of_log(loaded, data)
        if settings.segment is not None:
            require_columns(rows.table, [settings.segment], rows.file)
        judge = Judge(loaded, rows, settings.columns, settings.confidence)
        parts = [*periods_of(loaded, rows, settings.by)]
        told = [] if parts else ["The log has no times that can be read, so there are no periods."]
        segments = [*_segments(rows.table, settings.segment)]
        steps = len(parts) + len(segments) + 1
        whole = judge.judge(ALL, np.arange(rows.table.height))
        judged = []
        for done, (name, of) in enumerate([*parts, *segments], 1):
            on_step(done, steps, name)
            judged.append(judge.judge(name, of))
        result = MonitorResult(
            name_of_model(model),
            rows.file or "a table in memory",
            whole,
            tuple(judged[: len(parts)]),
            tuple(judged[len(parts) :]),
            _gates(settings, loaded, whole),
            (*rows.notes, *told),
        )
        run.write(settings, result)
    return result


def _prefix(model: Model, task: str) -> str:
    """What begins the names of a task's metrics: nothing for those of the first."""
    return "" if task == model.tasks[0] else f"{task}/"


def _segments(table: Any, column: str | None) -> Iterator[tuple[str, Any]]:
    """The most frequent values of a column, and their rows."""
    if column is None:
        return
    values = values_as_text(table[column]).fill_null("missing")
    for value in values.value_counts(sort=True).head(_MOST)[values.name].to_list():
        yield value, (values == value).arg_true().to_numpy().astype(np.int64)


def _gates(settings: MonitorConfig, model: Model, whole: Period) -> tuple[GateOutcome, ...]:
    measured: dict[str, MetricInterval | float | None] = {
        f"{_prefix(model, task)}{name}": value
        for task, of in whole.measured.items()
        for name, value in of.intervals.items()
    }
    counted = [one.psi for one in whole.drifts or () if one.column not in settings.ignore]
    measured[PSI] = max(counted, default=None)
    lacking = [share for name, share in whole.missing.items() if name not in settings.ignore]
    measured[MISSING] = max(lacking, default=None)
    shares = [
        one.evaluated - (one.training or 0.0) for one in whole.unknown if one.column not in settings.ignore
    ]
    measured[UNKNOWN] = max(shares, default=None)
    measured[SKEW] = max((one.largest for one in whole.skew.values()), default=None)
    usual = {name: gate for name, gate in USUAL.items() if measured.get(name) is not None}
    # By default what may be noise breaks no gate.
    told = {
        name: gate
        if "beyond_noise" in gate.model_fields_set
        else gate.model_copy(update={"beyond_noise": True})
        for name, gate in {**usual, **settings.gates}.items()
    }
    noisy = [name for name in (PSI, MISSING, UNKNOWN) if name in told and whole.rows < LEAST]
    few = f"{whole.rows:,} rows are too few: a gate on shares needs {LEAST:,}"
    held = [GateOutcome(name, True, None, f"{name} is not judged, as {few}") for name in noisy]
    return (*held, *check_gates({name: one for name, one in told.items() if name not in noisy}, measured))


def _of_task(task: str, parts: Sequence[Period], by: str) -> Table:
    first = "period" if by == "by period" else "value"
    header = (first, "rows", "with label", "predicted", "observed", "PCOC", "NE", "AUC")
    rows: list[tuple[Value, ...]] = []
    for one in parts:
        intervals = one.measured[task].intervals if task in one.measured else {}
        pcoc, entropy, auc = (intervals.get(name) for name in ("pcoc", "normalized_entropy", "auc"))
        rows.append(
            (
                one.name,
                one.rows,
                one.known[task],
                one.predicted[task],
                one.observed.get(task),
                None if pcoc is None else interval(pcoc.to_dict()),
                None if entropy is None else entropy.value,
                None if auc is None else auc.value,
            )
        )
    return Table(f"{task} {by}", header, tuple(rows))


def _drifts(whole: Period) -> Table:
    shown = (whole.drifts or ())[:_MOST]
    header = ("column", "PSI", "noise", "level", "largest change", "share in training", "share now")
    rows = tuple(
        (one.column, one.psi, one.noise, one.level, one.largest, one.training, one.evaluated) for one in shown
    )
    return Table("Drift since training", header, rows)


def _drift_by_period(parts: Sequence[Period]) -> Table:
    rows = tuple(
        (one.name, one.psi.column, one.psi.psi, one.psi.noise) for one in parts if one.psi is not None
    )
    return Table("Largest drift by period", ("period", "column", "PSI", "noise"), rows)


def _values(whole: Period) -> Table:
    beyond = {one.column: one.evaluated - (one.training or 0.0) for one in whole.unknown}
    rows = tuple(
        (name, share, beyond.get(name), whole.shift.get(name)) for name, share in whole.missing.items()
    )
    header = ("column", "missing rows", "unknown ids", "shift of the mean, in scales")
    return Table("Values beyond training", header, rows)


def _money(parts: Sequence[Period]) -> Table:
    names = tuple(dict.fromkeys(name for one in parts for name in one.money))
    rows = tuple((one.name, *(one.money.get(name) for name in names)) for one in parts)
    return Table("Clicks and money by period", ("period", *(name.replace("_", " ") for name in names)), rows)


def _skew(whole: Period) -> Table:
    rows = tuple((task, one.rows, one.mean, one.largest) for task, one in whole.skew.items())
    return Table("Served minus the model's", ("task", "rows", "mean", "largest"), rows)


def _of_column(part: Period, column: str) -> float:
    found = [one.psi for one in part.drifts or () if one.column == column]
    return found[0] if found else float("nan")
