"""The data sets of `benchmarks/accuracy.py`: a table, what its columns mean, a split, a network's settings.

The market needs nothing. The others are public logs, read from a folder that the user has:
`trivago_impressions.parquet` and `trivago_actions.parquet`, `ml100k_ratings.parquet`, `ml100k_items.parquet`
and `ml100k_users.parquet`, `mind_impressions.parquet`, `hillstrom.parquet`, `criteo_10k.txt.gz` (the format
of the Criteo challenge), `avazu_10k.csv.gz` (the format of the Avazu challenge).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ctrkit.api.models.training_config import load_train_config, read_training_table
from ctrkit.arrays import Floats
from ctrkit.config import build, read_yaml
from ctrkit.data.derive import derive, plan_of
from ctrkit.data.sources import SourceTables
from ctrkit.data.split import Split, SplitConfig, split_rows
from ctrkit.data.synthetic import Market
from ctrkit.schema import FeatureSpec

CONFIGS = Path(__file__).parents[1] / "configs"
FRESH_ROWS, FRESH_STREAM = 60_000, 7_919
VALIDATION = 0.1
HISTORY = 50


@dataclass(frozen=True)
class DataSet:
    """A data set of the comparison. The first task of the spec is judged.

    Attributes:
        table: all rows.
        config: the config of a training run, without `data` and `source`.
        split: which rows are for training, validation and test.
        crosses: name -> expression of a category that a linear model gets beside the columns of the spec.
        market: the market that the rows come from; None for real logs.
    """

    table: pl.DataFrame
    config: Mapping[str, Any]
    split: Split
    crosses: Mapping[str, pl.Expr] = field(default_factory=dict)
    market: Market | None = None

    @property
    def spec(self) -> FeatureSpec:
        """What the columns mean."""
        return build(FeatureSpec, dict(self.config["features"]))

    @property
    def truth(self) -> Floats | None:
        """The true probabilities of the test rows; None for real logs."""
        if self.market is None:
            return None
        return self.table["true_click_probability"][self.split.test].cast(pl.Float64).to_numpy()


def market(folder: Path | None, rows: int) -> DataSet:
    """The market of the sample logs with more or fewer training rows.

    The test rows have the same users and ads, and moments, ads shown and clicks of another random stream.
    """
    source = Market(seed=0)
    logged = round(rows / (1 - VALIDATION))
    table = source.impressions(logged)
    source.seed = FRESH_STREAM  # of draws from here on: users and ads have been drawn
    table = pl.concat([table, source.impressions(FRESH_ROWS)])
    order = np.random.default_rng(0).permutation(logged)
    split = Split(
        train=np.sort(order[:rows]),
        valid=np.sort(order[rows:]),
        test=np.arange(logged, logged + FRESH_ROWS),
        by="random",
    )
    part_of_day = pl.concat_str(pl.col("hour") // 6, "device", "ad_category", separator="/")
    return DataSet(table, _shipped("sample"), split, {"daypart, device, category": part_of_day}, source)


def trivago(folder: Path | None) -> DataSet:
    """Hotels in lists; the last 15 % of the rows by time are the test rows."""
    config = read_yaml(CONFIGS / "trivago.yaml")
    return _divided(_read("trivago", folder), config, _shipped("trivago"))


def hillstrom(folder: Path | None) -> DataSet:
    """Customers of an e-mail test with three random arms; a visit is the click. There is no history."""
    config = read_yaml(CONFIGS / "hillstrom.yaml")
    return _divided(_read("hillstrom", folder), config, _shipped("hillstrom"))


def movielens(folder: Path | None) -> DataSet:
    """MovieLens 100k: a rating of 4 or 5 is a click; the history is what the user clicked at earlier seconds.

    The split is by time, so that most users of the test rows are new, and only their histories are known.
    """
    folder = _needed(folder)
    ids = pl.col("user_id", "item_id").cast(pl.Int64)
    ratings = pl.read_parquet(folder / "ml100k_ratings.parquet").with_columns(ids)
    items = pl.read_parquet(folder / "ml100k_items.parquet").select(
        "item_id",
        genres=pl.col("class").fill_null("none"),
        genre=pl.col("class").fill_null("none").str.split(" ").list.first(),
        year=pl.col("release_year").cast(pl.Int64, strict=False).fill_null(1995),
    )
    users = pl.read_parquet(folder / "ml100k_users.parquet").drop("zip_code")
    rows = (
        ratings.join(items, "item_id")
        .join(users, "user_id")
        .with_columns(click=(pl.col("rating") >= 4).cast(pl.Int8))
        .sort("timestamp", "user_id", "item_id")
    )
    clicked = {
        "name": "history", "history": "clicked", "by": "user_id", "where": {"click": 1}, "order": "item_id",
        "columns": {"history_items": "item_id", "history_genres": "genres", "history_genre": "genre"},
        "length": HISTORY,
    }  # fmt: skip
    table = derive(plan_of([clicked]), SourceTables(rows.lazy()))
    features = {
        "group": "user_id",
        "timestamp": "timestamp",
        "categorical": _named("user_id", "item_id", "genres", "genre", "gender", "occupation"),
        "numeric": _named("age", "year"),
        "sequences": [
            {"name": "history_items", "shares": "item_id", "max_length": HISTORY},
            {"name": "history_genres", "shares": "genres", "max_length": HISTORY},
            {"name": "history_genre", "shares": "genre", "max_length": HISTORY},
        ],
        "profile": ["user_id", "gender", "occupation", "age"],
    }
    return _divided(table, {"split": {"train": 0.7, "valid": 0.15}}, _like_sample(features))


def mind(folder: Path | None) -> DataSet:
    """News of MIND shown to users: counts of the news as of the time, and the user's newest 30 clicks."""
    table = pl.read_parquet(_needed(folder) / "mind_impressions.parquet").sort(
        "timestamp", maintain_order=True
    )
    logarithmic = ("user_history", "news_impressions", "news_clicks", "news_age", "list_length")
    features = {
        "group": "user_id",
        "timestamp": "timestamp",
        "categorical": [{"name": "news_id", "min_count": 20}, *_named("hour", "weekday")],
        "numeric": [
            *({"name": name, "transform": "log1p"} for name in logarithmic),
            *_named("news_rate", "news_number", "in_history"),
        ],
        "sequences": [{"name": "history_news", "shares": "news_id", "max_length": 30}],
        "profile": ["user_history", "list_length", "hour", "weekday"],
    }
    return _divided(table, {"split": {"train": 0.7, "valid": 0.15}}, _like_sample(features))


