"""Pretrained vectors from a table to predictions, by models of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

import ctrkit
from ctrkit.errors import ConfigError

pytestmark = [
    pytest.mark.filterwarnings("ignore::ctrkit.evaluation.EvaluationWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.training.TrainingWarning"),
]
ITEMS, WIDTH = 300, 4
STEPS = {"training": {"epochs": 4, "optimizer": {"learning_rate": 0.02}}}
MODELS: list[dict[str, Any]] = [
    {"model": {"name": "lr", "crosses": []}},
    {"model": {"name": "dnn", "embedding": 8, "hidden": [16]}, **STEPS},
    {"model": {"name": "lightgbm", "rounds": 80, "learning_rate": 0.1, "leaves": [7], "categories": [True]}},
]


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """Clicks that the vector of the item decides, which too few rows tell of each item alone."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(1.0, 2.0, (ITEMS, WIDTH)).astype(np.float32)
    item = rng.integers(0, ITEMS, 3000)
    score = (embedding[item] - 1.0) @ [1.0, -0.5, 0.0, 0.3]
    return pl.DataFrame(
        {
            "item": item,
            "vector": pl.Series(embedding[item]),
            "device": rng.integers(0, 3, 3000),
            "click": (rng.random(3000) < 1 / (1 + np.exp(-score))).astype(np.int8),
        }
    )


