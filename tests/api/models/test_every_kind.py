"""What every kind of model does once it is an artifact: networks, boosted trees, imported models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import ctrkit
from ctrkit.api.models.model import Model
from ctrkit.models import SCORERS
from ctrkit.training import predict_candidates

pytestmark = [
    pytest.mark.filterwarnings("ignore::ctrkit.errors.TrainingWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.errors.DataWarning"),
]
ROWS = 1200
FEATURES: dict[str, Any] = {
    "labels": {"click": "click", "conversion": "conversion"},
    "weight": "weight",
    "categorical": [{"name": "ad", "min_count": 1}, {"name": "hour", "min_count": 1}],
    "numeric": [{"name": "price"}],
    "candidate": {"id": "ad"},
}
HISTORY = {"sequences": [{"name": "seen", "shares": "ad", "min_count": 1}]}
TRAINED = {
    "network": {"model": {"name": "din", "embedding": 4}, "training": {"epochs": 1, "batch_size": 256}},
    "linear": {"model": "lr"},
    "lightgbm": {"model": {"name": "lightgbm", "rounds": 8, "leaves": [4], "rows_of_leaf": 10}},
}
KINDS = (*TRAINED, "onnx")


def rows(seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    ad, price = rng.integers(0, 12, ROWS), rng.normal(size=ROWS)
    seen = [rng.integers(0, 12, length).tolist() for length in rng.integers(0, 4, ROWS)]
    score = 1.5 * price + np.array([one in events for one, events in zip(ad, seen, strict=True)])
    click = rng.random(ROWS) < 1 / (1 + np.exp(0.5 - score))
    return pl.DataFrame(
        {
            "ad": ad,
            "hour": rng.integers(0, 24, ROWS),
            "price": np.where(rng.random(ROWS) < 0.1, np.nan, price),
            "seen": pl.Series(seen, dtype=pl.List(pl.Int64)),
            "click": click.astype(np.int8),
            "conversion": (click & (rng.random(ROWS) < 0.4)).astype(np.int8),
            "weight": rng.integers(0, 3, ROWS),
        }
    ).with_columns(pl.col("price").fill_nan(None))


def trained(kind: str, table: pl.DataFrame) -> Model:
    return ctrkit.train({"features": {**FEATURES, **HISTORY}, **TRAINED[kind]}, table).trained


def imported(folder: Path) -> Model:
    """Two logistic regressions on price, hour and ad, where a missing value counts as 0."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.array([[1.0, 0.3], [0.02, -0.05], [0.1, -0.1]], dtype=np.float32)
    nodes = [
        helper.make_node("IsNaN", ["x"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "x"], ["known"]),
        helper.make_node("MatMul", ["known", "weights"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["both"]),
        helper.make_node("Split", ["both"], ["p", "q"], axis=1, num_outputs=2),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", kind, [None, 3])],
        [helper.make_tensor_value_info(name, kind, [None, 1]) for name in ("p", "q")],
        [
            onnx.numpy_helper.from_array(np.float32(0), "zero"),
            onnx.numpy_helper.from_array(weights, "weights"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(made, folder / "two.onnx")
    return ctrkit.import_model(
        folder / "two.onnx", {"features": FEATURES}, features=["price", "hour", "ad"], outputs=["p", "q"]
    ).imported


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    if request.param == "lightgbm":
        pytest.importorskip("lightgbm")
    return (
        imported(tmp_path_factory.mktemp("onnx"))
        if request.param == "onnx"
        else trained(request.param, rows())
    )


def test_no_kind_is_left_out() -> None:
    assert {*SCORERS} <= {*KINDS}


def test_each_row_has_the_probability_of_each_task_whatever_stands_beside_it(model: Model) -> None:
    table = rows(1)
    found = model.predict(table)
    assert found.columns == ["click", "conversion"]
    assert found.height == ROWS
    assert 0.0 < found.to_numpy().min() <= found.to_numpy().max() < 1.0
    assert found["click"].n_unique() > 10
    for chosen in (slice(None, None, -1), slice(7, 8), slice(0, 0)):
        alone = model.predict(table[chosen]).to_numpy()
        np.testing.assert_allclose(alone, found.to_numpy()[chosen], rtol=1e-5)


def test_a_saved_model_predicts_the_same(model: Model, tmp_path: Path) -> None:
    model.artifact.save(tmp_path / "m.pt")
    loaded = ctrkit.load(tmp_path / "m.pt")
    assert loaded.predict(rows(1)).equals(model.predict(rows(1)))
    assert type(loaded.network) is type(model.network)


CHANGES: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "new ids": lambda t: t.with_columns(ad=pl.lit(999), hour=pl.lit(77)),
    "missing ids": lambda t: t.with_columns(hour=pl.lit(None, dtype=pl.Int64)),
    "missing numbers": lambda t: t.with_columns(price=pl.lit(None, dtype=pl.Float64)),
    "empty histories": lambda t: t.with_columns(seen=pl.Series([[]] * ROWS, dtype=pl.List(pl.Int64))),
    "extreme numbers": lambda t: t.with_columns(price=pl.col("price") * 1e6),
    "labels and weights": lambda t: t.with_columns(click=1 - pl.col("click"), weight=pl.lit(9)),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_is_new_or_missing_still_has_a_probability(model: Model, kind: str) -> None:
    table = rows(1)
    found = model.predict(CHANGES[kind](table)).to_numpy()
    assert np.isfinite(found).all()
    assert 0.0 <= found.min() <= found.max() <= 1.0
    if kind == "labels and weights":
        np.testing.assert_array_equal(found, model.predict(table).to_numpy())
    if kind == "missing numbers":
        as_nan = table.with_columns(price=pl.lit(np.nan))
        np.testing.assert_array_equal(found, model.predict(as_nan).to_numpy())


def test_candidates_share_a_history(model: Model) -> None:
    encoded, counts = model.encode(rows(1)[:6]), np.array([2, 0, 4])
    histories = {name: ids.of_rows(slice(3)) for name, ids in encoded.sequences.items()}
    own = {name: ids.of_rows(np.repeat(np.arange(3), counts)) for name, ids in histories.items()}
    found = predict_candidates(model.network, replace(encoded, sequences=histories), encoded, counts).logits
    np.testing.assert_allclose(
        found, model.outputs_of(replace(encoded, sequences=own)).logits, rtol=1e-5, atol=1e-6
    )


def test_the_last_layer_reads_the_hidden_values_or_there_is_no_posterior(model: Model) -> None:
    outputs, layer = model.outputs_of(model.encode(rows(1)[:20])), model.network.last_layer
    assert (layer is None) == (model.artifact.posterior is None) == (outputs.hidden.shape[1] == 0)
    if layer is not None:
        with torch.no_grad():
            read = layer(torch.from_numpy(outputs.hidden).float())[:, 0].numpy()
        np.testing.assert_allclose(read, outputs.logits[:, 0], rtol=1e-4, atol=1e-5)


def test_only_its_own_arrays_are_taken(model: Model) -> None:
    arrays = model.network.arrays()
    model.network.take_arrays(arrays)
    first = next(iter(arrays))
    for wrong in (
        {**arrays, "another": np.zeros(3)},
        {name: arrays[name] for name in arrays if name != first},
    ):
        with pytest.raises(ValueError, match=r"another|missing|unknown|type"):
            model.network.take_arrays(wrong)


@pytest.mark.parametrize("kind", TRAINED)
def test_rows_of_weight_0_teach_nothing(kind: str) -> None:
    if kind == "lightgbm":
        pytest.importorskip("lightgbm")
    table = rows()
    weightless = pl.col("weight") == 0
    other = table.with_columns(
        click=pl.when(weightless).then(1 - pl.col("click")).otherwise("click"),
        conversion=pl.when(weightless).then(0).otherwise("conversion"),
    )
    first, second = (trained(kind, one).predict(rows(1)) for one in (table, other))
    assert first.equals(second)
