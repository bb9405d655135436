"""The config of a training run, and the table that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar

import polars as pl
from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from ctrkit.api.models.raw_rows import RowReader
from ctrkit.api.sample_logs import bundled
from ctrkit.config import Config, ConfigLike, keys_of, settings_of
from ctrkit.data.aggregates import one_row_an_outcome
from ctrkit.data.delays import DelayConfig, columns_read
from ctrkit.data.derive import Plan, PlanSetting
from ctrkit.data.sampling import SamplingConfig
from ctrkit.data.split import SplitConfig
from ctrkit.errors import ConfigError, nearest
from ctrkit.models import DEFAULT_MODEL, ModelConfig, ScorerConfig
from ctrkit.models import model_config as config_of_model
from ctrkit.policies import GreedyConfig, PolicyConfig, PolicySetting
from ctrkit.schema import FeatureSpec
from ctrkit.tables import TableLike
from ctrkit.training import TrainingConfig


def _model(content: Any) -> ScorerConfig:
    """The config of the named model, so that its own keys are checked."""
    if not isinstance(content, ScorerConfig | Mapping | str):
        raise ValueError("a model must be a name, or a mapping with a `name`")
    return config_of_model(content)


class TrainConfig(Config):
    """A training run.

    Attributes:
        data: path of the table, or folder of the `source`.
        source: a public dataset that `ctrkit.data.sources` reads; None if `data` is a table.
        events: name -> path of a table of events, for `derive`; a source has its own.
        derive: steps that make columns of raw rows and events (`ctrkit.data.derive`), in their order.
        features: what the columns mean.
        delays: task -> how late its label may come (`ctrkit.data.delays`); others come at once.
        split: how rows are divided into training, validation and test rows.
        sampling: which training and validation rows are read.
        model: the model, by its name or with its settings (`ctrkit models` lists the names).
        training: how a network is trained.
        policy: how the artifact chooses actions, in off-policy evaluation and bidding.
        seed: random seed.
    """

    data: str | None = None
    source: str | None = None
    events: dict[str, str] = Field(default_factory=dict)
    derive: PlanSetting = Plan(())
    features: FeatureSpec
    delays: dict[str, DelayConfig] = Field(default_factory=dict)
    split: SplitConfig = SplitConfig()
    sampling: SamplingConfig = SamplingConfig()
    model: Annotated[SerializeAsAny[ScorerConfig], BeforeValidator(_model)] = Field(
        default_factory=lambda: config_of_model({"name": "mdaf"})
    )
    training: TrainingConfig = TrainingConfig()
    policy: PolicySetting = GreedyConfig()
    seed: int = Field(default=0, ge=0)

    keyword_names: ClassVar[Mapping[str, str]] = {"model": "network"}

    @model_validator(mode="after")
    def _shares_of_the_tasks(self) -> TrainConfig:
        self.sampling.shares(self.features.tasks)
        return self

    @model_validator(mode="after")
    def _late_labels(self) -> TrainConfig:
        spec, delays = self.features, self.delays
        for task in delays:
            if task not in spec.tasks:
                raise ValueError(f"delays: there is no task '{task}'. {nearest(task, spec.tasks)}")
        for before, after in pairwise(spec.tasks):
            if before in delays and after not in delays:
                raise ValueError(f"delays: '{after}' needs a window too, as it comes after '{before}'")
        if delays and spec.timestamp is None:
            raise ValueError("delays need the times of the rows; set `features.timestamp`")
        if delays and spec.impressions is not None:
            raise ValueError("delays are of single rows, and a row stands for many `impressions`")
        if known := {*columns_read(delays)} & {*spec.features, *spec.bag_weights}:
            raise ValueError(f"'{min(known)}' is known only after the event, and cannot be a feature as well")
        weighted = [task for task, one in delays.items() if one.immature == "weight"]
        if weighted and len(delays) > 1:
            raise ValueError("delays: `immature: weight` is for one late label, and there are several")
        if weighted and self.model.name == "lightgbm":
            raise ValueError("delays: boosted trees cannot weight immature rows; set `immature: leave_out`")
        if weighted == [spec.tasks[0]]:
            ranking = self.training.loss.ranking
            if self.sampling.kept_negatives < 1.0:
                raise ValueError("delays: rows that may still be positive cannot be thinned as negatives")
            if ranking is not None and ranking.name == "bpr":
                raise ValueError("delays: `bpr` cannot weight immature rows; set `immature: leave_out`")
        return self

    @model_validator(mode="after")
    def _single_impressions(self) -> TrainConfig:
        if self.sampling.negatives is not None and self.features.impressions is not None:
            raise ValueError(
                "rows that stand for many impressions have negatives; leave out sampling.negatives"
            )
        if self.sampling.negatives is not None and self.delays:
            raise ValueError("delays are of logged rows, and sampling.negatives adds others; leave one out")
        return self

    @property
    def reader(self) -> RowReader:
        """The reader of the rows."""
        return RowReader(self.features, self.derive, self.source, self.events)

    @property
    def takes_steps(self) -> bool:
        """Whether gradient steps train the model, so that `training` is read."""
        spec = self.features
        return self.model.takes_steps(sequences=bool(spec.sequences), value=spec.value is not None)

    @property
    def unread(self) -> tuple[str, ...]:
        """The settings of gradient steps that are there and not read, as the model takes no such steps."""
        if self.takes_steps:
            return ()
        return tuple(f"training.{key}" for key in sorted(self.training.model_fields_set))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, from which the same run is made; without settings that the model does not read."""
        return self.model_dump(mode="json", exclude=set() if self.takes_steps else {"training"})


