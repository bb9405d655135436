"""Whether bins of numbers make a model better, on five data sets.

    python benchmarks/number_bins.py FOLDER [--seeds 3] [--data market trivago mind hillstrom criteo]

FOLDER holds the files of trivago, MIND, Hillstrom and Criteo (10,000 rows). Each way trains the same models
on the same rows in the same order:

- none: a line for each number (`embedding: {bins: 0}`);
- 8, 16, 32: at most so many bins;
- 32 drawn: the steps between the vectors of edges are drawn, not 0.

Weights are not averaged. Numbers of data with ` log` behind the name are taken as log1p.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from ctrkit.api.models.training_config import load_train_config, read_training_table
from ctrkit.config import read_yaml
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.split import Split, SplitConfig, split_rows
from ctrkit.data.synthetic import Market
from ctrkit.metrics import auc, log_loss
from ctrkit.models import build_model, model_config
from ctrkit.nn.embedding import FeatureEmbedding
from ctrkit.schema import FeatureSpec
from ctrkit.training import TrainingConfig, fit, predict

DRAWN = " drawn"


@dataclass(frozen=True)
class Task:
    """A table, its features, its split, models and how they are trained."""

    table: pl.DataFrame
    spec: FeatureSpec
    split: Split
    models: tuple[str, ...]
    training: dict[str, Any]


def spec_of(
    categorical: Sequence[str], numeric: Sequence[str], log: Sequence[str] = (), **others: Any
) -> FeatureSpec:
    """The features of a task; `log` names the numbers that are taken as log1p."""
    return FeatureSpec.model_validate(
        {
            "categorical": [{"name": name, "min_count": 10} for name in categorical],
            "numeric": [{"name": n, "transform": "log1p" if n in log else "none"} for n in numeric],
            **others,
        }
    )


def market(folder: Path, log: bool) -> Task:
    """The sample market: the user's age, the price of the ad and the hour."""
    table = Market(seed=5).impressions(60_000)
    names = ("user_segment", "device", "placement", "ad_id", "ad_category", "ad_advertiser")
    numeric = ("user_age", "ad_price", "hour")
    history = [{"name": "history_ads", "shares": "ad_id", "max_length": 20}]
    spec = spec_of(names, numeric, numeric if log else (), sequences=history, timestamp="timestamp")
    split = split_rows(spec, SplitConfig(train=0.7, valid=0.15), table, 0)
    return Task(table, spec, split, ("din", "dcnv2"), {"batch_size": 512, "epochs": 3})


def trivago(folder: Path, log: bool) -> Task:
    """The features of `configs/trivago.yaml`: 15 numbers, and touches as histories."""
    config = Path(__file__).parents[1] / "configs" / "trivago.yaml"
    raw = read_yaml(config)
    spec = FeatureSpec.model_validate(raw["features"])
    split_config = SplitConfig.model_validate(raw["split"])
    table, _ = read_training_table(load_train_config(config), folder)
    if not log:
        plain = tuple(one.model_copy(update={"transform": "none"}) for one in spec.numeric)
        spec = spec.model_copy(update={"numeric": plain})
    split = split_rows(spec, split_config, table, 0)
    return Task(table, spec, split, ("din", "dcnv2"), {"batch_size": 512, "epochs": 1})


def mind(folder: Path, log: bool) -> Task:
    """News: counts and rates so far, without ids, which a model memorises."""
    table = pl.read_parquet(folder / "mind_impressions.parquet").with_columns(
        pl.col("hour", "weekday").cast(pl.String)
    )
    counts = ("list_length", "user_history", "news_impressions", "news_clicks", "news_age", "news_number")
    numeric = (*counts, "news_rate", "in_history")
    spec = spec_of(("hour", "weekday"), numeric, counts if log else (), timestamp="timestamp")
    split = split_rows(spec, SplitConfig(train=0.7, valid=0.15), table, 0)
    return Task(table, spec, split, ("dnn", "dcnv2"), {"batch_size": 512, "epochs": 1})


