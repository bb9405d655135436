"""`ctrkit train`: from a table and a feature spec to an artifact and a run folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ctrkit.api.inspect import LOOKED, columns_table, config_or_inspected
from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.before_training import Notes, check_sample_columns
from ctrkit.api.models.folds import FoldMetric, fold_metrics, folds_table
from ctrkit.api.models.maturity import maturity_table
from ctrkit.api.models.model import Model
from ctrkit.api.models.stored_rows import config_of, is_large, prepared, stored_rows
from ctrkit.api.models.task_metrics import task_metrics
from ctrkit.api.models.trained_network import NetworkTraining, teacher_logits
from ctrkit.api.models.training_config import (
    TrainConfig,
    load_train_config,
    read_training_table,
)
from ctrkit.api.models.training_rows import TrainingRows, training_rows
from ctrkit.api.results import Result
from ctrkit.api.run_folder import RunFolder, run_folder
from ctrkit.artifact import Artifact, versions
from ctrkit.config import ConfigLike
from ctrkit.data.delays import Maturity
from ctrkit.data.store import is_store, open_store
from ctrkit.inspection import InspectedColumn
from ctrkit.models import ScorerConfig
from ctrkit.progress import OnStep, silent, stage
from ctrkit.reports import Drawings, Report, Table
from ctrkit.reports.cells import Value, share, text
from ctrkit.reports.figures import training_curve
from ctrkit.settings import content_of
from ctrkit.tables import TableLike, check_writable, write_text
from ctrkit.training import TrainingHistory

# In the run folder, where a table is too large to be read whole.
PREPARED = "prepared"


@dataclass(frozen=True)
class TrainingResult(Result):
    """The result of training: the artifact, and metrics on the test rows before calibration.

    Attributes:
        model: the path of the artifact; None where it was not written.
        data: name of the training table.
        rows: how the rows were divided.
        metrics: task -> metric -> value on the test rows; None for an undefined metric.
        unknown: field or sequence -> part of the rows (train, valid, test) -> share of ids that are unknown
            to the model.
        history: the validations during training.
        found: the settings that a search has found; empty where nothing was searched.
        notes: notes for the user.
        artifact: the artifact itself.
        columns: what each column was taken for, where no config was given.
        folds: task -> metric -> its values over all folds; empty where rows were divided once. With folds,
            all else is of the first.
        maturity: what is known of each label that comes late.
    """

    model: str | None
    data: str
    rows: dict[str, Any]
    metrics: dict[str, dict[str, float | None]]
    unknown: dict[str, dict[str, float]]
    history: TrainingHistory
    found: dict[str, Any]
    notes: tuple[str, ...]
    artifact: Artifact = field(repr=False)
    columns: tuple[InspectedColumn, ...] = ()
    maturity: tuple[Maturity, ...] = ()
    folds: dict[str, dict[str, FoldMetric]] = field(default_factory=dict)

    @property
    def _number_of_folds(self) -> int:
        return max((len(one.values) for of in self.folds.values() for one in of.values()), default=0)

    @cached_property
    def trained(self) -> Model:
        """The model, ready to use."""
        return Model(self.artifact)

    @property
    def sampled_metrics(self) -> bool:
        """Whether the negatives of the test rows are sampled."""
        return self.artifact.config["sampling"]["negatives"] is not None

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "rows": self.rows,
            "metrics": self.metrics,
            "sampled_metrics": self.sampled_metrics,
            "unknown": self.unknown,
            "resumed": self.history.resumed,
            "found": self.found,
            "notes": list(self.notes),
            "validations": self.history.events,
            "columns": [{"name": one.name, "role": one.role, "why": one.why} for one in self.columns],
            "folds": {
                task: {name: one.to_dict() for name, one in of.items()} for task, of in self.folds.items()
            },
            "delays": {one.task: one.to_dict() for one in self.maturity},
        }

    def report(self) -> Report:
        names = list(dict.fromkeys(name for task in self.metrics.values() for name in task))
        rows = tuple((task, *map(values.get, names)) for task, values in self.metrics.items())
        which = "Test rows with sampled negatives" if self.sampled_metrics else "Test rows"
        tables = (Table(f"{which}, before calibration", ("task", *names), rows), *_unknown(self.unknown))
        if self.maturity:
            tables = (*tables, maturity_table(self.maturity))
        if self.folds:
            tables = (folds_table(self.folds, self._number_of_folds), *tables)
        if self.columns:
            tables = (*tables, columns_table(self.columns))
        first, values = next(iter(self.metrics.items()), ("", {}))
        score = "no AUC" if values.get("auc") is None else f"AUC of {first} {text(values['auc'])}"
        answer = f"{self.model or 'The model'}: {score} on the test rows."
        if self.folds:
            over = self.folds[first]["auc"].mean if "auc" in self.folds.get(first, {}) else None
            mean = (
                "" if over is None else f" AUC of {first} over {self._number_of_folds} folds: {text(over)}."
            )
            answer = f"{self.model or 'The model'} is the model of fold 0.{mean}"
        undefined = tuple(
            f"{name} of {task} is undefined on the test rows: no group has both labels."
            for task, values in self.metrics.items()
            for name, value in values.items()
            if value is None
        )
        resumed = ("The run resumed from its last checkpoint.",) if self.history.resumed else ()
        found = (f"The search has found {json.dumps(self.found)}.",) if self.found else ()
        late = tuple(sentence for one in self.maturity for sentence in one.sentences)
        told = (*undefined, *resumed, *found, *late, *self.notes)
        notes = (f"Trained on {self.data}.", _split_note(self.rows), *told)
        return Report("Training", answer, tables, notes)

    def figures(self) -> Drawings:
        history = self.history
        best = history.best[history.unit]
        return {"training_curve": partial(training_curve, history.events, best, history.unit)}


def _unknown(unknown: Mapping[str, Mapping[str, float]]) -> tuple[Table, ...]:
    """The columns that have ids unknown to the model."""
    parts = {"train": "training rows", "valid": "validation rows", "test": "test rows"}
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (name, *(share(shares[part]) for part in parts))
        for name, shares in unknown.items()
        if any(shares.values())
    )
    return (Table("Ids that are unknown to the model", ("column", *parts.values()), rows),) if rows else ()


def _split_note(rows: Mapping[str, Any]) -> str:
    how = "at random" if rows["by"] == "random" else f"by {rows['by']}"
    counts = ", ".join(f"{rows[part]:,} {part}" for part in ("train", "valid", "test"))
    return f"Rows: {counts}, split {how}."


@takes_settings(TrainConfig)
def train(
    config: ConfigLike = None,
    data: TableLike | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    prepare_data: bool = False,
    folds: int | None = None,
    overrides: Sequence[str] = (),
    on_step: OnStep = silent,
    **keywords: Any,
) -> TrainingResult:
    """Train a model.

    A killed run with a run folder resumes from its last checkpoint when it is started again with the same
    data, folder and config. Only settings that do not affect the weights may change: the length of training,
    the policy, paths. If a metric or the posterior fails after training, the artifact is made without it and
    a note says so.

    Args:
        config: the settings, also the name of a config that ships with ctrkit. By default it is the config of
            the sample logs where the data have their columns, and else what `ctrkit.inspect` finds, unless
            `features` are given.
        data: the table (path or frame) or the folder of `ctrkit.prepare`, in place of the config's own; by
            default the sample log. The folder brings its config, unless another is given.
        model: path of the artifact; None to write none (the result holds the artifact).
        out: the run folder; None to write no folder.
        prepare_data: whether the data are prepared in the run folder (see `ctrkit.prepare`) in any case.
            Files of more than 256 MiB are, unless neither they nor the settings have changed since.
        folds: number of folds, for cross-validation (`split.folds`): a model is trained for each fold, and
            judged on its test rows, and metrics get means and intervals over folds. Each fold has a folder in
            the run folder. The artifact and the other results are those of the first fold.
        overrides: `key.path=value` strings, laid over the config.
        on_step: called with (steps done, number of steps, what is being done).
        keywords: settings, laid over the config and the overrides.

    Raises:
        ConfigError: the config is faulty, or the artifact cannot be written to `model`.
        DataError: the table is faulty.
        RunError: training failed before the first validation.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])  # impressions
        >>> result = ctrkit.train(data=rows[:5_000], network={"name": "lr"})
        >>> result.metrics["click"]["auc"] > 0.5
        True
        >>> model = result.trained  # ready to predict
    """
    if model is not None:
        check_writable(model)
    if folds is not None:
        overrides = (*overrides, f"split.folds={folds}", "split.fold=null")
    with run_folder(out, "train") as run:
        unsaid = config is None and "features" not in keywords
        config = config_of(data) if unsaid else config
        config, looked = config_or_inspected(config, data, overrides, keywords)
        settings = load_train_config(config, overrides, keywords)
        notes = Notes()
        if settings.unread:
            notes.append(
                f"The model '{settings.model.name}' takes no gradient steps, so it does not read"
                f" {', '.join(settings.unread)} of the config, which was written for another model."
            )
        if looked is not None:
            notes.append(LOOKED)
        if settings.split.all_folds:
            result = _over_folds(settings, data, model, run, on_step, prepare=prepare_data)
            told = tuple(note for note in notes if note not in result.notes)
            columns = () if looked is None else looked.columns
            result = replace(result, notes=(*told, *result.notes), columns=columns)
            run.write(settings.to_dict(), result)
            return result
        folder = None if out is None else Path(out) / PREPARED
        unsaid = unsaid and looked is None
        rows = _rows(settings, data, folder, notes, on_step, prepare=prepare_data, unsaid=unsaid)
        taught = teacher_logits(settings, rows)
        home = run.begin()
        training = NetworkTraining(settings, rows, home, notes, on_step, taught)
        derived = training.search()
        found = _changes(settings.model, derived)
        settings = settings.model_copy(update={"model": derived})
        network, history = training.train(settings.model)
        metrics = notes.attempt("metric of the test rows", lambda: task_metrics(network, rows)) or {}
        posterior = notes.attempt("posterior", lambda: training.posterior(network))
        artifact = Artifact(
            config=settings.to_dict(),
            feature_map=rows.encoder.feature_map().to_dict(),
            encoder=rows.encoder.state(),
            weights=network.arrays(),
            posterior=None if posterior is None else posterior.state(),
            policy=content_of(settings.policy),
            data=rows.describe(notes),
            metrics={"train": metrics},
            versions=versions(),
        )
        if model is not None:
            artifact.save(model)
        result = TrainingResult(
            None if model is None else os.fspath(model),
            rows.file or "a table in memory",
            rows.split.describe(),
            metrics,
            rows.unknown,
            history,
            found,
            tuple(notes),
            artifact,
            () if looked is None else looked.columns,
            rows.maturity,
        )
        if home is not None:
            events = "".join(json.dumps(event) + "\n" for event in history.events)
            write_text(events, home / "events.jsonl")
        run.write(artifact.config, result)
        training.remove_checkpoints()
    return result


def _over_folds(
    settings: TrainConfig,
    data: TableLike | None,
    model: str | os.PathLike[str] | None,
    run: RunFolder,
    on_step: OnStep,
    *,
    prepare: bool,
) -> TrainingResult:
    """The training of the first fold, with the metrics of all."""
    home, count = run.begin(), settings.split.folds
    assert count is not None

    def trained(fold: int) -> TrainingResult:
        content = settings.to_dict()
        content["split"]["fold"] = fold
        return train(
            content,
            data,
            model=model if fold == 0 else None,
            out=None if home is None else home / f"fold-{fold}",
            prepare_data=prepare,
            on_step=stage(on_step, fold, count, f"fold {fold}"),
        )

    first = trained(0)
    others = [trained(fold).metrics for fold in range(1, count)]
    note = (
        "Intervals are over folds. Folds share training rows, so an interval is approximate, and rather too"
        " short; all other results are those of fold 0."
    )
    return replace(first, notes=(*first.notes, note), folds=fold_metrics([first.metrics, *others]))


def _rows(
    settings: TrainConfig,
    data: TableLike | None,
    folder: Path | None,
    notes: Notes,
    on_step: OnStep,
    *,
    prepare: bool,
    unsaid: bool,
) -> TrainingRows:
    """The rows of a training, on disk or in memory.

    Args:
        settings: the settings.
        data: the table or the folder of prepared rows; None for the config's own.
        folder: where the rows of a large table are prepared; None to read every table whole.
        notes: receives the notes.
        on_step: called with (rows or bytes done, their number, what is being done).
        prepare: whether rows are prepared in any case.
        unsaid: whether no config says what the columns mean.
    """
    place = settings.data if data is None else data
    if is_store(place):
        return stored_rows(settings, open_store(place), notes)
    if folder is not None and (prepare or is_large(place)):
        return stored_rows(settings, prepared(settings, data, folder, notes, on_step, again=prepare), notes)
    table, file = read_training_table(settings, data)
    if unsaid and data is not None:
        sample = load_train_config(None).features
        notes.append(check_sample_columns(settings.features, sample, table, file))
    return training_rows(settings, table, file, notes)


def _changes(before: ScorerConfig, after: ScorerConfig) -> dict[str, Any]:
    """The settings that a search changed."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {key: value for key, value in new.items() if value != old[key]}
