"""trivago: boosted trees beside ctrkit's model, on the same columns and the same split.

    python benchmarks/trivago.py FOLDER [--seeds 1]

FOLDER holds `trivago_impressions.parquet` and `trivago_actions.parquet`. Trees get the static columns of the
config as they are; of the sequences, which they cannot read, the config's own counts and recencies stand in.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import polars as pl
from rich.console import Console
from rich.table import Table
from sklearn.metrics import log_loss, roc_auc_score

import ctrkit
from ctrkit.api.models.training_config import load_train_config, read_training_table
from ctrkit.config import build, read_yaml
from ctrkit.data.split import Split, SplitConfig, split_rows
from ctrkit.schema import FeatureSpec

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Score:
    """How a model does on the last 15 % of the rows by time."""

    name: str
    auc: float
    log_loss: float


def spec_of(config: str) -> FeatureSpec:
    """The feature spec of a config in this repository."""
    return build(FeatureSpec, read_yaml(CONFIGS / config)["features"], config)


def lightgbm_auc(
    table: pl.DataFrame, columns: Sequence[str], split: Split, name: str, seed: int = 0
) -> Score:
    """Fit trees on the training rows, stop on the validation rows, score the test rows."""
    text = [c for c in columns if table.schema[c] == pl.String]
    codes = table.select(
        pl.col(c).cast(pl.Categorical).to_physical().cast(pl.Int32) if c in text else pl.col(c)
        for c in columns
    ).to_pandas()
    label = table["click"].to_numpy()
    train, valid, test = split.train, split.valid, split.test
    trees = lightgbm.LGBMClassifier(
        n_estimators=2000, learning_rate=0.03, num_leaves=31, min_child_samples=50, subsample=0.8,
        subsample_freq=1, colsample_bytree=0.8, random_state=seed, deterministic=True, verbose=-1,
    )  # fmt: skip
    trees.fit(
        codes.iloc[train],
        label[train],
        eval_X=codes.iloc[valid],
        eval_y=label[valid],
        eval_metric="binary_logloss",
        categorical_feature=text,
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    probability = trees.predict_proba(codes.iloc[test])[:, 1]
    return Score(
        name, float(roc_auc_score(label[test], probability)), float(log_loss(label[test], probability))
    )


def lightgbm_scores(table: pl.DataFrame, split: Split) -> list[Score]:
    """Trees with all columns, without history, and with position and recency alone."""
    return [
        lightgbm_auc(table, spec_of("trivago.yaml").static_features, split, "LightGBM"),
        lightgbm_auc(
            table,
            spec_of("trivago_without_history.yaml").static_features,
            split,
            "LightGBM without history",
        ),
        lightgbm_auc(
            table,
            ("position", "item_recency", "item_freshness"),
            split,
            "LightGBM, position and recency only",
        ),
        lightgbm_auc(table, ("position",), split, "LightGBM, position only"),
    ]


def mdaf_score(folder: Path, config: str, name: str, seed: int) -> Score:
    """Train ctrkit's model by a config of this repository, and score the same test rows."""
    with tempfile.TemporaryDirectory() as scratch:
        result = ctrkit.train(
            CONFIGS / config,
            folder,
            model=Path(scratch) / "model.pt",
            out=Path(scratch) / "run",
            overrides=[f"seed={seed}"],
        )
    return Score(f"{name}, seed {seed}", result.metrics["click"]["auc"], result.metrics["click"]["log_loss"])


def main() -> None:
    parser = argparse.ArgumentParser(description="trivago: trees beside ctrkit's model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each of ctrkit's models")
    arguments = parser.parse_args()
    folder = arguments.folder
    table, _ = read_training_table(load_train_config(CONFIGS / "trivago.yaml"), folder)
    config = build(SplitConfig, read_yaml(CONFIGS / "trivago.yaml")["split"])
    split = split_rows(spec_of("trivago.yaml"), config, table, seed=0)
    shown = Table("model", "test AUC", "test log loss", title=f"trivago, {split.test.size:,} test rows")
    scores = lightgbm_scores(table, split)
    for seed in range(arguments.seeds):
        scores.append(mdaf_score(folder, "trivago.yaml", "MDAF", seed))
        scores.append(mdaf_score(folder, "trivago_without_history.yaml", "MDAF without history", seed))
    for score in scores:
        shown.add_row(score.name, f"{score.auc:.4f}", f"{score.log_loss:.4f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