@pytest.fixture
def file(table: pl.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "embedding.parquet"
    table.select("item", "vector").unique("item").sort("item").write_parquet(path)
    return path


def config(content: dict[str, Any], *vectors: dict[str, Any], **features: Any) -> dict[str, Any]:
    spec = {"labels": {"click": "click"}, "categorical": [{"name": "device"}], "vectors": list(vectors)}
    return {"features": {**spec, **features}, "split": {"by": "random"}, **content}


def looked_up(file: Path, **more: Any) -> dict[str, Any]:
    return {"name": "image", "table": str(file), "id": "item", **more}


@pytest.mark.parametrize("content", MODELS, ids=lambda content: content["model"]["name"])
def test_models_learn_from_vectors_and_keep_them(
    content: dict[str, Any], table: pl.DataFrame, file: Path, tmp_path: Path
) -> None:
    if content["model"]["name"] == "lightgbm":
        pytest.importorskip("lightgbm")
    joined = ctrkit.train(config(content, {"name": "vector"}), table, model=None, out=None)
    spec = config(content, looked_up(file), candidate={"id": "item", "features": ["image"]})
    result = ctrkit.train(spec, table, model=tmp_path / "model.pt", out=tmp_path / "run")
    assert result.metrics["click"]["auc"] > 0.8
    # A vector that is looked up is the same as one that stands in the rows, to the last bit.
    assert result.metrics == joined.metrics
    file.unlink()
    loaded = ctrkit.load(tmp_path / "model.pt")
    rows = table[:50].drop("vector", "click")
    found = loaded.predict(rows)
    assert found.equals(joined.trained.predict(table[:50]))
    # 7 and "7" are the same id; an unknown one is read as a missing one.
    assert found.equals(loaded.predict(rows.with_columns(pl.col("item").cast(pl.String))))
    unknown, missing = (rows[:5].with_columns(item=pl.Series([one] * 5)) for one in ("new", None))
    assert loaded.predict(unknown).equals(loaded.predict(missing))
    # Candidates bring the ids that are looked up.
    items = [[0, 1], [2], [3, 4]]
    scores = loaded.score_candidates(rows[:3].drop("item"), pl.Series("candidates", items))
    for row, of in enumerate(items):
        alone = loaded.predict(rows[[row] * len(of)].with_columns(pl.Series("item", of)))["click"]
        np.testing.assert_allclose(scores.probabilities["click"][row, : len(of)], alone, rtol=1e-5)


def test_lr_on_a_vector_is_lr_on_its_numbers_and_that_of_scikit_learn(table: pl.DataFrame) -> None:
    numbers = [table["vector"].arr.get(at).alias(f"x{at}") for at in range(WIDTH)]
    wide = table.with_columns(numbers)
    model = {"model": {"name": "lr", "embedding": {"width": 1, "bins": 0}, "crosses": []}}
    of_vector = config(model, {"name": "vector"}, categorical=[])
    of_numbers = config(model, categorical=[], numeric=[{"name": one.name} for one in numbers])
    one, other = (ctrkit.train(spec, wide, model=None, out=None) for spec in (of_vector, of_numbers))
    found, expected = (of.trained.predict(wide)["click"].to_numpy() for of in (one, other))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    x, y = np.stack(numbers, axis=1), table["click"].to_numpy()
    theirs = LogisticRegression(C=1e6).fit(x, y).predict_proba(x)[:, 1]
    # Theirs has seen the held-out rows too, a fifth of all.
    assert np.abs(found - theirs).mean() < 0.01


def test_training_changes_vectors_and_models_without_embeddings_refuse(
    table: pl.DataFrame, file: Path, tmp_path: Path
) -> None:
    spec = config(MODELS[1], looked_up(file, trained=True))
    result = ctrkit.train(spec, table, model=tmp_path / "model.pt", out=None)
    (changes,) = (one for name, one in result.artifact.weights.items() if "changes" in name)
    assert changes.shape == (ITEMS + 1, WIDTH)
    assert (changes[0] == 0).all()
    assert np.abs(changes[1:]).max() > 0.01
    loaded = ctrkit.load(tmp_path / "model.pt")
    assert loaded.predict(table[:50]).equals(result.trained.predict(table[:50]))
    for content in (MODELS[0], MODELS[2]):
        name = content["model"]["name"]
        with pytest.raises(ConfigError, match=f"the model '{name}' cannot train 'image'"):
            ctrkit.train(config(content, looked_up(file, trained=True)), table, model=None, out=None)


@pytest.mark.slow
def test_prepared_rows_are_those_in_memory_and_prepared_again_for_another_file(
    table: pl.DataFrame, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = tmp_path / "rows.parquet", tmp_path / "prepared"
    table.write_parquet(data)
    spec = config(MODELS[1], looked_up(file, trained=True), {"name": "vector"})
    prepared = ctrkit.prepare(spec, data, out=folder)
    assert prepared.unknown["image"] == {"train": 0.0, "valid": 0.0, "test": 0.0}
    from_folder = ctrkit.train(data=folder, model=tmp_path / "model.pt", out=None)
    in_memory = ctrkit.train(spec, table, model=None, out=None)
    assert from_folder.metrics == in_memory.metrics
    assert from_folder.artifact.data["fingerprint"] == in_memory.artifact.data["fingerprint"]
    train = pl.read_parquet(folder / "train_data.parquet")
    assert train.schema["vector"] == pl.Array(pl.Float32, WIDTH)
    assert train.schema["image"] == pl.Int32

    monkeypatch.setattr("ctrkit.api.models.stored_rows.LARGE", 0)

    def version() -> str:
        ctrkit.train(spec, data, model=None, out=tmp_path / "run")
        return str(json.loads((tmp_path / "run" / "prepared" / "store.json").read_text())["version"])

    before = version()
    assert before == prepared.version == version()
    pl.read_parquet(file).reverse().write_parquet(file)
    assert version() != before
    with pytest.raises(ctrkit.errors.DataError, match="the vectors of 'image' differ"):
        ctrkit.evaluate(tmp_path / "model.pt", tmp_path / "run" / "prepared", out=None)


def test_evaluation_explanations_and_leaks_tell_of_vectors(
    table: pl.DataFrame, file: Path, tmp_path: Path
) -> None:
    spec = config(MODELS[1], looked_up(file), {"name": "vector"})
    result = ctrkit.train(spec, table, model=tmp_path / "model.pt", out=None)
    other = np.stack(table["vector"].to_list())[:, ::-1] * 3.0
    moved = table.with_columns(vector=pl.Series(other), item=pl.col("item") + 200)
    found = ctrkit.evaluate(tmp_path / "model.pt", moved, out=None).to_dict()
    drift = {one["column"]: one["psi"] for one in found["drift"]}
    assert {"vector[0]", "vector[3]", "item", "device"} <= set(drift)
    assert min(drift["vector[0]"], drift["item"]) > 0.25 > drift["device"]
    unknown = {one["column"]: one["evaluated"] for one in found["unknown"]}
    assert unknown["image"] == pytest.approx(2 / 3, abs=0.05)
    same = ctrkit.evaluate(tmp_path / "model.pt", table, out=None).to_dict()
    assert max(one["psi"] for one in same["drift"]) < 0.1
    told = ctrkit.explain(tmp_path / "model.pt", table, rows=[0], out=None).to_dict()
    (row,) = told["rows"]
    values = {one["feature"]: one["value"] for one in row["contributions"]}
    assert values["image"] == str(table["item"][0])
    first = ", ".join(f"{number:.4g}" for number in table["vector"][0][:3])
    assert values["vector"] == f"{first}, … (4 numbers)"
    assert row["logit"] - row["base_logit"] == pytest.approx(
        sum(one["logit"] for one in row["contributions"]) + row["gap"], abs=1e-6
    )
    label = table.with_columns(vector=pl.concat_list(pl.lit(0.5), pl.col("click") * 1.0))
    leaky = ctrkit.train(config(MODELS[0], {"name": "vector"}), label, model=None, out=None)
    assert any("vector[1]" in note for note in leaky.notes)
    assert result.unknown["image"]["train"] == 0.0


def test_inspection_proposes_vectors(table: pl.DataFrame, tmp_path: Path) -> None:
    text = [json.dumps(one) for one in table["vector"].to_list()]
    made = table.with_columns(
        text=pl.Series(text),
        history=pl.concat_list(pl.col("item"), pl.col("item")),
        ragged=pl.Series([[0.5] * (1 + at % 2) for at in range(table.height)]),
        gaps=pl.Series([[0.5, 1.0] if at % 2 else [] for at in range(table.height)]),
    )
    found = ctrkit.inspect(made)
    kinds = {one.name: one.kind for one in found.columns}
    names = ("vector", "text", "history", "ragged", "gaps")
    assert [kinds[name] for name in names] == ["vector", "vector", "list", "numbers", "vector"]
    made.write_parquet(tmp_path / "t.parquet")
    result = ctrkit.train(data=tmp_path / "t.parquet", network="lr", model=None, out=None)
    assert [one["name"] for one in result.artifact.config["features"]["vectors"]] == [
        "vector",
        "text",
        "gaps",
    ]
