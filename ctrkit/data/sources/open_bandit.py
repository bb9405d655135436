"""Open Bandit (ZOZO, Saito et al. 2021): fashion items, shown at random or by a bandit, with propensities."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Float64, Int8, Int64, String, joined, official, optional
from ctrkit.errors import DataError
from ctrkit.tables import TextFile, TextFormat, first_names, read_table, scan_text

LOG = {"timestamp": String, "item_id": Int64, "position": Int8, "click": Int8, "propensity_score": Float64}
ITEM = {"item_id": Int64, "item_feature_0": Float64, **{f"item_feature_{i}": String for i in (1, 2, 3)}}


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


class OpenBandit(Source):
    """ZOZO's fashion items at three positions, chosen at random or by Thompson sampling, with propensities.

    The folder is that of one policy and campaign, such as `random/all`, in the full data set; where there is
    no such folder, `random/all` names the sample inside the package obp. The columns are those of the log,
    with user features and affinities, and of `item_context.csv`. `ctrkit ope --format open-bandit` reads the
    same file.
    """

    name = "open-bandit"
    rows = "26 M (10 k in a sample)"
    columns = None
    publisher = "https://research.zozo.com/data.html"
    terms = "as its page says"
    first_line = ",timestamp,item_id,position,click,propensity_score,"

    def tables(self, path: Path) -> SourceTables:
        if not path.exists() and path.parent.name in ("random", "bts"):
            path = _package() / "dataset" / "obd" / path.parent.name / path.name
        campaigns = (optional(path, f"{name}.csv") for name in ("all", "men", "women"))
        files = list(dict.fromkeys(file for found in campaigns for file in found))
        if len(files) != 1:
            official(path, "all.csv", "men.csv", "women.csv")
            raise DataError(
                "these are the logs of several policies or campaigns",
                file=path,
                hint=f"Give the folder of one, such as {Path(os.fspath(files[0])).parent}",
            )
        rows = scan_text(files, _form(files[0], LOG)).drop("", strict=False)
        items = optional(path, "item_context.csv", beside=True)
        if not items:
            return SourceTables(rows)
        context = scan_text(items, _form(items[0], ITEM)).drop("", strict=False)
        return SourceTables(joined(rows, context, items[0], "item_id"))


def _form(file: TextFile, known: dict[str, type[pl.DataType]]) -> TextFormat:
    """The format of a file that numbers its rows in a column without a name and may have further features."""
    others = {name: Float64 if "affinity" in name else String for name in first_names(file, ",")}
    return TextFormat({**others, **known})
