"""Bags of ids from a table to predictions, by models of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit

pytestmark = [
    pytest.mark.filterwarnings("ignore::ctrkit.evaluation.EvaluationWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.training.TrainingWarning"),
]
FEATURES: dict[str, Any] = {
    "labels": {"click": "click"},
    "categorical": [{"name": "ad"}],
    "candidate": {"id": "ad", "features": ["tags"]},
    "bags": [{"name": "tags"}, {"name": "topics", "weights": "topic_weights", "pooling": "sum"}],
}
MODELS: list[dict[str, Any]] = [
    {"name": "lr"},
    {"name": "dnn", "embedding": 8, "hidden": [16]},
    {"name": "lightgbm", "rounds": 80, "learning_rate": 0.1, "leaves": [7], "categories": [True]},
]


def made(rows: int = 3000) -> pl.DataFrame:
    """Clicks that a tag and the weight of a topic decide."""
    rng = np.random.default_rng(0)
    tags = [rng.choice(12, rng.integers(0, 5), replace=False).tolist() for _ in range(rows)]
    topics = [rng.choice(6, rng.integers(0, 4), replace=False).tolist() for _ in range(rows)]
    weights = [rng.uniform(0.0, 2.0, len(one)).round(2).tolist() for one in topics]
    strength = [
        dict(zip(one, weight, strict=True)).get(3, 0.0) for one, weight in zip(topics, weights, strict=True)
    ]
    score = 2.5 * np.array([7 in one for one in tags]) + 1.5 * np.array(strength) - 1.5
    return pl.DataFrame(
        {
            "ad": rng.integers(0, 5, rows),
            "tags": tags,
            "topics": topics,
            "topic_weights": weights,
            "click": (rng.random(rows) < 1 / (1 + np.exp(-score))).astype(np.int8),
        }
    )


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_models_learn_from_bags_and_keep_them(model: dict[str, Any], tmp_path: Path) -> None:
    if model["name"] == "lightgbm":
        pytest.importorskip("lightgbm")
    config = {
        "features": FEATURES,
        "split": {"by": "random"},
        "model": model,
        **(
            {"training": {"epochs": 8, "optimizer": {"learning_rate": 0.02}}}
            if model["name"] == "dnn"
            else {}
        ),
    }
    table = made()
    result = ctrkit.train(config, table, model=tmp_path / "model.pt", out=tmp_path / "run")
    assert result.metrics["click"]["auc"] > 0.7
    loaded = ctrkit.load(tmp_path / "model.pt")
    assert loaded.predict(table[:50]).equals(result.trained.predict(table[:50]))
    hot = table[:1].with_columns(
        tags=pl.Series([[7]]), topics=pl.Series([[3]]), topic_weights=pl.Series([[2.0]])
    )
    cold = hot.with_columns(tags=pl.Series([[5]]), topic_weights=pl.Series([[0.1]]))
    p = [float(loaded.predict(one)["click"][0]) for one in (hot, cold)]
    assert p[0] > 0.8
    assert p[1] < 0.5
    # A candidate may bring a bag of its own.
    ads, bags = [[0, 1], [2], [3, 4]], [[[7], [1, 2]], [[]], [[7], [3]]]
    log = table[:3].drop("ad", "tags", "click")
    found = loaded.score_candidates(
        log.with_columns(pl.Series("candidate_tags", bags)), pl.Series("candidates", ads)
    ).probabilities["click"]
    for row, (ids, tags) in enumerate(zip(ads, bags, strict=True)):
        rows = log[[row] * len(ids)].with_columns(
            pl.Series("ad", ids), pl.Series("tags", tags, dtype=pl.List(pl.Int64))
        )
        expected = loaded.predict(rows)["click"].to_numpy()
        np.testing.assert_allclose(found[row, : len(ids)], expected, rtol=1e-5)
