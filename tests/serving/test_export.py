"""Exported models give what their models give."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import ctrkit
from ctrkit.calibration import Calibrator, IsotonicRegression
from ctrkit.data.versions import version_of
from ctrkit.errors import ArtifactError, ConfigError, RunError
from ctrkit.models.base import MODELS
from ctrkit.serving import bundle as bundle_file
from ctrkit.serving import export as exporting
from ctrkit.serving.bundle import ROWS, Graphs, arrays_of, open_bundle
from ctrkit.serving.graphs import GRAPHS, CalibratedModel
from ctrkit.serving.parity import compared, random_rows
from ctrkit.serving.sessions import SESSIONS, OnnxSession
from ctrkit.serving.writing import WRITERS, write_onnx
from tests.models.test_contract import MAPS, make
from tests.serving.test_graphs import InMemory

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

# To trace a graph takes many seconds.
pytestmark = pytest.mark.slow


def test_an_exported_model_scores_raw_rows_as_its_model_does(exported: Path, logs: Path) -> None:
    table = pl.read_parquet(logs / "impressions.parquet").tail(2000)
    bundle, model = open_bundle(exported / "export"), ctrkit.load(exported / "model.pt")
    found = bundle.graphs.score(arrays_of(bundle.encoder.encode(table, labels=False)))
    wanted = model.predict(table)
    for task in model.tasks:
        apart = np.abs(found[task] - wanted[task].to_numpy())
        assert (apart < 1e-5).mean() > 0.999  # histogram binning has steps
    assert bundle.known["parity"]["real"]["rows"] == 512
    assert bundle.known["calibrated"] == ["click", "conversion"]


def test_files_are_named_and_complete(exported: Path) -> None:
    files = sorted(path.name for path in (exported / "export").iterdir())
    assert files == ["batch.zip", "candidates.onnx", "encoder.zip", "export.json", "rows.onnx", "user.onnx"]
    assert [*open_bundle(exported / "export").known["files"]] == [
        one for one in files if one != "export.json"
    ]


def resealed(known: dict[str, Any]) -> dict[str, Any]:
    """What `export.json` says, with the version that it should have."""
    return {**known, "version": bundle_file._version(known)}


def changed(content: bytes, damage: str) -> bytes:
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return {"flipped": flipped, "cut": content[:-2], "empty": b"", "no JSON": b"[]"}[damage]


@pytest.mark.parametrize("damage", ["missing", "flipped", "cut", "empty", "no JSON"])
def test_a_damaged_export_is_refused_and_names_the_file(exported: Path, tmp_path: Path, damage: str) -> None:
    for file in sorted((exported / "export").iterdir()):
        folder = Path(shutil.copytree(exported / "export", tmp_path / file.stem))
        if damage == "missing":
            (folder / file.name).unlink()
        else:
            (folder / file.name).write_bytes(changed(file.read_bytes(), damage))
        named = folder if file.name == "export.json" else folder / file.name
        with pytest.raises(ArtifactError, match=r"damaged|missing|not complete") as told:
            open_bundle(folder)
        assert told.value.file == str(named)


def test_the_version_is_that_of_all_that_an_export_says(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported / "export", tmp_path / "export"))
    known = json.loads((folder / "export.json").read_text())
    assert known["features"] == version_of(ctrkit.load(exported / "model.pt").encoder)
    for change in ({"version": "0" * 12}, {"name": "other"}, {"files": {"../rows.onnx": ""}}):
        (folder / "export.json").write_text(json.dumps({**known, **change}))
        with pytest.raises(ArtifactError, match="damaged"):
            open_bundle(folder)
    for number, message in ((1, "older ctrkit"), (99, "newer ctrkit")):
        (folder / "export.json").write_text(json.dumps({**known, "format": number}))
        with pytest.raises(ArtifactError, match=message):
            open_bundle(folder)


def test_an_export_that_fails_its_check_leaves_the_earlier_one(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(exported / "export", tmp_path / "export"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(
        exporting,
        "writer_of",
        lambda *_: lambda graph, examples, path: shutil.copy(exported / "export" / path.name, path),
    )
    run = OnnxSession._run
    monkeypatch.setattr(OnnxSession, "_run", lambda self, arrays: [one * 1.001 for one in run(self, arrays)])
    with pytest.raises(RunError, match="differs from the model by"):
        ctrkit.export_model(exported / "model.pt", out=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_has_no_graph_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no format 'onx'"):
        ctrkit.export_model(exported / "model.pt", format="onx", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_tensorrt_needs_its_provider(exported: Path, tmp_path: Path) -> None:
    import onnxruntime

    if "TensorrtExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has TensorRT")
    folder = Path(shutil.copytree(exported / "export", tmp_path / "export"))
    known = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(resealed({**known, "kind": "tensorrt"})))
    with pytest.raises(ConfigError, match="has no TensorrtExecutionProvider"):
        open_bundle(folder)


def filled(name: str, length: int, **calibrators: Calibrator) -> CalibratedModel:
    """A network on all kinds of features, with linear terms, which are 0 before they are fitted."""
    network = make({"name": name}, replace(MAPS["full"], max_length=length)).eval()
    if network.linear is not None:
        torch.nn.init.normal_(network.linear.cells)
        torch.nn.init.normal_(network.linear.slopes)
    return CalibratedModel(network, calibrators, {})


@pytest.mark.parametrize("kind", ["openvino", "torch-export"])
def test_other_formats_give_the_same(kind: str, tmp_path: Path) -> None:
    if kind == "openvino":
        pytest.importorskip("openvino")
    logits = np.random.default_rng(0).normal(size=2000)
    model = filled("mdaf", 5, click=IsotonicRegression().fit(logits, (logits > 0.5) * 1.0))
    rows = random_rows(model.network.feature_map)
    examples = exporting.examples_of(model, arrays_of(rows))
    for graph in model.interface.graphs:
        WRITERS[kind](GRAPHS[graph](model), examples[graph], tmp_path / f"{graph}{SESSIONS[kind].suffix}")
    wanted, opened = InMemory(model).score(arrays_of(rows)), Graphs(tmp_path, kind, model.interface)
    assert compared(opened, rows, wanted, np.zeros(len(rows), bool)).largest_difference < 1e-5


# Of these, histories and candidates have graphs of their own here; of all, whole rows have one.
BY_HISTORY = ("gru4rec", "hstu", "mdaf")


# Those of which continuous integration exports the graphs.
EXPORTED = ("hyformer", "mdaf", "onetrans")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in EXPORTED else pytest.mark.thorough) for name in sorted(MODELS)],
)
def test_graphs_of_every_network_are_the_network(name: str, tmp_path: Path) -> None:
    model = filled(name, 3)
    rows = random_rows(model.network.feature_map)
    examples, graphs = exporting.examples_of(model, arrays_of(rows)), model.interface.graphs
    for graph in graphs if name in BY_HISTORY else (ROWS,):
        write_onnx(GRAPHS[graph](model), examples[graph], tmp_path / f"{graph}.onnx")
    wanted = InMemory(model).score(arrays_of(rows))
    found = OnnxSession(tmp_path / f"{ROWS}.onnx", *graphs[ROWS])(arrays_of(rows))
    for output, values in wanted.items():
        np.testing.assert_allclose(found[output], values, rtol=1e-5, atol=1e-5)
    if name in BY_HISTORY:
        opened = Graphs(tmp_path, "onnx", model.interface)
        assert compared(opened, rows, wanted, np.zeros(len(rows), bool)).largest_difference < 1e-5
