"""A profile of the training rows, kept in the artifact so that drift can be measured without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from ctrkit.arrays import Floats
from ctrkit.data.ids import as_lists
from ctrkit.evaluation.profile import FeatureProfile, profile
from ctrkit.schema import FeatureSpec


def training_profile(spec: FeatureSpec, training: pl.DataFrame, weight: Floats) -> dict[str, Any]:
    """Histograms of every feature, every label and the length of every history and bag, as plain data."""
    found = profile(
        profiled_columns(spec, training),
        categorical=[*(feature.name for feature in spec.categorical), *spec.labels.values()],
        numeric=[feature.name for feature in spec.numeric],
        lists=[one.name for one in spec.listed],
        weight=weight,
    )
    return {name: one.to_dict() for name, one in found.items()}


def profiles_from(content: Mapping[str, Any]) -> dict[str, FeatureProfile]:
    """Profiles from the plain data of `training_profile`."""
    return {name: FeatureProfile.from_dict(one) for name, one in content.items()}


def profiled_columns(spec: FeatureSpec, table: pl.DataFrame) -> pl.DataFrame:
    """The features and labels of a table, with types that do not depend on the file format."""
    names = (*spec.features, *spec.labels.values())
    chosen = table.select(name for name in dict.fromkeys(names) if name in table.columns)
    labels = [name for name in dict.fromkeys(spec.labels.values()) if name in chosen.columns]
    columns = [chosen[name].cast(pl.Int8) for name in labels]
    columns += [as_lists(chosen[s.name], s, None) for s in spec.listed if s.name in chosen.columns]
    return chosen.with_columns(columns)
