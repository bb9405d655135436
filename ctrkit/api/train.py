"""`ctrkit train`: a table and a feature spec in, an artifact and a run folder out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, SerializeAsAny
from scipy.special import expit

from ctrkit.api.models.before_training import Notes, check_labels, check_sample_columns, group_notes
from ctrkit.api.models.model import load
from ctrkit.api.models.profile import training_profile
from ctrkit.api.results import Result
from ctrkit.api.run_folder import begin_run, write_run, writes_run
from ctrkit.api.sample_logs import bundled
from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.artifact import Artifact, versions
from ctrkit.config import Config, build, read_yaml
from ctrkit.data.encoder import EncodedTable, Encoder, require_columns
from ctrkit.data.fingerprints import seen_state, times_digest
from ctrkit.data.sources import read_source
from ctrkit.data.split import Split, SplitConfig, split_rows
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics import auc, ece, gauc, log_loss, normalized_entropy, pcoc
from ctrkit.models import CtrModel, ModelConfig, build_model
from ctrkit.models import model_config as config_of_model
from ctrkit.policies import PolicyConfig
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.reports import Report, Table
from ctrkit.reports.figures import training_curve
from ctrkit.schema import FeatureSpec
from ctrkit.tables import TableLike, check_writable, name_of, write_text
from ctrkit.training import TrainingConfig, TrainingHistory, fit, predict
from ctrkit.training.loop import OnStep


def _model(content: Any) -> ModelConfig:
    """The config of the model that `name` names, so that its own keys are checked."""
    if isinstance(content, ModelConfig):
        return content
    if not isinstance(content, Mapping):
        raise ValueError("a model is a mapping with a `name`")
    return config_of_model(content)


class TrainConfig(Config):
    """A training run.

    Attributes:
        data: the table, or the folder of a `source`.
        source: a public data set that `ctrkit.data.sources` reads; without it `data` is a table.
        policy: what the artifact does when it decides, for off-policy evaluation and bidding.
    """

    data: str | None = None
    source: str | None = None
    features: FeatureSpec
    split: SplitConfig = SplitConfig()
    model: Annotated[SerializeAsAny[ModelConfig], BeforeValidator(_model)] = Field(
        default_factory=lambda: config_of_model({"name": "mdaf"})
    )
    training: TrainingConfig = TrainingConfig()
    policy: PolicyConfig = PolicyConfig()
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class TrainingResult(Result):
    """What training gave: where the artifact lies, and metrics on the test rows before calibration.

    Attributes:
        found: the settings of the model that a search ended with; empty where nothing was searched.
        notes: what else to tell of the run.
    """

    model: str
    data: str
    rows: dict[str, Any]
    metrics: dict[str, dict[str, float | None]]
    history: TrainingHistory
    found: dict[str, Any]
    notes: tuple[str, ...] = ()

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
        rows = tuple(
            (task, *("–" if (value := values.get(name)) is None else f"{value:,.4g}" for name in names))
            for task, values in self.metrics.items()
        )
        table = Table("Test rows, before calibration", ("task", *names), rows)
        first, values = next(iter(self.metrics.items()), ("", {}))
        score = f"AUC of {first} {values['auc']:.4f}" if values.get("auc") is not None else "no AUC"
        answer = f"{self.model}: {score} on the test rows."
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
        return Report(
            "Training",
            answer,
            (table,),
            (training_curve(self.history.events, self.history.monitor),),
            notes,
        )


def _split_note(rows: Mapping[str, Any]) -> str:
    how = "by time" if rows["by"] == "time" else "at random"
    counts = ", ".join(f"{rows[part]:,} {part}" for part in ("train", "valid", "test"))
    return f"Rows: {counts}, split {how}."


def load_train_config(
    config: TrainConfig | Mapping[str, Any] | str | os.PathLike[str] | None,
    overrides: Sequence[str] = (),
) -> TrainConfig:
    """A training config from an object, a mapping, a YAML file or, by name, one that ships with ctrkit."""
    if isinstance(config, TrainConfig):
        return build(TrainConfig, config.model_dump(mode="json"), overrides=overrides)
    if isinstance(config, Mapping):
        return build(TrainConfig, dict(config), overrides=overrides)
    path = Path(config) if config is not None else bundled("configs", "sample.yaml")
    if not path.exists() and bundled("configs", f"{path}.yaml").is_file():
        path = bundled("configs", f"{path}.yaml")
    return build(TrainConfig, read_yaml(path), path, overrides)


def read_training_table(config: TrainConfig, data: TableLike | None) -> tuple[pl.DataFrame, str | None]:
    """The raw table of a config, and its name for messages; `data` goes before the config's own path."""
    place = data if data is not None else config.data
    if config.source is not None:
        if place is None:
            raise ConfigError(
                f"the source '{config.source}' needs the folder of its files", mend="Name it as DATA"
            )
        return read_source(config.source, place), name_of(place)
    if place is None:
        place = bundled("logs_sample", "impressions.parquet")
    return config.features.read(place)


