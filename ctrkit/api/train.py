"""`ctrkit train`: a table and a feature spec in, an artifact and a run folder out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.before_training import Notes, check_sample_columns
from ctrkit.api.models.model import Model
from ctrkit.api.models.task_metrics import task_metrics
from ctrkit.api.models.trained_network import NetworkTraining, last_layer_posterior, teacher_logits
from ctrkit.api.models.training_config import TrainConfig, load_train_config, read_training_table
from ctrkit.api.models.training_rows import training_rows
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.artifact import Artifact, versions
from ctrkit.config import ConfigLike
from ctrkit.models import ModelConfig
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Drawings, Report, Table
from ctrkit.reports.cells import text
from ctrkit.reports.figures import training_curve
from ctrkit.settings import content_of
from ctrkit.tables import TableLike, check_writable, write_text
from ctrkit.training import TrainingHistory


@dataclass(frozen=True)
class TrainingResult(Result):
    """What training gave: the artifact, and metrics on the test rows before calibration.

    Attributes:
        model: the path of the artifact; None where it was not written.
        found: the settings of the model that a search ended with; empty where nothing was searched.
        notes: what else to tell of the run.
    """

    model: str | None
    data: str
    rows: dict[str, Any]
    metrics: dict[str, dict[str, float | None]]
    history: TrainingHistory
    found: dict[str, Any]
    notes: tuple[str, ...]
    artifact: Artifact = field(repr=False)

    @cached_property
    def trained(self) -> Model:
        """The model, ready to use."""
        return Model(self.artifact)

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "rows": self.rows,
            "metrics": self.metrics,
            "resumed": self.history.resumed,
            "found": self.found,
            "notes": list(self.notes),
            "validations": self.history.events,
        }

    def report(self) -> Report:
        names = list(dict.fromkeys(name for task in self.metrics.values() for name in task))
        rows = tuple((task, *map(values.get, names)) for task, values in self.metrics.items())
        table = Table("Test rows, before calibration", ("task", *names), rows)
        first, values = next(iter(self.metrics.items()), ("", {}))
        score = "no AUC" if values.get("auc") is None else f"AUC of {first} {text(values['auc'])}"
        answer = f"{self.model or 'The model'}: {score} on the test rows."
        undefined = tuple(
            f"{name} of {task} is undefined on the test rows: no group holds both labels."
            for task, values in self.metrics.items()
            for name, value in values.items()
            if value is None
        )
        resumed = ("The run went on from its last checkpoint.",) if self.history.resumed else ()
        found = (f"The search ended with {json.dumps(self.found)}.",) if self.found else ()
        told = (*undefined, *resumed, *found, *self.notes)
        notes = (f"Trained on {self.data}.", _split_note(self.rows), *told)
        return Report("Training", answer, (table,), notes)

    def figures(self) -> Drawings:
        return {"training_curve": partial(training_curve, self.history.events, self.history.monitor)}


def _split_note(rows: Mapping[str, Any]) -> str:
    how = "by time" if rows["by"] == "time" else "at random"
    counts = ", ".join(f"{rows[part]:,} {part}" for part in ("train", "valid", "test"))
    return f"Rows: {counts}, split {how}."


@takes_settings(TrainConfig)
def train(
    config: ConfigLike = None,
    data: TableLike | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    on_step: OnStep = silent,
    **keywords: Any,
) -> TrainingResult:
    """Train a model.

    A run with a folder that was killed goes on from its last checkpoint when it is started again with the
    same data, run folder and config, of which only what does not decide the weights may differ: how long to
    train, the policy, the paths. What fails after the training (a metric, the posterior) leaves a gap that
    the notes tell of, and the artifact is made all the same.

    Args:
        config: also the name of a config that ships with ctrkit; by default that of the sample logs, which
            then must fit the data, unless `features` are given.
        data: the table (path or frame), before the config's own; by default the sample log.
        model: where the artifact goes; None for nowhere, as the result holds it.
        out: the run folder; None for none.
        on_step: called with (steps done, steps in all, what is going on).

    Raises:
        ConfigError, DataError: a faulty config or table, or a model that cannot be written there.
        RunError: training did not come as far as a first validation.

    Example:
        >>> import ctrkit
        >>> result = ctrkit.train(network={"name": "lr"}, training={"epochs": 1})
        >>> result.metrics["click"]["auc"] > 0.5
        True
        >>> model = result.trained  # ready to predict
    """
    settings = load_train_config(config, overrides, keywords)
    if model is not None:
        check_writable(model)
    with run_folder(out, "train") as run:
        table, file = read_training_table(settings, data)
        notes = Notes()
        if config is None and "features" not in keywords and data is not None:
            sample = load_train_config(None).features
            notes.append(check_sample_columns(settings.features, sample, table, file))
        rows = training_rows(settings, table, file, notes)
        taught = teacher_logits(settings, table)
        home = run.begin()
        training = NetworkTraining(settings, rows, home, notes, on_step, taught)
        found: dict[str, Any] = {}
        if settings.model.searches:
            derived = training.search()
            found = _changes(settings.model, derived)
            settings = settings.model_copy(update={"model": derived})
        network, history = training.train(settings.model)
        metrics = notes.attempt("metric of the test rows", lambda: task_metrics(network, rows)) or {}
        artifact = Artifact(
            config=settings.model_dump(mode="json"),
            feature_map=rows.encoder.feature_map().to_dict(),
            encoder=rows.encoder.state(),
            weights=network.arrays(),
            posterior=notes.attempt("posterior", lambda: last_layer_posterior(network, rows).state()),
            policy=content_of(settings.policy),
            data=rows.describe(notes),
            metrics={"train": metrics},
            versions=versions(),
        )
        if model is not None:
            artifact.save(model)
        result = TrainingResult(
            None if model is None else os.fspath(model),
            file or "a table in memory",
            rows.split.describe(),
            metrics,
            history,
            found,
            tuple(notes),
            artifact,
        )
        if home is not None:
            events = "".join(json.dumps(event) + "\n" for event in history.events)
            write_text(events, home / "events.jsonl")
        run.write(artifact.config, result)
        training.remove_checkpoints()
    return result


def _changes(before: ModelConfig, after: ModelConfig) -> dict[str, Any]:
    """The settings that a search changed."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {key: value for key, value in new.items() if value != old[key]}