def load_train_config(
    config: ConfigLike, overrides: Sequence[str] = (), keywords: Mapping[str, Any] | None = None
) -> TrainConfig:
    """The config of a training run (see `settings_of`); `config` may also name one that ships with ctrkit.

    The default is the config of the sample logs, unless `features` are among the keywords.

    Raises:
        ConfigError: the config is faulty, its policy needs a posterior that its model cannot have, or it sets
            how gradient steps are taken for a model that takes none.
            If the config was written for another model, its settings `training` are `unread` instead.
    """
    if config is None and "features" not in (keywords or {}):
        config = bundled("configs", "sample.yaml")
    elif isinstance(config, str | os.PathLike) and not Path(config).exists():
        shipped = bundled("configs", f"{config}.yaml")
        config = shipped if shipped.is_file() else config
    settings = settings_of(TrainConfig, config, overrides, keywords)
    need_belief(settings.policy, settings.model)
    settings.model.check_vectors([one.name for one in settings.features.vectors if one.trained])
    if settings.takes_steps:
        return settings
    for key in ("hard_negatives", "balance"):
        if getattr(settings.sampling, key):
            raise ConfigError(
                f"key 'sampling.{key}': it says what an epoch reads, and the model '{settings.model.name}'"
                " is not trained in epochs",
                hint="Leave it out, thin the negatives with sampling.kept_negatives, or choose another model",
            )
    own = keys_of(TrainConfig, config)
    of_file = own.get("model.name", own.get("model", DEFAULT_MODEL)) == settings.model.name
    given = {**(own if of_file else {}), **keys_of(TrainConfig, None, overrides, keywords)}
    for key in given:
        if key.partition(".")[0] == "training":
            raise ConfigError(
                f"key '{key}' is for gradient steps, and the model '{settings.model.name}' takes none",
                hint="Leave it out; what there is to set is under `model`",
            )
    return settings


def need_belief(policy: PolicyConfig, model: ScorerConfig) -> None:
    """Check that a model knows how sure it is, where its policy needs this.

    Raises:
        ConfigError: it does not.
    """
    if policy.needs_belief and not isinstance(model, ModelConfig):
        raise ConfigError(
            f"key 'policy': '{policy.name}' draws from the posterior of a last layer, and the model"
            f" '{model.name}' has no such layer",
            hint="Choose another policy, or train a network",
        )


def training_place(config: TrainConfig, data: TableLike | None) -> TableLike:
    """The raw rows of a training: `data` replaces the config's own path; by default the sample log.

    Raises:
        ConfigError: the config names a source, and there is no path.
    """
    place = data if data is not None else config.data
    if config.source is not None and place is None:
        raise ConfigError(
            f"the source '{config.source}' needs the folder of its files", hint="Give the folder as DATA"
        )
    return bundled("logs_sample", "impressions.parquet") if place is None else place


def read_training_table(config: TrainConfig, data: TableLike | None) -> tuple[pl.DataFrame, str | None]:
    """The rows with all their columns, and their name for messages. `data` replaces the config's own path.

    Rows that stand for many impressions become one row an outcome (see `one_row_an_outcome`).
    """
    table, file = config.reader.whole(training_place(config, data))
    return one_row_an_outcome(config.features, table, file), file
