"""The graphs of a model, computed by PyTorch itself, give what the model gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import ctrkit
from ctrkit.api.export_model import _answers
from ctrkit.cli.export_model import Format
from ctrkit.errors import ConfigError
from ctrkit.nn.batches import Batch
from ctrkit.serving.bundle import Interface
from ctrkit.serving.graphs import GRAPHS, CalibratedModel, CandidateGraph, RowGraph, UserGraph
from ctrkit.serving.parity import SHARING, compared, random_rows
from ctrkit.serving.sessions import SESSIONS
from ctrkit.serving.writing import WRITERS
from tests.models.test_contract import MAPS, make


class InMemory:
    """Graphs that are computed by PyTorch itself."""

    parallel = True

    def __init__(self, model: CalibratedModel) -> None:
        self.model, self.interface = model, model.interface

    def run(self, name: str, arrays: dict[str, Any]) -> dict[str, np.ndarray]:
        graph = GRAPHS[name](self.model)
        with torch.no_grad():
            found = graph(*(torch.from_numpy(np.asarray(arrays[one])) for one in graph.inputs))
        return {one: values.numpy() for one, values in zip(graph.outputs, found, strict=True)}

    def score(self, rows: dict[str, Any]) -> dict[str, np.ndarray]:
        return self.run(RowGraph.name, rows)

    def encode(self, sequences: dict[str, Any]) -> dict[str, np.ndarray]:
        state = self.run(UserGraph.name, sequences) if self.interface.state else {}
        return {**sequences, **state}

    def score_candidates(self, static: dict[str, Any], history: dict[str, Any]) -> dict[str, np.ndarray]:
        return self.run(CandidateGraph.name, {**static, **history})


@pytest.fixture(scope="module")
def model(trained: Path) -> ctrkit.Model:
    return ctrkit.load(trained)


def calibrated(model: ctrkit.Model) -> CalibratedModel:
    return CalibratedModel(
        model.network, {task: one.calibrator for task, one in model.calibrators.items()}, {}
    )


def test_graphs_are_the_model_and_its_calibrators(model: ctrkit.Model) -> None:
    graphs = InMemory(calibrated(model))
    rows = random_rows(model.network.feature_map)
    answer = _answers(model, rows)
    parity = compared(graphs, rows, answer.wanted, answer.jumps)  # type: ignore[arg-type]
    assert parity.rows == 512
    assert parity.at_steps == 0
    assert 0 < parity.largest_difference < 1e-6
    wrong = {**answer.wanted, "click": answer.wanted["click"] + 1e-3}
    assert compared(graphs, rows, wrong, answer.jumps).largest_difference > 9e-4  # type: ignore[arg-type]


def test_random_rows_hold_all_kinds_of_values(model: ctrkit.Model) -> None:
    features = model.network.feature_map
    rows = random_rows(features)
    assert rows.categorical.min() == 1
    sizes = [features.tables[table] for table in features.categorical.values()]
    assert (rows.categorical.max(axis=0) < sizes).all()
    assert np.isnan(rows.numeric).any()
    lengths = next(iter(rows.sequences.values())).lengths
    assert lengths.min() == 0
    assert lengths.max() == features.max_length
    assert (lengths.reshape(-1, SHARING) == lengths[::SHARING, None]).all()


@pytest.mark.parametrize("name", ["mdaf", "gru4rec", "onetrans", "hyformer", "lr"])
def test_graphs_read_several_domains(name: str) -> None:
    features = MAPS["two domains"]
    network = make({"name": name}, features).eval()
    graphs = InMemory(CalibratedModel(network, {}, {}))
    rows = random_rows(features)
    assert {len({*one.lengths.tolist()}) for one in rows.sequences.values()} != {1}
    with torch.no_grad():
        logits = network(Batch.of(rows, slice(0, len(rows)))).logits
    wanted = {"click": logits[:, 0].sigmoid().numpy(), "logits": logits.numpy()}
    parity = compared(graphs, rows, wanted, np.zeros(len(rows), dtype=np.bool_))  # type: ignore[arg-type]
    assert parity.largest_difference < 1e-5


def test_an_interface_without_history_has_one_graph() -> None:
    assert list(Interface(("categorical",), (), (), ("click", "logits")).graphs) == ["rows"]


def test_formats_are_those_that_are_written_and_opened() -> None:
    assert {*SESSIONS} - {"openvino-bf16"} == {*WRITERS} == {one.value for one in Format}


def test_a_model_that_is_no_network_is_exported_as_onnx_alone(logs: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    rows = pl.read_parquet(logs / "impressions.parquet").head(2000)
    model = ctrkit.train(data=rows, network={"name": "lightgbm", "rounds": 3}).trained
    with pytest.raises(ConfigError, match="only networks are exported as openvino"):
        ctrkit.export_model(model, out=tmp_path / "export", format="openvino")
    assert not (tmp_path / "export").exists()
