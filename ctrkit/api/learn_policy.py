"""`ctrkit learn-policy`: a bandit log in, a policy that earns more on it out, judged on held-out rows."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import BeforeValidator, Field, SerializeAsAny

from ctrkit.api.evaluate_policy import evaluate_policy
from ctrkit.api.keywords import takes_settings
from ctrkit.api.log_columns import BanditLogColumns
from ctrkit.api.models.model import Model, load
from ctrkit.api.models.training_config import TrainConfig
from ctrkit.api.policies.logged_decisions import (
    derived_features,
    divide,
    fit_encoder,
    log_to_learn_from,
    logged_decisions,
    rows_of,
)
from ctrkit.api.policies.seen import seen_decisions
from ctrkit.api.policies.value import PolicyValue
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.api.sample_logs import bundled
from ctrkit.arrays import Floats, Integers
from ctrkit.artifact import Artifact, versions
from ctrkit.config import ConfigLike, settings_of
from ctrkit.data.encoder import Encoder
from ctrkit.data.split import SplitConfig
from ctrkit.errors import ArtifactError, ConfigError
from ctrkit.models import CtrModel, ModelConfig, build_model, network_config
from ctrkit.ope import BanditLog, LoggedRows, RewardModel, read_bandit_log
from ctrkit.ope.estimators.registry import make_estimator
from ctrkit.policies import SoftmaxConfig
from ctrkit.policies.constant import LOGGED
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Drawings, Report, Table
from ctrkit.schema import BANDIT_LOG, FeatureSpec
from ctrkit.tables import TableLike, check_writable
from ctrkit.training import TrainingConfig
from ctrkit.training.counterfactual import DoublyRobustConfig, ObjectiveConfig, SelfNormalisedConfig
from ctrkit.training.counterfactual_loop import Learning, LearningConfig, ValueOnValidation, learn, settle

# Training rows with a reward other than the commonest, below which what is learnt is mostly chance.
FEW_OUTCOMES = 100


def _model(content: Any) -> ModelConfig | None:
    """The config of the model that `name` names, so that its own keys are checked."""
    return None if content is None else network_config(content)


def _named(content: Any) -> Any:
    """An objective without a `name` is the default one; a name alone is one with its own defaults."""
    if isinstance(content, str):
        return {"name": content}
    return {"name": "snips", **content} if isinstance(content, Mapping) else content


class LearnPolicyConfig(BanditLogColumns):
    """How to learn a policy.

    Attributes:
        features: what the columns of the log mean, with the `candidate` to choose; by default every column
            that the reward model of `ctrkit ope` would read.
        model: scores the candidates; by default a small DeepFM.
        temperature: temperature of the softmax over the scores.
        objective: what is maximised on the training rows: a name, or a name with settings.
        learning: how, and for how long.
        split: what is neither training nor validation is held out. By time where the log has time stamps;
            `by: user` and `by: random`, and logs without them, have all rows of a user on one side.
        seed: seed of all random draws.
    """

    features: FeatureSpec | None = None
    model: Annotated[SerializeAsAny[ModelConfig] | None, BeforeValidator(_model)] = None
    temperature: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    objective: Annotated[ObjectiveConfig, BeforeValidator(_named)] = SelfNormalisedConfig()
    learning: LearningConfig = LearningConfig()
    split: SplitConfig = SplitConfig(train=0.6, valid=0.2)
    seed: int = Field(default=0, ge=0)

    keyword_names: ClassVar[Mapping[str, str]] = {"model": "network"}


@dataclass(frozen=True)
class LearntPolicy(Result):
    """What learning gave: the artifact, how it was chosen, and its value on held-out rows.

    Attributes:
        model: the path of the artifact; None where it was not written.
        rows: of the three parts, and how they were divided.
        evaluation: of the policy, beside the uniform and the logging policy, on the held-out rows.
    """

    model: str | None
    objective: str
    rows: dict[str, Any]
    learning: Learning
    evaluation: PolicyValue
    notes: tuple[str, ...]
    artifact: Artifact = field(repr=False)

    @cached_property
    def trained(self) -> Model:
        """The policy that was learnt, ready to use."""
        return Model(self.artifact)

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "objective": self.objective,
            "rows": self.rows,
            "chosen": _plain(self.learning.best),
            "validations": [_plain(event) for event in self.learning.events],
            "evaluation": self.evaluation.to_dict(),
            "notes": list(self.notes),
        }

    def report(self) -> Report:
        held_out = self.evaluation.report()
        columns = ("baseline", "epoch", "objective", "value", "low", "high")
        table = Table(
            "Validations, and the policy's value on the validation rows",
            columns,
            tuple(tuple(event[key] for key in columns) for event in self.learning.events),
        )
        return replace(
            held_out,
            title="Learning a policy",
            notes=(*self.notes, *held_out.notes),
            details=(table, *held_out.details),
        )

    def figures(self) -> Drawings:
        return self.evaluation.figures()


@takes_settings(LearnPolicyConfig)
def learn_policy(
    logs: TableLike | None = None,
    *,
    policy: str | os.PathLike[str] | Model | None = None,
    config: ConfigLike = None,
    model: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    on_step: OnStep = silent,
    **keywords: Any,
) -> LearntPolicy:
    """Learn a softmax policy from a bandit log.

    Training rows teach it, validation rows choose among its epochs, and on the held-out rows
    `evaluate_policy` judges it beside the uniform and the logging policy; that report stands in the run's
    folder `ope`.

    Args:
        logs: a bandit log, as `ctrkit.ope.read_bandit_log` takes it; by default the sample log.
        policy: a model or the path of an artifact to start from, in place of fresh weights; features, model
            and encoder are its own.
        config: by default the sample log has its own.
        model: where the artifact goes; None for nowhere, as the result holds it. Its scores tell the
            candidates of a row apart, and say nothing of how likely a click is: the calibrators of `policy`
            do not go with it.
        out: the run folder; None for none.
        on_step: called with (steps done, steps in all, what is going on).

    Raises:
        DataError: nothing can be learnt from the log (of a deterministic policy, of one candidate a row, of
            one reward), or it lacks columns that the features need.
        ConfigError: features or a model are given, and an artifact that has its own.

    Example:
        >>> import ctrkit, polars
        >>> log = polars.read_parquet(ctrkit.sample_logs().files[2])  # of bandit feedback
        >>> result = ctrkit.learn_policy(log[:3_000], learning={"epochs": 1})
        >>> result.trained.policy.name
        'softmax'
    """
    if model is not None:
        check_writable(model)
    notes = ["The log is the sample that ships with ctrkit."] if logs is None else []
    if logs is None:
        logs = bundled("logs_sample", "bandit.parquet")
        if config is None and policy is None:
            config = bundled("configs", "learn_policy.yaml")
    settings = settings_of(LearnPolicyConfig, config, overrides, keywords)
    with run_folder(out, "learn-policy") as run:
        start = None if policy is None else _start(settings, policy)
        spec = settings.features if start is None else start.spec
        is_text = None if spec is None else spec.is_text
        log = read_bandit_log(logs, also_text=is_text, schema=settings.schema_of_log)
        log = log_to_learn_from(log)
        split = divide(log, settings.split, settings.seed)
        training, validation = rows_of(log, split.train), rows_of(log, split.valid)
        encoder, network, model_settings = _scorer(settings, start, training)
        q = _predictions(log, split.train, split.valid, settings)
        mean = np.average(training.reward, weights=training.counts)
        scale = float(np.sqrt(np.average((training.reward - mean) ** 2, weights=training.counts)))
        encoded = logged_decisions(training, encoder, scale, q[0])
        judged = logged_decisions(validation, encoder, scale, q[1])
        baselines = [0.0]
        if isinstance(settings.objective, SelfNormalisedConfig):
            baselines = [float(mean / scale) + step for step in settings.objective.baselines]
        learning = learn(
            network,
            encoded,
            judged,
            settings.objective,
            settings.learning,
            temperature=settings.temperature,
            baselines=baselines,
            judge=_judge(validation, log.binary, q[1]),
            seed=settings.seed,
            on_step=on_step,
        )
        temperature = settle(network, encoded, settings.temperature)
        home = run.begin()
        resolved = settings.model_copy(update={"features": encoder.spec, "model": model_settings})
        rows = split.describe()
        data = {"file": None, "fingerprint": encoded.candidates.fingerprint(), "rows": rows["train"]}
        seen = seen_decisions(log, encoder, split, start)
        artifact = _artifact(resolved, encoder, network, temperature, {**data, "split": rows, "seen": seen})
        if model is not None:
            artifact.save(model)

        compared = ["uniform", *(["logging"] if LOGGED in log.table.columns else [])]
        evaluation = evaluate_policy(
            log.table[split.test],
            [Model(artifact) if model is None else model, *compared],
            seed=settings.seed,
            out=None if home is None else home / "ope",
            on_step=on_step,
        )
        notes += [*log.notes, *_notes(learning, training, rows)]
        place = None if model is None else os.fspath(model)
        objective = settings.objective.name
        result = LearntPolicy(place, objective, rows, learning, evaluation, tuple(notes), artifact)
        run.write(resolved, result)
    return result


def _check_roles(spec: FeatureSpec) -> None:
    """Refuse roles that a bandit log has columns of its own for, so that they would not be read.

    Raises:
        ConfigError: names the key and the column.
    """
    names = {column.name: (column.name, *column.aliases) for column in BANDIT_LOG.columns}
    roles: list[tuple[str, str | None, str]] = [
        *(("labels", column, "reward") for column in spec.labels.values()),
        ("group", spec.group, "user_id"),
        ("timestamp", spec.timestamp, "timestamp"),
        ("weight", spec.weight, "p_drop"),
        ("value", spec.value, "reward"),
    ]
    for key, column, own in roles:
        if column is not None and (key in ("weight", "value") or column not in names[own]):
            raise ConfigError(
                f"key 'features.{key}': '{column}' is not read; of a bandit log it is the column '{own}'",
                hint=f"Leave out '{key}', or rename the log's column",
            )


def _start(settings: LearnPolicyConfig, policy: str | os.PathLike[str] | Model) -> Model:
    """The model to start from, of its own: learning changes its weights."""
    for key in ("features", "model"):
        if getattr(settings, key) is not None:
            raise ConfigError(
                f"key '{key}': the artifact to start from has its own",
                hint=f"Leave out '{key}', or --policy",
            )
    start = Model(policy.artifact) if isinstance(policy, Model) else load(policy)
    if start.spec.candidate is None:
        raise ArtifactError(
            "the model's feature spec names no candidate, so it cannot score candidates",
            file=None if isinstance(policy, Model) else policy,
            hint="Add `candidate: {id: ..., features: [...]}` to the config's features and train again",
        )
    return start


def _scorer(
    settings: LearnPolicyConfig, start: Model | None, training: BanditLog
) -> tuple[Encoder, CtrModel, ModelConfig]:
    """The encoder and the network to start from, and the network's config."""
    if start is None:
        spec = settings.features or derived_features(training)
        _check_roles(spec)
        if spec.candidate is None:
            raise ConfigError(
                "the features name no candidate, so there is nothing to choose",
                hint="Add `candidate: {id: ..., features: [...]}` to the features",
            )
        encoder = fit_encoder(spec, training)
        chosen = settings.model or network_config({"name": "deepfm", "embedding": 8, "hidden": [32]})
        torch.manual_seed(settings.seed)
        return encoder, build_model(chosen, encoder.feature_map()), chosen
    config = network_config(start.artifact.config["model"])
    assert isinstance(start.network, CtrModel)
    return start.encoder, start.network, config


