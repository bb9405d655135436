"""Open Bandit (ZOZO, Saito et al. 2021): the sample logs that come inside the obp package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import polars as pl

from ctrkit.errors import DataError
from ctrkit.tables import read_table


def read(campaign: Literal["all", "men", "women"], policy: Literal["random", "bts"]) -> pl.DataFrame:
    """A log of fashion items shown at random or by Bernoulli Thompson sampling, in time order.

    Returns:
        timestamp, action (the item), position (0, 1, 2: rank of the position on the page, as obp counts),
        propensity, reward (the click), and user_feature_0 to user_feature_3.

    Raises:
        DataError: obp is not installed, or has no such log.
    """
    path = _package() / "dataset" / "obd" / policy / campaign / f"{campaign}.csv"
    return (
        read_table(path)
        .select(
            pl.col("timestamp").str.to_datetime(time_unit="us", time_zone="UTC"),
            pl.col("item_id").alias("action"),
            (pl.col("position").rank("dense") - 1).cast(pl.Int64),
            pl.col("propensity_score").alias("propensity"),
            pl.col("click").alias("reward"),
            "^user_feature_.*$",
        )
        .sort("timestamp", maintain_order=True)
    )


def _package() -> Path:
    """The folder of obp, found without an import, which would need its old dependencies."""
    spec = find_spec("obp")
    if spec is None or spec.origin is None:
        raise DataError(
            "the Open Bandit sample comes inside the package obp, which is not installed",
            hint="Run `pip install --no-deps --ignore-requires-python obp==0.5.7`",
        )
    return Path(spec.origin).parent
