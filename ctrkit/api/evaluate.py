"""`ctrkit evaluate`: how good a model is on labelled rows, where it fails, and whether one can bid on it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import polars as pl
from pydantic import Field

from ctrkit.api.evaluation.methods import MethodComparison, compare_trainings, is_config
from ctrkit.api.evaluation.report import evaluation_figures, evaluation_report
from ctrkit.api.evaluation.rows import (
    HeldOut,
    by_task,
    divisions_of,
    drift_since_training,
    held_out_rows,
    seen_by_other,
    unknown_since_training,
)
from ctrkit.api.evaluation.value import GATED, ValueEvaluation, evaluate_values
from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.labelled import columns_of
from ctrkit.api.models.leakage import BOTH
from ctrkit.api.models.model import Model, load
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.config import Config, ConfigLike, settings_of
from ctrkit.errors import ConfigError, DataError, arguments_named
from ctrkit.evaluation.drift import Drift
from ctrkit.evaluation.gates import GateOutcome, MetricGate, check_gates, need_known
from ctrkit.evaluation.measures import MEASURES, EvaluationWarning
from ctrkit.evaluation.task import EvaluationSettings, TaskEvaluation, evaluate_task
from ctrkit.evaluation.unknown import UnknownShare
from ctrkit.metrics import MetricInterval
from ctrkit.metrics.business import business
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Drawings, Report
from ctrkit.schema import FeatureSpec, require_columns
from ctrkit.schema.features import VALUE
from ctrkit.tables import TableLike

# The gate on drift: the largest population stability index of any column.
DRIFT = "psi"
_DIFFERENCE = "difference"
_ARTIFACTS = (
    "The differences are those of two artifacts, not of two methods: two trainings of one method with other "
    "seeds differ too, often with a small p-value."
)
_ADD_SEEDS = "To compare the methods, add `--seeds 5`."
_METHODS = (
    "Both methods were trained {seeds} times, each time with another seed, on the model's training rows. The "
    "interval over seeds is for other seeds and the same test rows; the interval over rows is for other test "
    "rows and the same networks. Neither is for other training rows. Metrics are those before calibration."
)
_BIASED = (
    "Noise makes ECE, MCE, ACE, KS and smooth ECE too large. Their intervals are corrected for it, their "
    "values are not: a value above its interval is mostly noise. debiased_ece has no such bias."
)


# An artifact or, with `seeds`, also a training config: its path, or in memory.
Against: TypeAlias = "str | os.PathLike[str] | Model | Config | Mapping[str, Any] | None"


class EvaluateConfig(EvaluationSettings):
    """What to evaluate, and the gates that stop a pipeline.

    Attributes:
        fields: columns whose values calibration is shown by; by default the spec's categorical features.
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
            self.value,
        )  # fmt: skip

    def figures(self) -> Drawings:
        return evaluation_figures(self.model, self.against, self.tasks, self.drifts) if self.drawn else {}


@takes_settings(EvaluateConfig)
def evaluate(
    model: str | os.PathLike[str] | Model = "model.pt",
    data: TableLike | None = None,
    *,
    against: Against = None,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    gate: bool = False,
    on_step: OnStep = silent,
    **keywords: Any,
) -> EvaluationResult:
    """Evaluate a model on labelled rows.

    Of the table that the model was trained on, the test rows are evaluated; of any other table, all rows.
    Each task is measured on the rows where it can happen (conversions on clicked rows), and the product of
    all tasks on all rows. Expected values are measured on converted rows, and those of an impression on all
    rows. Rows of one group are treated as dependent.

    Args:
        model: an artifact's path, or a model in memory.
        data: a labelled table; by default the table that the model was trained on.
        against: a second artifact, compared with the first on the same rows. The difference is that of two
            artifacts: two trainings of one method differ too. With `seeds` both methods are trained again and
            compared, and a training config will do.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.
        out: the run folder; None for none.
        gate: whether the config must have gates; `result.broken` holds those that broke.
        on_step: called with (steps done, number of steps, what is being done).

    Raises:
        ConfigError: unknown metrics in gates, `gate` is set and the config has no gates, `seeds` without
            `against`, or a config as `against` without `seeds`.
        DataError: a faulty table, one class only, a second model with other tasks, or, with `seeds`, a table
            that is not the training table.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])  # impressions
        >>> model = ctrkit.train(data=rows[:5_000], network="lr", training={"epochs": 1}).trained
        >>> result = ctrkit.evaluate(model, rows[5_000:15_000], gates={"auc": {"minimum": 0.5}}, draws=50)
        >>> [gate.held for gate in result.gates]
        [True]
    """
    settings = settings_of(EvaluateConfig, config, overrides, keywords)
    if gate and not settings.gates:
        raise ConfigError(
            "there are no gates to hold the model against",
            hint="Add for example --set gates.auc.minimum=0.6, or `gates` in the config",
        )
    with run_folder(out, "evaluate") as run:
        result = _evaluated(model, data, against, settings, on_step)
        run.write(settings, result)
    return result


