"""Hashed ids on the road from a table to predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.explanations.features import Names

pytestmark = [
    pytest.mark.filterwarnings("ignore::ctrkit.training.TrainingWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.evaluation.EvaluationWarning"),
]


def test_a_model_of_hashed_ids_keeps_them_in_its_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    user = random.integers(0, 40, 2000)
    click = random.random(2000) < 0.1 + 0.8 * (user % 4 == 0)
    table = pl.DataFrame({"user": user, "site": random.integers(0, 5, 2000), "click": click.astype(np.int8)})
    features = {"categorical": [{"name": "user"}, {"name": "site"}], "hash_above": 30}
    config = {"features": features, "split": {"by": "random"}, "model": {"name": "lr", "crosses": []}}
    result = ctrkit.train(config, table, model=tmp_path / "m.pt")
    assert result.artifact.feature_map["tables"] == {"site": 7, "user": 32}
    assert any("hashed into 30 buckets" in note for note in result.notes)
    assert set(result.unknown) == {"site"}
    auc = result.metrics["click"]["auc"]
    assert auc is not None
    assert auc > 0.75  # 0.9 with ids of their own: some buckets hold users of both kinds
    loaded = ctrkit.load(tmp_path / "m.pt")
    rows = table.drop("click").with_columns(pl.col("user").cast(pl.String))  # text in place of numbers
    p = loaded.predict(rows)["click"].to_numpy()
    np.testing.assert_array_equal(p, result.trained.predict(table)["click"].to_numpy())
    assert loaded.predict(rows[:2].with_columns(user=pl.lit("new")))["click"].is_finite().all()
    assert Names(loaded.encoder).id("user", 9) == "(bucket 7)"
    assert [share.column for share in ctrkit.evaluate(loaded, table[:500]).unknown] == ["site"]
