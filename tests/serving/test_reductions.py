"""Reductions err as little as their method allows, and are refused where they cost too much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ctrkit
from ctrkit.api.models.labelled import labelled_rows
from ctrkit.api.reductions.report import Change, ExportConfig, TaskChange, gates_of
from ctrkit.calibration import PlattScaling
from ctrkit.cli.export_model import Quantisation
from ctrkit.errors import ConfigError, RunError
from ctrkit.nn.embedding_tables import RowMatrix
from ctrkit.serving.bundle import arrays_of, open_bundle
from ctrkit.serving.reductions import (
    QUANTISATIONS,
    BFloat16,
    Int8Embeddings,
    Int8Linear,
    Int8Rows,
    LowRank,
    check_formats,
    reduced,
)
from tests.api.models.test_every_kind import FEATURES, rows
from tests.models.test_contract import MAPS, make, make_batch


def test_rows_of_8_bits_are_right_to_half_a_step_and_take_little_memory() -> None:
    matrix = RowMatrix(50, 32, 0.1)
    with torch.no_grad():
        matrix.weight[7] *= 1e-30  # a row of its own scale
        matrix.weight[8] = 0.0
    rows = Int8Rows(matrix.weight.detach())
    places = torch.tensor([[0, 7], [8, 49]], dtype=torch.int32)
    step = matrix.weight.detach().abs().amax(dim=1, keepdim=True) / 127
    assert (rows(places) - matrix(places)).abs().le(step[places.long()] / 2 * 1.001).all()
    assert (rows(places)[0, 0] == 0.0).all()  # padding
    stored = sum(one.numel() * one.element_size() for one in rows.buffers())
    assert matrix.weight.numel() * 4 / stored > 3.5


@pytest.mark.parametrize("name", ["dcnv3", "dcnv2"])
def test_cross_layers_of_low_rank_are_the_nearest_ones(name: str) -> None:
    network, batch = make({"name": name}, MAPS["full"]).eval(), make_batch(MAPS["full"], 9)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    layers = {
        key.removesuffix(".weight"): value
        for key, value in before.items()
        if key.endswith(("w.0.weight", ".w.weight"))
    }
    low = dict(reduced(network, [LowRank(3)]).named_modules())
    for key, weight in layers.items():
        inner, outer = low[key].children()
        apart = torch.linalg.matrix_norm(outer.weight @ inner.weight - weight)
        torch.testing.assert_close(apart, torch.linalg.svdvals(weight)[3:].norm())
    assert layers
    most = min(weight.numel() // sum(weight.shape) for weight in layers.values())
    errors = [
        (reduced(network, [LowRank(rank)])(batch).logits - network(batch).logits).abs().max().item()
        for rank in (1, most)
    ]
    assert 0 < errors[1] < errors[0]
    with pytest.raises(ConfigError, match="no quicker than full ones"):
        reduced(network, [LowRank(most + 1)])
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_what_cannot_be_reduced_is_refused() -> None:
    network = make({"name": "dnn", "embedding": 4}, MAPS["full"])
    with pytest.raises(ConfigError, match="no embeddings of 8 numbers"):
        reduced(network, [Int8Embeddings()])
    with pytest.raises(ConfigError, match="no cross layers"):
        reduced(network, [LowRank(2)])
    with pytest.raises(ConfigError, match="'int8-linear' is none for the format 'openvino'"):
        check_formats([Int8Linear()], "openvino")
    with pytest.raises(ConfigError, match="'bf16' is none for the format 'onnx'"):
        check_formats([BFloat16()], "onnx")
    assert {*QUANTISATIONS} == {one.value for one in Quantisation}


def test_layers_of_8_bits_may_share_their_weights(tmp_path: Path) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    random = np.random.default_rng(0)
    weights, x = (random.normal(size=size).astype(np.float32) for size in ((20, 32), (50, 32)))
    few = random.normal(size=(20, 2)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "weights"], ["one"], transB=1, name="first"),
        helper.make_node("Gemm", ["one", "weights"], ["back"], name="second"),
        helper.make_node("MatMul", ["one", "few"], ["two"], name="third"),
    ]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, kind, [None, None]) for name in names]
        for names in (["x"], ["one", "back", "two"])
    )
    stored = [
        onnx.numpy_helper.from_array(value, name) for name, value in (("weights", weights), ("few", few))
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, tmp_path / "g.onnx")
    Int8Linear().of_file(tmp_path / "g.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "g.onnx").graph.node]
    assert (kinds.count("MatMulInteger"), kinds.count("MatMul")) == (2, 1)
    session = runtime.InferenceSession(tmp_path / "g.onnx", providers=["CPUExecutionProvider"])
    one, back, two = session.run(None, {"x": x})
    np.testing.assert_allclose(one, x @ weights.T, atol=0.03 * np.abs(x @ weights.T).max())
    np.testing.assert_allclose(back, one @ weights, atol=0.03 * np.abs(one @ weights).max())
    np.testing.assert_allclose(two, one @ few, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("metric", "after"), [("auc", 0.698), ("log_loss", 0.402), ("ece", 0.013)], ids=("auc", "log_loss", "ece")
)
def test_each_cost_has_a_gate_that_can_be_moved(metric: str, after: float) -> None:
    same = {"auc": Change(0.7, 0.7), "log_loss": Change(0.4, 0.4), "ece": Change(0.01, 0.01)}
    changes = {**same, metric: Change(same[metric].before, after)}
    tasks = {"click": TaskChange(rows=9, **changes, largest_difference=0.1, recalibrated=True)}
    assert [gate.held for gate in gates_of(tasks, ExportConfig())].count(False) == 1
    allowed: dict[str, Any] = {"auc_fall": 0.01, "log_loss_rise": 0.01, "ece_rise": 0.01}
    assert all(gate.held for gate in gates_of(tasks, ExportConfig(**allowed)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning")
@pytest.mark.filterwarnings("ignore::ctrkit.errors.TrainingWarning")
@pytest.mark.filterwarnings("ignore::ctrkit.errors.DataWarning")
def test_a_reduced_export_is_recalibrated_reported_and_gated(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    table, bits = rows(), ["int8-embeddings", "int8-linear"]
    network = {"name": "dnn", "embedding": 8, "hidden": [16]}
    settings = {"features": FEATURES, "model": network, "training": {"epochs": 1, "batch_size": 256}}
    model = ctrkit.train(settings, table).trained
    ctrkit.calibrate(model, table, method="platt")
    before = model.calibrators["click"].state(), model.network.arrays()
    allowed = {"auc_fall": 0.05, "log_loss_rise": 0.05, "ece_rise": 0.05}
    result = ctrkit.export_model(model, data=table, out=tmp_path, quantise=bits, **allowed)
    assert result.largest_difference < 1e-5  # of the graphs before their layers had 8 bits
    report = result.reduction
    assert report is not None
    assert not report.broken
    assert report.tasks["click"].recalibrated
    bundle = open_bundle(tmp_path)
    assert bundle.known["reduction"] == json.loads(json.dumps(result.to_dict()["reduction"]))
    arrays = arrays_of(bundle.encoder.encode(table, labels=False))
    found = bundle.graphs.score(arrays)
    apart = np.abs(found["click"] - model.predict(table)["click"].to_numpy())
    assert 1e-5 < report.tasks["click"].largest_difference <= apart.max() < 0.05
    # The calibrator is fitted on the reduced graph's logits of validation rows, and the model keeps its own.
    split = labelled_rows(model, table).split
    assert split is not None
    at = split.valid[table["weight"].to_numpy()[split.valid] > 0]
    part = table[at]
    line = PlattScaling().fit(found["logits"][at, 0], part["click"].to_numpy(), part["weight"].to_numpy())
    np.testing.assert_allclose(found["click"], line(found["logits"][:, 0].astype(float)), atol=1e-5)
    assert model.calibrators["click"].state() == before[0]
    for name, array in model.network.arrays().items():
        np.testing.assert_array_equal(array, before[1][name])
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match="above its maximum of 0"):
        ctrkit.export_model(model, data=table, out=tmp_path, quantise=bits, **dict.fromkeys(allowed, 0.0))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