def _predictions(
    log: BanditLog, train: Integers, valid: Integers, settings: LearnPolicyConfig
) -> tuple[Floats | None, Floats | None]:
    """The cross-fitted reward model's q [n, K] on the training and the validation rows, for DR alone."""
    if not isinstance(settings.objective, DoublyRobustConfig):
        return None, None
    both = rows_of(log, np.concatenate([train, valid]))
    model = RewardModel.fit(both, None, settings.objective.folds, settings.seed)
    q = model.predict(both, slice(0, len(both)))
    return q[: len(train)], q[len(train) :]


def _judge(log: BanditLog, binary: bool, q: Floats | None) -> ValueOnValidation:
    """The value on these rows by DR where there is a reward model, else by SNIPS, with its 95 % interval."""
    rows = np.arange(len(log))

    def judge(probabilities: Floats) -> tuple[float, float, float]:
        weights = probabilities[rows, log.action_index] / log.propensity
        estimator = make_estimator("snips" if q is None else "dr", (0.0, 1.0) if binary else None)
        estimator.update(
            LoggedRows(
                weights,
                log.reward,
                max(float(weights.max()), 1.0),
                None if q is None else q[rows, log.action_index],
                None if q is None else (probabilities * q[:, : probabilities.shape[1]]).sum(axis=1),
                log.users,
                counts=log.counts,
            )
        )
        found = estimator.result(0.95)
        return found.value, found.interval.low, found.interval.high

    return judge