def _evaluated(
    model: str | os.PathLike[str] | Model,
    data: TableLike | None,
    against: Against,
    settings: EvaluateConfig,
    on_step: OnStep,
) -> EvaluationResult:
    loaded = model if isinstance(model, Model) else load(model)
    _check_seeds(settings, against)
    second = _opened(against)
    if second is not None and second.tasks != loaded.tasks:
        raise DataError(
            f"the model predicts {', '.join(loaded.tasks)}, and the one to compare with predicts"
            f" {', '.join(second.tasks)}",
            hint="Compare models with the same tasks",
        )
    of_value = () if loaded.spec.value is None else GATED
    need_known(settings.gates, [*_gate_names(loaded.tasks, second is not None), *of_value])
    methods = None
    if settings.seeds is not None and against is not None:
        seeds = tuple(range(settings.seed, settings.seed + settings.seeds))
        other = against if second is None else second
        methods = compare_trainings(loaded, other, data, seeds, settings.confidence, on_step)
    steps = len(loaded.tasks) + 3
    on_step(0, steps, "reading")
    rows = held_out_rows(loaded, data)
    fields = settings.fields or tuple(feature.name for feature in loaded.spec.categorical)
    require_columns(rows.table, fields, rows.file)
    money = _business(rows, loaded.spec, settings.columns)
    drifts, undrifted = drift_since_training(loaded, rows)
    unknown = unknown_since_training(loaded, rows)
    divisions, uncounted = divisions_of(loaded, rows, settings.parts)
    leaked = () if second is None else seen_by_other(second, rows.table, rows.file)
    of_methods = _ADD_SEEDS if methods is None else _METHODS.format(seeds=settings.seeds)
    compared = () if against is None else (of_methods,) if second is None else (_ARTIFACTS, of_methods)
    notes = [*rows.notes, *compared, _BIASED, *leaked, *undrifted, *uncounted]
    on_step(1, steps, "predicting")
    tasks: dict[str, TaskEvaluation] = {}
    labels = loaded.spec.labels
    for done, (name, of_task) in enumerate(by_task(loaded, second, rows, fields, divisions)):
        on_step(2 + done, steps, name)
        positives, size = int(of_task.labels.sum()), of_task.labels.size
        effective = of_task.effective_positives
        if done and positives in (0, size):
            doubt = f"{name}: left out, as {'all' if positives else 'none'} of its {size:,} rows are positive"
        elif effective < settings.fit.minimum_positives:
            least = settings.fit.minimum_positives
            few = f"{positives} positive rows"
            if effective < positives - 0.5:
                few += f", which by weight count as {effective:.1f},"
            doubt = f"{name}: {few} are too few, metrics are mostly noise; at least {least} are needed"
        else:
            doubt = None
        if doubt is not None:
            warnings.warn(doubt, EvaluationWarning, stacklevel=2)
            notes.append(f"{doubt}.")
        if not done or 0 < positives < size:
            columns = {"labels": labels.get(name), **columns_of(loaded)}
            with arguments_named(columns, rows.file):
                tasks[name] = evaluate_task(name, of_task, drifts, settings, rows.leaks[name], unknown)
            notes += _undefined(tasks[name])
    value = evaluate_values(loaded, rows, settings.confidence)
    if value is not None:
        notes += value.notes(loaded.tasks[-1], settings.fit.minimum_positives)
    gated = {**_gate_values(tasks, drifts), **({} if value is None else value.by_name)}
    on_step(steps, steps, "writing")
    return EvaluationResult(
        _name(model),
        None if second is None else _name(against),
        rows.file or "a table in memory",
        tasks,
        drifts,
        unknown,
        money,
        check_gates(settings.gates, gated),
        methods,
        tuple(notes),
        settings.figures,
        value,
    )


def _business(rows: HeldOut, spec: FeatureSpec, columns: Mapping[str, str]) -> dict[str, float]:
    """Clicks and money in the log, where each row is an impression. Values are the revenue."""
    counted = {f"{task}s": name for task, name in spec.labels.items() if task in ("click", "conversion")}
    table = rows.table
    if spec.value is not None and rows.values is not None:
        # Rows whose last label is 0 may hold anything there.
        counted["revenue"], table = spec.value, table.with_columns(pl.Series(spec.value, rows.values))
    found = business(table, "impressions", {**counted, **columns}, rows.weight).to_dict()
    return {name: value for name, value in found.items() if value is not None}


def _undefined(found: TaskEvaluation) -> list[str]:
    """Notes on the metrics that could not be measured for a task; each reason is stated once."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in found.measured.reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return [
        f"{found.task}: {', '.join(names)} could not be measured: {reason}."
        for reason, names in by_reason.items()
    ]


def _gate_names(tasks: Sequence[str], compared: bool) -> list[str]:
    """The names of all metrics that a gate can be on."""
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


def _check_seeds(settings: EvaluateConfig, against: Against) -> None:
    """Check that seeds come with another method, and a config as the other method with seeds."""
    if settings.seeds is not None and against is None:
        raise ConfigError(
            "seeds are for the comparison of two methods, and there is one",
            hint="Name the other artifact, or its config, as --against",
        )
    if settings.seeds is None and is_config(against):
        raise ConfigError(
            "the other model is given as a config, which has no predictions",
            hint="Add --seeds 5, to train both methods and compare them, or give an artifact",
        )


def _opened(against: Against) -> Model | None:
    """The other artifact; None where there is none, or where the other method is a config."""
    if isinstance(against, Model):
        return against
    return load(against) if isinstance(against, str | os.PathLike) and not is_config(against) else None


def _name(model: Against) -> str:
    return os.fspath(model) if isinstance(model, str | os.PathLike) else "a model in memory"