def hillstrom(folder: Path, log: bool) -> Task:
    """Visits after e-mails: months since the last purchase, and money spent in the last year."""
    table = pl.read_parquet(folder / "hillstrom.parquet")
    names = ("mens", "womens", "zip_code", "newbie", "channel", "segment")
    spec = spec_of(names, ("recency", "history"), ("history",) if log else (), labels={"visit": "visit"})
    split = split_rows(spec, SplitConfig(train=0.7, valid=0.15), table, 0)
    return Task(table, spec, split, ("dnn", "dcnv2"), {"batch_size": 512, "epochs": 3})


def criteo(folder: Path, log: bool) -> Task:
    """Criteo: 13 integers, of which many are missing, and 26 hashed ids."""
    ints, ids = [f"I{n}" for n in range(1, 14)], [f"C{n}" for n in range(1, 27)]
    names = ["click", *ints, *ids]
    table = pl.read_csv(
        folder / "criteo_10k.txt.gz", separator="\t", has_header=False, new_columns=names,
        schema_overrides=dict.fromkeys(ids, pl.String),
    ).with_columns(pl.col(ints).clip(lower_bound=0))  # fmt: skip
    spec = spec_of(ids, ints, ints if log else ())
    split = split_rows(spec, SplitConfig(train=0.7, valid=0.15), table, 0)
    return Task(table, spec, split, ("dnn", "dcnv2"), {"batch_size": 256, "epochs": 3})


TASKS: dict[str, Callable[[Path, bool], Task]] = {
    "market": market, "trivago": trivago, "mind": mind, "hillstrom": hillstrom, "criteo": criteo,
}  # fmt: skip


def trained(task: Task, model: str, data: EncodedTable, encoder: Encoder, seed: int, way: str) -> list[float]:
    """Log loss and AUC on the test rows."""
    torch.manual_seed(seed)
    bins = 0 if way == "none" else int(way.removesuffix(DRAWN))
    config = model_config(
        {"name": model, "embedding": {"width": 16, "bins": bins}, "heads": {"towers": [64]}}
    )
    network = build_model(config, encoder.feature_map())
    network.set_base_rates([float(data.labels[task.split.train, 0].mean())])
    if way.endswith(DRAWN):
        for module in network.modules():
            if isinstance(module, FeatureEmbedding) and module.steps is not None:
                # Over all bins, steps add up to the size of other new vectors.
                torch.nn.init.normal_(module.steps, std=0.1 * module.numbers.steps**-0.5)
    with tempfile.TemporaryDirectory() as scratch:
        fit(
            network,
            data,
            task.split,
            TrainingConfig.model_validate({"validations_per_epoch": 2, "averaging": False, **task.training}),
            seed=seed,
            identity={},
            checkpoint=Path(scratch) / "checkpoint.pt",
        )
    p = 1.0 / (1.0 + np.exp(-predict(network, data, task.split.test)[0][:, 0]))
    y = data.labels[task.split.test, 0]
    return [log_loss(y, p), auc(y, p)]


def main() -> None:
    parser = argparse.ArgumentParser(description="bins of numbers")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=list(TASKS), help="with ' log' behind it for log1p")
    parser.add_argument("--ways", nargs="+", default=["none", "8", "16", "32", "32 drawn"])
    parser.add_argument("--models", nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.data:
        task = TASKS[name.removesuffix(" log")](arguments.folder, name.endswith(" log"))
        encoder = Encoder.fit(task.spec, task.table, rows=task.split.train)
        data = encoder.encode(task.table)
        counts = {one: len(bins.means) for one, bins in encoder.bins.items()}
        title = f"{name}: {task.split.train.size:,} training rows, bins {counts}"
        shown = Table("model", "way", "log loss", "±", "AUC", "±", title=title)
        for model in arguments.models or task.models:
            for way in arguments.ways:
                found = [trained(task, model, data, encoder, seed, way) for seed in range(arguments.seeds)]
                mean = np.mean(found, axis=0)
                spread = np.std(found, axis=0, ddof=1) if len(found) > 1 else np.zeros(2)
                cells = [f"{mean[0]:.5f}", f"{spread[0]:.5f}", f"{mean[1]:.4f}", f"{spread[1]:.4f}"]
                shown.add_row(model, way, *cells)
                print(name, model, way, *cells, flush=True)
        Console(width=140).print(shown)


if __name__ == "__main__":
    main()
