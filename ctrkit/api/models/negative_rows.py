"""Sampled negatives in a training: what they need of its config, and what its user must know of them."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from ctrkit.api.models.training_config import TrainConfig
from ctrkit.data.derive import Plan
from ctrkit.data.negatives import WithNegatives, with_negatives
from ctrkit.data.raw_table import RawTable
from ctrkit.data.split import Split
from ctrkit.errors import ConfigError

SAMPLED_METRICS = (
    "Metrics on rows with sampled negatives are sampled metrics: they are not those of a choice among all"
    " items, and may order models in another way (Krichene and Rendle, KDD 2020)."
)


def sampled_log(config: TrainConfig, raw: RawTable, split: Split, table: pl.DataFrame) -> WithNegatives:
    """The log of a training with the negatives that its config asks for.

    Args:
        config: the settings of the training.
        raw: the log.
        split: which of its rows are training, validation and test rows.
        table: its rows, as far as their times are read.

    Raises:
        ConfigError: a derived column tells the item of the positive, or as of `with_negatives`.
        DataError: as of `with_negatives`.
    """
    assert config.sampling.negatives is not None
    found = with_negatives(raw, config.sampling.negatives, split, table, config.seed)
    told = _of_item(config.derive, {found.item, *found.moved}) & {*config.features.features}
    if stale := sorted(told - {found.item, *found.moved}):
        raise ConfigError(
            f"the feature '{stale[0]}' is derived from the item of a row, or what belongs to it, so that a"
            " sampled negative would have that of its positive",
            hint=f"Leave '{stale[0]}' out of the features, or train on a log with its own negatives",
        )
    return found


def notes_on(config: TrainConfig, sampled: WithNegatives) -> Iterator[str]:
    """What the user of a training must know of its negatives."""
    settings = config.sampling.negatives
    assert settings is not None
    how = {"uniform": "uniformly", "popularity": "by popularity", "session": "from their sessions"}
    rest = [name for name in config.features.static_columns if name not in (sampled.item, *sampled.moved)]
    yield (
        f"Negatives are sampled: {settings.per_positive:,} for each positive, drawn {how[settings.by]}. With"
        f" '{sampled.item}' of another row come {_listed(sampled.moved)}; a negative keeps {_listed(rest)} of"
        " its positive, and all histories."
    )
    yield (
        "A log of positives has no base rate. Predictions order the items of a row. They are no probabilities"
        f" of {config.features.tasks[0]} before `ctrkit calibrate` on a log with impressions."
    )
    yield SAMPLED_METRICS
    if sampled.lonely:
        yield (
            f"{sampled.lonely:,} positives have no negatives: by their time there were no other items for"
            " them, but those that are left out."
        )


def _of_item(plan: Plan, columns: set[str]) -> set[str]:
    """The columns that steps derive from some columns of the row itself."""
    found: set[str] = set()
    for step in plan.steps:
        of_history = () if step.looks_at is None else plan.histories[step.looks_at].reads
        if {*plan.keys(step), *step.reads, *of_history} & (columns | found):
            found |= {*step.new_columns}
    return found


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names) if names else "no other feature"