def _artifact(
    settings: LearnPolicyConfig,
    encoder: Encoder,
    network: CtrModel,
    temperature: float,
    data: dict[str, Any],
) -> Artifact:
    """What is learnt, as the file that every command reads; no table of labelled rows stands behind it."""
    learning = settings.learning
    content = TrainConfig(
        features=encoder.spec,
        split=settings.split,
        model=settings.model,
        training=TrainingConfig(**{key: getattr(learning, key) for key in LearningConfig.model_fields}),
        policy=SoftmaxConfig(temperature=temperature),
        seed=settings.seed,
    ).model_dump(mode="json")
    return Artifact(
        config=content,
        feature_map=encoder.feature_map().to_dict(),
        encoder=encoder.state(),
        weights=network.arrays(),
        policy=content["policy"],
        data=data,
        versions=versions(),
    )


def _notes(learning: Learning, training: BanditLog, rows: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{rows[part]:,} {called}" for part, called in _PARTS)
    epoch = learning.best["epoch"]
    kept = f"that of epoch {epoch:.0f}" if epoch else "the one before learning"
    notes = [
        f"Rows: {counts}, divided by {rows['by']}.",
        f"Of {len(learning.events)} policies on the validation rows, {kept} had the interval with the highest"
        " lower end, and was kept.",
        *learning.notes,
    ]
    _, common = np.unique(training.reward, return_counts=True)
    outcomes = len(training) - int(common.max())
    if outcomes < FEW_OUTCOMES:
        notes.append(
            f"Only {outcomes} of {len(training):,} training rows have another reward than the commonest: what"
            " is learnt is mostly chance."
        )
    return notes


_PARTS = (("train", "to train"), ("valid", "to validate"), ("test", "held out"))


def _plain(event: dict[str, float]) -> dict[str, float | None]:
    """The same with None for what is undetermined."""
    return {key: value if math.isfinite(value) else None for key, value in event.items()}
