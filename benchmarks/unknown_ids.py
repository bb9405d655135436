"""What the vector of the unknown id should be, where no training row has it.

    python benchmarks/unknown_ids.py FOLDER [--seeds 5] [--data market movielens trivago]

FOLDER holds the parquet files of MovieLens 100k and trivago. Every way trains the same model on the same rows
in the same order; test rows with an id that training has not seen are told apart from the others.

- as drawn: the vector that it was drawn as;
- zero: no vector at all;
- mean: the mean of the vectors of its table, each as often as training has seen it, as `ctrkit train` does;
- drop: trained, by putting it in place of a share of all ids of every batch.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import FIRST_ID, UNKNOWN_ID
from ctrkit.data.split import Split, SplitConfig, split_rows
from ctrkit.data.synthetic import Market
from ctrkit.metrics import auc, log_loss
from ctrkit.models import build_model, model_config
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import FeatureEmbedding
from ctrkit.nn.embedding_tables import StackedTables
from ctrkit.schema import FeatureSpec
from ctrkit.training import TrainingConfig, fit, predict


@dataclass(frozen=True)
class Task:
    """A table, its split, a model and how it is trained."""

    table: pl.DataFrame
    spec: FeatureSpec
    split: Split
    model: dict[str, Any]
    training: dict[str, Any]


def market(folder: Path) -> Task:
    """The sample market; one ad of five is new after the training rows."""
    table = Market(seed=5).impressions(60_000)
    names = ("user_segment", "device", "placement", "ad_id", "ad_category", "ad_advertiser")
    spec = FeatureSpec.model_validate(
        {
            "timestamp": "timestamp",
            "categorical": [{"name": name} for name in names],
            "numeric": [{"name": "user_age"}],
        }
    )
    split = split_rows(spec, SplitConfig(train=0.6, valid=0.15), table, 0)
    new = np.random.default_rng(0).choice(table["ad_id"].unique().sort().to_numpy(), 30, replace=False)
    known = ~np.isin(table["ad_id"].to_numpy(), new)
    split = replace(split, train=split.train[known[split.train]])
    model = {"name": "dcnv2", "embedding": 16, "heads": {"towers": [64]}}
    return Task(table, spec, split, model, {"batch_size": 256, "epochs": 4})


def movielens(folder: Path) -> Task:
    """Ratings of 4 and 5 as clicks; by time, most users of the test are new."""
    table = pl.read_parquet(folder / "ml100k_ratings.parquet").with_columns(
        click=(pl.col("rating") >= 4).cast(pl.Int8)
    )
    ints = pl.col("user_id", "item_id").cast(pl.Int64)
    table = (
        table.with_columns(ints)
        .join(pl.read_parquet(folder / "ml100k_users.parquet"), "user_id", maintain_order="left")
        .join(pl.read_parquet(folder / "ml100k_items.parquet"), "item_id", maintain_order="left")
        .with_columns(pl.col("class").fill_null("none"))
    )
    names = ("user_id", "item_id", "gender", "occupation", "class")
    spec = FeatureSpec.model_validate(
        {
            "timestamp": "timestamp",
            "categorical": [{"name": name} for name in names],
            "numeric": [{"name": "age"}],
        }
    )
    split = split_rows(spec, SplitConfig(train=0.7, valid=0.1), table, 0)
    model = {"name": "deepfm", "embedding": 16, "heads": {"towers": [64]}}
    return Task(table, spec, split, model, {"batch_size": 512, "epochs": 6})


def trivago(folder: Path) -> Task:
    """Hotels and their cities as ids; in the last hours many hotels are new."""
    table = pl.read_parquet(folder / "trivago_impressions.parquet").sort("timestamp")[:120_000]
    spec = FeatureSpec.model_validate(
        {
            "timestamp": "timestamp",
            "categorical": [{"name": n} for n in ("item_id", "city", "platform", "device")],
            "numeric": [{"name": "position"}, {"name": "price", "transform": "log1p"}],
        }
    )
    split = split_rows(spec, SplitConfig(train=0.7, valid=0.1), table, 0)
    model = {"name": "dcnv2", "embedding": 16, "heads": {"towers": [64]}}
    return Task(table, spec, split, model, {"batch_size": 512, "epochs": 4})


TASKS = {"market": market, "movielens": movielens, "trivago": trivago}


def dropped(share: float) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
    """A hook that puts the unknown id in place of a share of all ids, in training."""

    def drop(ids: Tensor) -> Tensor:
        return ids.masked_fill((torch.rand(ids.shape) < share) & (ids >= FIRST_ID), UNKNOWN_ID)

    def hook(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not module.training:
            return None
        batch: Batch = given[0]
        histories = {name: drop(ids) for name, ids in batch.sequences.items()}
        return (replace(batch, categorical=drop(batch.categorical), sequences=histories),)

    return hook


def trained(task: Task, data: EncodedTable, encoder: Encoder, seed: int, way: str) -> NDArray[np.float64]:
    """Logits of the test rows."""
    torch.manual_seed(seed)
    model = build_model(model_config(task.model), encoder.feature_map())
    model.set_base_rates([float(data.labels[task.split.train, 0].mean())])
    if way.startswith("drop"):
        model.register_forward_pre_hook(dropped(float(way.split()[1])))
    if way == "zero":
        with torch.no_grad():
            for tables in (module for module in model.modules() if isinstance(module, StackedTables)):
                tables.matrix.weight[tables.starts.long() + UNKNOWN_ID] = 0.0
    settles = FeatureEmbedding.settle_unknown if way == "mean" else lambda *_: None
    with tempfile.TemporaryDirectory() as scratch, patch.object(FeatureEmbedding, "settle_unknown", settles):
        fit(
            model,
            data,
            task.split,
            TrainingConfig.model_validate(task.training),
            seed=seed,
            identity={},
            checkpoint=Path(scratch) / "checkpoint.pt",
        )
    return predict(model, data, task.split.test)[0][:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description="the vector of the unknown id")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--ways", nargs="+", default=["as drawn", "zero", "mean", "drop 0.01", "drop 0.05"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.data:
        task = TASKS[name](arguments.folder)
        encoder = Encoder.fit(task.spec, task.table[task.split.train])
        data = encoder.encode(task.table)
        rows = task.split.test
        unseen = (data.categorical[rows] == UNKNOWN_ID).any(axis=1)
        y = data.labels[rows, 0]
        title = f"{name}: {rows.size:,} test rows, {unseen.mean():.0%} with an unseen id"
        columns = [f"{which}: {what}" for which in ("unseen", "known") for what in ("log loss", "±", "AUC")]
        shown = Table("way", *columns, title=title)
        for way in arguments.ways:
            found = []
            for seed in range(arguments.seeds):
                p = 1.0 / (1.0 + np.exp(-trained(task, data, encoder, seed, way)))
                found.append([f(y[m], p[m]) for m in (unseen, ~unseen) for f in (log_loss, auc)])
            mean, spread = (
                np.mean(found, axis=0),
                np.std(found, axis=0, ddof=1) if len(found) > 1 else [0.0] * 4,
            )
            shown.add_row(way, f"{mean[0]:.4f}", f"{spread[0]:.4f}", f"{mean[1]:.4f}", f"{mean[2]:.4f}",
                          f"{spread[2]:.4f}", f"{mean[3]:.4f}")  # fmt: skip
        Console(width=140).print(shown)


if __name__ == "__main__":
    main()