@writes_run
def train(
    config: TrainConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    data: TableLike | None = None,
    *,
    model: str | os.PathLike[str] = "model.pt",
    out: str | os.PathLike[str] = "runs/train",
    overrides: Sequence[str] = (),
    on_step: OnStep = lambda done, total, what: None,
) -> TrainingResult:
    """Train a model, and write the artifact and a run folder.

    A run that was killed goes on from its last checkpoint when it is started again with the same data, run
    folder and config, of which only what does not decide the weights may differ: how long to train, the
    policy, the paths. What fails after the training (a metric, the posterior) leaves a gap that the notes
    tell of, and the artifact is written all the same.

    Args:
        config: a `TrainConfig`, a mapping, a YAML file, the name of a config that ships with ctrkit, or None
            for the sample logs' config, which then must fit the data.
        data: the table (path or frame), before the config's own.
        model: where the artifact goes. out: the run folder.
        overrides: `key.path=value` strings over the config.
        on_step: called with (steps done, steps in all, what is going on).

    Raises:
        ConfigError, DataError: a faulty config or table, or a model that cannot be written there.
        RunError: training did not come as far as a first validation.
    """
    check_writable(model)
    settings = load_train_config(config, overrides)
    table, file = read_training_table(settings, data)
    notes = Notes()
    if config is None and data is not None:
        sample = load_train_config(None).features
        notes.append(check_sample_columns(settings.features, sample, table, file))
    require_columns(table, settings.features.columns, file)
    split = split_rows(settings.features, settings.split, table, settings.seed, file)
    if (ties := split.note(settings.split)) is not None:
        notes.tell(ties)
    teacher_logits = _teacher_logits(settings, table)
    counted = _counted(settings.features, table, split.train)
    encoder = Encoder.fit(settings.features, table, file, counted)
    notes += encoder.notes
    encoded = encoder.encode(table, file)
    notes += group_notes(settings.features, table, encoded)
    check_labels(settings.features, encoded, split, notes, file)
    home = Path(out)
    deciding = {name: version for name, version in versions().items() if name in ("ctrkit", "torch", "numpy")}
    begin_run(home)

    def fitted(model: ModelConfig, checkpoint: Path, stage: str = "") -> tuple[CtrModel, TrainingHistory]:
        """A model trained from fresh weights."""
        torch.manual_seed(settings.seed)
        network = build_model(model, encoder.feature_map())
        network.set_base_rates(_base_rates(encoded.labels[split.train], encoded.weight[split.train]))
        history = fit(
            network,
            encoded,
            split,
            settings.training,
            seed=settings.seed,
            identity={"model": model.model_dump(mode="json"), "versions": deciding},
            checkpoint=checkpoint,
            teacher_logits=teacher_logits,
            on_step=lambda done, total, what: on_step(done, total, stage + what),
        )
        notes.extend(history.notes)
        return network, history

    checkpoints, found = [home / "checkpoint.pt"], {}
    if settings.model.searches:
        # The checkpoint of a finished search stays until all is done: a run that goes on finds it there.
        checkpoints.insert(0, home / "search.pt")
        searched, _ = fitted(settings.model, checkpoints[0], "search, ")
        derived = searched.derive()
        before, after = settings.model.model_dump(mode="json"), derived.model_dump(mode="json")
        found = {key: value for key, value in after.items() if value != before[key]}
        settings = settings.model_copy(update={"model": derived})
    network, history = fitted(settings.model, checkpoints[-1])

    def measured() -> dict[str, dict[str, float | None]]:
        logits, _ = predict(network, encoded, split.test)
        return test_metrics(settings.features.tasks, encoded, split.test, logits)

    metrics = notes.attempt("metric of the test rows", measured) or {}
    held_out = np.concatenate([split.valid, split.test])
    features = settings.features
    artifact = Artifact(
        config=settings.model_dump(mode="json"),
        feature_map=encoder.feature_map().to_dict(),
        encoder=encoder.state(),
        weights=network.state_dict(),
        posterior=notes.attempt("posterior", lambda: _posterior(network, encoded, split).state()),
        policy=settings.policy.model_dump(mode="json"),
        data={
            "file": None if file is None else str(file),
            "fingerprint": encoded.fingerprint(),
            "times": times_digest(features, table),
            "rows": len(encoded),
            "split": split.describe(),
            "seen": notes.attempt(
                "sample by which the training rows are known again",
                lambda: seen_state(features, table, encoded, split.train, held_out),
            ),
            "profile": notes.attempt(
                "profile of the training rows, so that drift cannot be told without them",
                lambda: training_profile(
                    features, table[split.train], encoded.weight[split.train].astype(np.float64)
                ),
            ),
        },
        metrics={"train": metrics},
        versions=versions(),
    )
    artifact.save(model)
    result = TrainingResult(
        os.fspath(model), file or "a table in memory", split.describe(), metrics, history, found, tuple(notes)
    )
    write_text("".join(json.dumps(event) + "\n" for event in history.events), Path(out) / "events.jsonl")
    write_run(out, "train", artifact.config, result)
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
    return result


