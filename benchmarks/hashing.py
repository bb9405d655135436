"""Ids of their own for frequent values, or buckets for all: what hashing of many values costs and saves.

    OMP_NUM_THREADS=1 python benchmarks/hashing.py [FOLDER] [--rows 1000000] [--models lr dcnv2]
    OMP_NUM_THREADS=1 python benchmarks/hashing.py --distinct 10000000

Two sets of rows. `made`: three fields of ids, of 20,000, 100,000 and 300,000 values with frequencies as of
Zipf's law, and the log-odds of a click are a sum of an effect of each value; rows are divided at random.
`trivago`, if FOLDER holds its parquet files: hotels, of which there are 107,000 in 313,000 rows, with city,
device and platform; the last rows by time are the test rows.

Every way trains the same model. "own ids" is the default: ids of values that are frequent enough, and one
unknown id for the others. "ids" is the number of rows of all embedding tables.

`--distinct` shows instead what it takes to learn the ids of a column with so many different values.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

import ctrkit
from ctrkit.data.learning import Learning
from ctrkit.data.raw_table import ROWS
from ctrkit.schema import FeatureSpec

VALUES = {"site": 20_000, "ad": 100_000, "user": 300_000}
WAYS: dict[str, dict[str, Any]] = {
    "own ids": {},
    "own ids, min_count 1": {"min_count": 1},
    **{f"{buckets:,} buckets": {"buckets": buckets} for buckets in (10_000, 100_000, 1_000_000)},
}
MODELS: dict[str, dict[str, Any]] = {
    "lr": {"model": {"name": "lr", "crosses": []}},
    "dcnv2": {
        "model": {"name": "dcnv2", "embedding": 8, "crosses": [], "heads": {"towers": [64]}},
        "training": {"batch_size": 4096, "epochs": 2},
    },
}


def made(rows: int) -> tuple[pl.DataFrame, dict[str, Any], tuple[str, ...]]:
    """Rows whose clicks depend on the effects of ids."""
    random = np.random.default_rng(0)
    columns, logits = {}, np.full(rows, -2.5)
    for name, values in VALUES.items():
        frequency = 1.0 / np.arange(1, values + 1)
        value = random.choice(values, rows, p=frequency / frequency.sum())
        logits += random.normal(0.0, 0.6, values)[value]
        columns[name] = value
    click = (random.random(rows) < 1.0 / (1.0 + np.exp(-logits))).astype(np.int8)
    return pl.DataFrame({**columns, "click": click}), {"split": {"by": "random"}}, tuple(VALUES)


def trivago(folder: Path) -> tuple[pl.DataFrame, dict[str, Any], tuple[str, ...]]:
    """Hotels in lists."""
    table = pl.read_parquet(folder / "trivago_impressions.parquet")
    return table, {"features": {"timestamp": "timestamp"}}, ("item_id", "city", "platform", "device")


def learnt(settings: dict[str, Any], values: int) -> tuple[float, float]:
    """Peak memory in MB and processor seconds of learning the ids of a column of distinct values."""
    spec = FeatureSpec.model_validate({"categorical": [{"name": "user", "min_count": 1, **settings}]})
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    learning = Learning(spec, values)
    for start in range(0, values, ROWS):
        numbers = np.arange(start, min(start + ROWS, values)) * 2_654_435_761 % (1 << 40)
        learning.add(
            pl.DataFrame({"user": pl.Series(numbers).cast(pl.String)}), np.arange(len(numbers)), None
        )
    learning.vocabularies()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak - before) / 1024, time.process_time() - begun


def show_learning(values: int) -> None:
    """Each way in a process of its own, whose memory starts small."""
    shown = Table("way", "MB", "seconds", title=f"learning {values:,} distinct values")
    for way, settings in {"own ids": {}, "10,000 buckets": {"buckets": 10_000}}.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory, seconds = pool.apply(learnt, (settings, values))
        shown.add_row(way, f"{memory:,.0f}", f"{seconds:.1f}")
    Console(width=120).print(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description="ids of their own, or buckets")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--distinct", type=int)
    arguments = parser.parse_args()
    if arguments.distinct is not None:
        show_learning(arguments.distinct)
        return
    data = {"made": made(arguments.rows)}
    if arguments.folder is not None:
        data["trivago"] = trivago(arguments.folder)
    for name, (rows, config, fields) in data.items():
        shown = Table(
            "model", "way", "ids", "AUC", "log loss", "seconds", title=f"{name}: {rows.height:,} rows"
        )
        for model in arguments.models:
            for way, setting in WAYS.items():
                features = {
                    **config.get("features", {}),
                    "categorical": [{"name": field, **setting} for field in fields],
                }
                begun = time.process_time()
                result = ctrkit.train({**config, **MODELS[model], "features": features}, rows)
                spent = time.process_time() - begun
                ids = sum(result.artifact.feature_map["tables"].values())
                metrics = result.metrics["click"]
                shown.add_row(
                    model,
                    way,
                    f"{ids:,}",
                    f"{metrics['auc']:.4f}",
                    f"{metrics['log_loss']:.4f}",
                    f"{spent:.0f}",
                )
        Console(width=120).print(shown)


if __name__ == "__main__":
    main()
