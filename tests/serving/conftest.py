"""Shared by the tests of what is exported and served."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import ctrkit
from ctrkit.calibration import CalibrationWarning
from ctrkit.data.versions import version_of
from ctrkit.serving.bundle import Bundle
from tests.serving.test_graphs import InMemory, calibrated


@pytest.fixture(scope="session")
def exported(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, which is quick to export, calibrated by steps: `model.pt`, and `export/`."""
    folder = tmp_path_factory.mktemp("exported")
    model = ctrkit.train(
        data=logs / "impressions.parquet",
        network={"name": "dnn", "embedding": 4, "hidden": [8]},
        model=folder / "model.pt",
        training={"epochs": 1, "batch_size": 512},
    ).trained
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)  # the log is small
        ctrkit.calibrate(model, logs / "impressions.parquet", method="histogram")
    model.artifact.save(folder / "model.pt")
    result = ctrkit.export_model(folder / "model.pt", out=folder / "export")
    assert result.largest_difference < 1e-5
    assert result.to_dict()["parity"]["largest_difference"] == result.largest_difference
    return folder


@pytest.fixture(scope="session")
def model(trained: Path) -> ctrkit.Model:
    return ctrkit.load(trained)


@pytest.fixture(scope="session")
def bundle(model: ctrkit.Model) -> Bundle:
    """The exported model, with graphs that PyTorch computes: to write graphs takes long."""
    known = {
        "name": "features",
        "version": "0123456789ab",
        "features": version_of(model.encoder),
        "kind": "onnx",
        "calibrated": list(model.tasks),
        "parity": {},
    }
    return Bundle(known, model.encoder, InMemory(calibrated(model)))  # type: ignore[arg-type]
