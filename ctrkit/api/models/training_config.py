"""The config of a training run, and the table that it names: what training and its borrowers read first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import BeforeValidator, Field, SerializeAsAny

from ctrkit.api.sample_logs import bundled
from ctrkit.config import Config, build, read_yaml
from ctrkit.data.sources import read_source
from ctrkit.data.split import SplitConfig
from ctrkit.errors import ConfigError
from ctrkit.models import ModelConfig
from ctrkit.models import model_config as config_of_model
from ctrkit.policies import PolicyConfig
from ctrkit.schema import FeatureSpec
from ctrkit.tables import TableLike, name_of
from ctrkit.training import TrainingConfig


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