def test_metrics(
    tasks: Sequence[str], data: EncodedTable, rows: Integers, logits: Floats
) -> dict[str, dict[str, float | None]]:
    """Metrics of each task on the rows where it can happen: conversions are judged on clicked rows.

    Rows count by their weights, those of weight 0 not at all; `rows` and `positives` are how many they are. A
    metric that is undefined on the rows, as GAUC is where no user has both labels, is None.

    Args:
        rows: the test rows; logits: [rows, T], each task given the one before it.
    """
    labels, weight = data.labels[rows], data.weight[rows].astype(np.float64)
    found: dict[str, dict[str, float | None]] = {}
    for index, task in enumerate(tasks):
        possible = (labels[:, index - 1] == 1 if index else np.ones(rows.size, dtype=bool)) & (weight > 0)
        y, p, w = labels[possible, index], expit(logits[possible, index]), weight[possible]
        count, positives = int(possible.sum()), int(y.sum())
        values: dict[str, float | None] = {"rows": count, "positives": positives}
        if 0 < positives < count:
            values |= {"auc": auc(y, p, w)}
            if data.groups is not None and index == 0:
                try:
                    values |= {"gauc": gauc(y, p, data.groups[rows][possible], w)}
                except DataError:
                    values |= {"gauc": None}
            values |= {
                "log_loss": log_loss(y, p, w),
                "normalized_entropy": normalized_entropy(y, p, w),
                "ece": ece(y, p, weight=w),
                "pcoc": pcoc(y, p, w),
            }
        found[task] = values
    return found


def _counted(spec: FeatureSpec, table: pl.DataFrame, rows: Integers) -> Integers:
    """The rows without those of weight 0, which are as if they were not there.

    Raises:
        DataError: no row is left.
    """
    if spec.weight is None or not table.schema[spec.weight].is_numeric():
        return rows
    counts: Booleans = table[spec.weight].ne_missing(0).to_numpy()
    if not counts[rows].any():
        raise DataError(
            f"all {rows.size:,} training rows have the weight 0",
            column=spec.weight,
            mend="Mend the column, or divide the rows otherwise under split",
        )
    return rows[counts[rows]]


def _base_rates(labels: NDArray[np.float32], weight: NDArray[np.float32]) -> list[float]:
    """The rate of each task where it can happen, from labels [n, T] and weights [n]; one half where it never
    can."""
    mass = weight.astype(np.float64)
    positives = mass @ labels
    possible = [float(mass.sum()), *positives[:-1]]
    # One more row, half of it positive; where weights were scaled down, a row like the others.
    row = min(1.0, float(mass[mass > 0].mean()))
    return [float((p + 0.5 * row) / (n + row)) for p, n in zip(positives, possible, strict=True)]


def _posterior(network: CtrModel, data: EncodedTable, split: Split) -> LastLayerPosterior:
    """The Laplace posterior of the first task's last layer on the training rows, which count by weight."""
    _, hidden = predict(network, data, split.train)
    layer = network.last_layer
    weights, bias = layer.weight.detach().double().numpy()[0], float(layer.bias.item())
    return LastLayerPosterior.fit(hidden, weights, bias, row_weight=data.weight[split.train])


def _teacher_logits(config: TrainConfig, table: pl.DataFrame) -> NDArray[np.float32] | None:
    """What the teacher of the config, where there is one, says of all rows: logits [n, T]."""
    if config.training.loss.distillation is None:
        return None
    file = config.training.loss.distillation.teacher
    teacher = load(file)
    if teacher.tasks != config.features.tasks:
        raise ConfigError(
            f"the teacher predicts {', '.join(teacher.tasks)}, not {', '.join(config.features.tasks)}",
            file=file,
            mend="Name a teacher of the same tasks in training.loss.distillation",
        )
    logits, _ = teacher.outputs(table)
    return logits.astype(np.float32)
