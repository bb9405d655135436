"""The sample market: how far a linear model, trees and ctrkit's model are from the truth, on the same rows.

    python benchmarks/sample_market.py [model.pt]

Without an artifact the model is trained first, by the config of the sample logs. The sample's test rows hold
too few clicks to tell models apart, so more impressions of the same market and the same last day are drawn.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

import ctrkit
from ctrkit.api.models.training_config import load_train_config
from ctrkit.api.sample_logs import bundled
from ctrkit.data.split import split_rows
from ctrkit.data.synthetic import Market
from ctrkit.metrics import auc, interval

ROWS = 800_000


def main() -> None:
    parser = argparse.ArgumentParser(description="models of the sample logs beside the truth")
    parser.add_argument("model", type=Path, nargs="?")
    model = parser.parse_args().model
    table = pl.read_parquet(bundled("logs_sample", "impressions.parquet"))
    config = load_train_config(None)
    split = split_rows(config.features, config.split, table, config.seed)
    train = table[split.train]
    assert split.boundaries is not None
    more = Market(seed=0).impressions(ROWS)
    test = more.filter(pl.col("timestamp") >= split.boundaries[1])
    static = [feature.name for feature in config.features.categorical]

    linear = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=1000, C=0.3))
    trees = make_pipeline(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        HistGradientBoostingClassifier(learning_rate=0.03, random_state=0),
    )
    scores = {
        "logistic regression, static features": linear,
        "boosted trees, static features": trees,
    }
    shown = Table("model", "AUC of click", "95 % interval", title=f"{test.height:,} rows")
    found = {
        name: one.fit(train[static].to_pandas(), train["click"]).predict_proba(test[static].to_pandas())[:, 1]
        for name, one in scores.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        if model is None:
            model = Path(scratch) / "model.pt"
            ctrkit.train(model=model, out=Path(scratch) / "run")
        found["MDAF, with histories"] = ctrkit.load(model).predict(test)["click"].to_numpy()
    found["the true click probability"] = test["true_click_probability"].to_numpy()
    for name, p in found.items():
        bounds = interval(auc, test["click"].to_numpy(), p, test["user_id"].to_numpy())
        shown.add_row(name, f"{bounds.value:.3f}", f"{bounds.low:.3f} to {bounds.high:.3f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
