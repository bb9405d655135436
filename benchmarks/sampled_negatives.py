"""What a model of likes alone, with sampled negatives, knows of dislikes: MovieLens 100k.

    python benchmarks/sampled_negatives.py FOLDER [--seeds 3]

FOLDER holds `ml100k_ratings.parquet`. A fifth of the ratings is held out, likes (four and five stars) and
dislikes. A model is trained on the likes among the others, with negatives of each way; the last one is
trained on likes and dislikes. Columns are the AUC within the sampled rows of the training's own test part,
and the AUC and GAUC (within users) of likes against dislikes among the held-out ratings.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

import ctrkit
from ctrkit.metrics import auc, gauc

LIKED = 4
WAYS: dict[str, dict[str, Any]] = {
    "uniform": {"by": "uniform"},
    "popularity to 0.75": {"by": "popularity"},
    "popularity to 1": {"by": "popularity", "power": 1.0},
    "popularity to 0.75, corrected": {"by": "popularity", "corrected": True},
    "uniform, known items too": {"by": "uniform", "exclude_known": False},
    "popularity to 0.75, known items too": {"by": "popularity", "exclude_known": False},
    "items of the user's other rows": {"by": "session"},
}
FEATURES = {
    "labels": {"liked": "liked"},
    "categorical": [{"name": "user_id"}, {"name": "item_id"}],
    "group": "user_id",
    "timestamp": "timestamp",
}


def measured(ratings: pl.DataFrame, way: dict[str, Any] | None, seed: int) -> tuple[float, float, float]:
    """AUC in the training's own test rows, and AUC and GAUC of the held-out ratings."""
    held_out = np.random.default_rng(seed).random(ratings.height) < 0.2
    rows, rest = ratings.filter(~held_out), ratings.filter(held_out)
    sampling: dict[str, Any] = {}
    if way is not None:
        rows = rows.filter(pl.col("liked") == 1)
        sampling = {"negatives": {"item": "item_id", "features": [], **way}}
    result = ctrkit.train(
        data=rows,
        features=FEATURES,
        split={"by": "random", "train": 0.8, "valid": 0.1},
        network={"name": "fm", "embedding": 16},
        training={"epochs": 8, "batch_size": 1024, "validations_per_epoch": 1, "patience": 2},
        sampling=sampling,
        seed=seed,
    )
    scores = result.trained.predict(rest)["liked"].to_numpy()
    labels, users = rest["liked"].to_numpy(), rest["user_id"].to_numpy()
    return (
        result.metrics["liked"]["auc"] or float("nan"),
        auc(labels, scores),
        gauc(labels, scores, users),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    ratings = pl.read_parquet(options.folder / "ml100k_ratings.parquet")
    ratings = ratings.with_columns(liked=(pl.col("rating") >= LIKED).cast(pl.Int8))
    table = Table("negatives", "sampled rows: AUC", "likes and dislikes: AUC", "GAUC")
    for name, way in {**WAYS, "the dislikes themselves": None}.items():
        found = np.array([measured(ratings, way, seed) for seed in range(options.seeds)])
        cells = [f"{m:.3f} ({s:.3f})" for m, s in zip(found.mean(0), found.std(0), strict=True)]
        table.add_row(name, *cells)
        print(name, *cells, flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