def criteo(folder: Path | None) -> DataSet:
    """10,000 rows of Criteo's display ads, divided at random; there is no history."""
    numbers, categories = [f"I{i}" for i in range(1, 14)], [f"C{i}" for i in range(1, 27)]
    table = pl.read_csv(
        _needed(folder) / "criteo_10k.txt.gz",
        separator="\t",
        has_header=False,
        new_columns=["click", *numbers, *categories],
        schema_overrides=[pl.Int64] * 14 + [pl.String] * 26,
    )
    # The second number goes below 0, where a logarithm has no value.
    table = table.with_columns(pl.col(numbers).clip(0).fill_null(0))
    features = {
        "categorical": [{"name": name, "min_count": 5} for name in categories],
        "numeric": [{"name": name, "transform": "log1p"} for name in numbers],
    }
    shares = {"by": "random", "train": 0.7, "valid": 0.15}
    return _divided(table, {"split": shares}, _like_sample(features))


def avazu(folder: Path | None) -> DataSet:
    """9,000 rows of Avazu's mobile ads. All rows are of one hour or two, so they are divided at random."""
    table = pl.read_csv(_needed(folder) / "avazu_10k.csv.gz", schema_overrides={"id": pl.String})
    names = [name for name in table.columns if name not in ("id", "click", "hour")]
    features = {"categorical": [{"name": name, "min_count": 5} for name in names]}
    shares = {"by": "random", "train": 0.7, "valid": 0.15}
    return _divided(table, {"split": shares}, _like_sample(features))


DATA_SETS: dict[str, Callable[[Path | None], DataSet]] = {
    "market-63k": partial(market, rows=63_000),
    "market-270k": partial(market, rows=270_000),
    "market-1m": partial(market, rows=1_050_000),
    "trivago": trivago,
    "movielens": movielens,
    "mind": mind,
    "hillstrom": hillstrom,
    "criteo": criteo,
    "avazu": avazu,
}
WITHOUT_FOLDER = tuple(name for name in DATA_SETS if name.startswith("market"))


def _divided(table: pl.DataFrame, shares: Mapping[str, Any], config: Mapping[str, Any]) -> DataSet:
    """A data set whose rows are divided as `shares["split"]` says."""
    spec = build(FeatureSpec, dict(config["features"]))
    return DataSet(table, config, split_rows(spec, build(SplitConfig, shares["split"]), table, seed=0))


def _shipped(name: str) -> dict[str, Any]:
    """What a config of this repository says of features, network and training."""
    config = read_yaml(CONFIGS / f"{name}.yaml")
    return {key: config[key] for key in ("features", "model", "training") if key in config}


def _read(name: str, folder: Path | None) -> pl.DataFrame:
    """The rows that a config of this repository reads, with all their columns."""
    return read_training_table(load_train_config(CONFIGS / f"{name}.yaml"), _needed(folder))[0]


def _like_sample(features: Mapping[str, Any]) -> dict[str, Any]:
    """A config with other features, and the network and training of the sample logs."""
    return {**_shipped("sample"), "features": features}


def _named(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


def _needed(folder: Path | None) -> Path:
    if folder is None:
        raise SystemExit("Real logs need --folder, the folder of their files.")
    return folder
