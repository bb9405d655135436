"""Exported trees and imported models give what their models give."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.api.models.model import Model
from ctrkit.errors import ArtifactError, ConfigError
from ctrkit.serving.bundle import Bundle, arrays_of, open_bundle
from ctrkit.serving.requests.body import ScoreBody
from ctrkit.serving.scoring import RequestScorer
from tests.api.models.test_every_kind import imported, rows, trained

for package in ("onnx", "onnxscript", "onnxruntime", "lightgbm"):
    pytest.importorskip(package)

# To trace a graph takes seconds.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ctrkit.errors.TrainingWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.errors.DataWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning"),
]


def exported(model: Model, folder: Path, table: pl.DataFrame, *, compared: tuple[str, ...]) -> Bundle:
    result = ctrkit.export_model(model, out=folder, data=table)
    assert (*result.parity,) == compared
    return open_bundle(folder)


def same(bundle: Bundle, model: Model, table: pl.DataFrame) -> None:
    wanted = model.predict(table)
    arrays = arrays_of(bundle.encoder.encode(table, labels=False))
    found = bundle.graphs.score(arrays)
    for task in model.tasks:
        np.testing.assert_allclose(found[task], wanted[task].to_numpy(), atol=1e-6)
    assert found["logits"].shape == (len(table), len(model.tasks))


def served(bundle: Bundle, model: Model, table: pl.DataFrame, history: list[str]) -> None:
    """Candidates that share a history are scored by a server as rows are."""
    shared = table.head(20).with_columns(pl.Series(name, [table[name][5]] * 20) for name in history)
    candidates = shared.select(model.spec.static_columns).rows(named=True)
    body = ScoreBody(candidates=candidates, context={name: table[name][5].to_list() for name in history})
    scores = RequestScorer(bundle).score(body).outputs
    wanted = model.predict(shared)
    for task in model.tasks:
        np.testing.assert_allclose(scores[task], wanted[task].to_numpy(), atol=1e-6)


def test_trees_with_a_history(tmp_path: Path) -> None:
    table = rows()
    model = trained("lightgbm", table)
    ctrkit.calibrate(model, rows(1), method="field-aware", field="hour")
    bundle = exported(model, tmp_path, table, compared=("random", "real"))
    new = rows(2).with_columns(ad=pl.col("ad") + 3)
    same(bundle, model, new)  # also with ids that training did not see
    served(bundle, model, new, ["seen"])


def test_an_imported_model(tmp_path: Path) -> None:
    (tmp_path / "import").mkdir()
    model, table = imported(tmp_path / "import"), rows()
    ctrkit.calibrate(model, rows(1), method="platt")
    bundle = exported(model, tmp_path / "export", table, compared=("random", "real"))
    same(bundle, model, rows(2))
    same(bundle, model, rows(2)[:0])
    served(bundle, model, rows(2), [])
    damaged = Path(shutil.copytree(tmp_path / "export", tmp_path / "damaged"))
    (damaged / "imported.onnx").write_bytes(b"\x08\x07nonsense")
    with pytest.raises(ArtifactError, match="the file is damaged"):
        open_bundle(damaged)
    (damaged / "imported.onnx").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        open_bundle(damaged)


def strict(folder: Path, table: pl.DataFrame) -> Model:
    """A pipeline that fails for categories that it does not know."""
    convert = pytest.importorskip("skl2onnx")
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = table.select(pl.col("hour").cast(pl.String)).to_numpy()
    model = make_pipeline(OneHotEncoder(handle_unknown="error"), LogisticRegression()).fit(
        frame, table["click"]
    )
    kinds = [("hour", StringTensorType([None, 1]))]
    made = convert.convert_sklearn(model, initial_types=kinds, options={"zipmap": False})
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    spec: dict[str, Any] = {"labels": {"click": "click"}, "categorical": [{"name": "hour"}]}
    return ctrkit.import_model(folder / "m.onnx", {"features": spec}).imported


def test_an_imported_model_of_text(tmp_path: Path) -> None:
    table = rows()
    model = strict(tmp_path, table)
    with pytest.raises(ConfigError, match="takes no random values"):
        ctrkit.export_model(model, out=tmp_path / "export")
    same(exported(model, tmp_path / "export", table, compared=("real",)), model, rows(2))
