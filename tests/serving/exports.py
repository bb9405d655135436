"""Exported models that are made in milliseconds: a logistic line of one number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from ctrkit.array_files import write_arrays
from ctrkit.data.encoder import Encoder
from ctrkit.data.versions import version_of
from ctrkit.schema import FeatureSpec
from ctrkit.serving.batch import encoded_rows, raw_rows, write_batch
from ctrkit.serving.bundle import ENCODER, FORMAT, MANIFEST, arrays_of, graphs_of, sealed
from ctrkit.serving.parity import TOLERANCE, any_rows
from ctrkit.tables import write_json

INTERFACE = {"static": ["numeric"], "sequences": [], "state": [], "outputs": ["click", "logits"]}


def line_graph(intercept: float, path: Path) -> None:
    """Write click = sigmoid(z) of the logit z = number + intercept, where a missing number is 0."""
    from onnx import TensorProto, helper, save

    def of(name: str, *shape: str | int) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def constant(name: str, value: float) -> object:
        return helper.make_tensor(name, TensorProto.FLOAT, [1], [value])

    nodes = [
        helper.make_node("IsNaN", ["numeric"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "numeric"], ["number"]),
        helper.make_node("Add", ["number", "intercept"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probability"]),
        helper.make_node("Reshape", ["probability", "flat"], ["click"]),
    ]
    flat = helper.make_tensor("flat", TensorProto.INT64, [1], [-1])
    graph = helper.make_graph(
        nodes,
        "line",
        [of("numeric", "n", 1)],
        [of("click", "n"), of("logits", "n", 1)],
        [constant("zero", 0.0), constant("intercept", intercept), flat],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def line_export(folder: Path, intercept: float, *, spoilt: float = 0.0, name: str = "features") -> str:
    """Write an exported model; its version.

    Args:
        folder: where to.
        intercept: its prediction for a number at the mean of training is its sigmoid.
        spoilt: by how much the stored batch differs from what the model gives.
        name: of the model.
    """
    folder.mkdir(parents=True)
    table = pl.DataFrame({"price": np.linspace(-1.0, 1.0, 50), "click": [0, 1] * 25})
    spec = {"name": name, "numeric": [{"name": "price"}]}
    encoder = Encoder.fit(FeatureSpec.model_validate(spec), table)
    line_graph(intercept, folder / "rows.onnx")
    known = {
        "format": FORMAT,
        "kind": "onnx",
        "name": name,
        "features": version_of(encoder),
        "interface": INTERFACE,
        "calibrated": [],
        "parity": {},
    }
    write_arrays(encoder.state(), folder / ENCODER)
    rows = raw_rows(encoder, any_rows(encoder))
    wanted = graphs_of(known, folder, encoder).score(arrays_of(encoded_rows(encoder, rows)))
    wanted["click"] = wanted["click"] + np.float32(spoilt)
    write_batch(rows, wanted, np.zeros(rows.height, dtype=np.bool_), TOLERANCE, folder)
    manifest = sealed(known, folder)
    write_json(manifest, folder / MANIFEST)
    return str(manifest["version"])
