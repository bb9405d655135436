"""A profile of the training rows, kept in the artifact so that drift can be measured without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from ctrkit.arrays import Floats
from ctrkit.data.ids import as_lists
from ctrkit.data.vectors import read_vectors
from ctrkit.evaluation.profile import FeatureProfile, profile
from ctrkit.schema import FeatureSpec

# Largest number of a vector's numbers whose drift is measured; they are spread over it.
_NUMBERS = 16


def training_profile(spec: FeatureSpec, training: pl.DataFrame, weight: Floats) -> dict[str, Any]:
    """Histograms of every feature, every label and the length of every history and bag, as plain data.

    Of vectors, they are those of some numbers or of the ids that are looked up.
    """
    columns = profiled_columns(spec, training)
    read = {*spec.feature_columns, *spec.labels.values()}
    numbers = (*(one.name for one in spec.numeric), *(name for name in columns.columns if name not in read))
    ids = dict.fromkeys((*(f.name for f in spec.categorical), *(v.id for v in spec.vectors if v.id)))
    found = profile(
        columns,
        categorical=[*ids, *spec.labels.values()],
        numeric=numbers,
        lists=[one.name for one in spec.listed],
        weight=weight,
    )
    return {name: one.to_dict() for name, one in found.items()}


def profiles_from(content: Mapping[str, Any]) -> dict[str, FeatureProfile]:
    """Profiles from the plain data of `training_profile`."""
    return {name: FeatureProfile.from_dict(one) for name, one in content.items()}


def profiled_columns(spec: FeatureSpec, table: pl.DataFrame) -> pl.DataFrame:
    """The features and labels of a table, with types that do not depend on the file format.

    Some numbers of each vector are columns of their own: an embedding of another kind differs in most.
    """
    names = (*spec.feature_columns, *spec.labels.values())
    chosen = table.select(name for name in dict.fromkeys(names) if name in table.columns)
    labels = [name for name in dict.fromkeys(spec.labels.values()) if name in chosen.columns]
    columns = [chosen[name].cast(pl.Int8) for name in labels]
    columns += [as_lists(chosen[s.name], s, None) for s in spec.listed if s.name in chosen.columns]
    for one in spec.vectors:
        if one.table is None and one.name in chosen.columns:
            vectors = read_vectors(chosen[one.name], one, None, None)
            places = np.unique(np.linspace(0, vectors.shape[1] - 1, _NUMBERS).astype(np.int64))
            columns += [pl.Series(f"{one.name}[{at}]", vectors[:, at]) for at in places if at >= 0]
    return chosen.with_columns(columns)
