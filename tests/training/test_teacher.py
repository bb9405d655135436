"""Distillation from an artifact, from the raw table to the student."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.data import raw_table
from ctrkit.errors import ArtifactError, ConfigError, DataError
from ctrkit.training import TrainingWarning

FEATURES = {
    "labels": {"click": "click", "conversion": "conversion"},
    "categorical": [{"name": "ad_id"}, {"name": "placement"}],
    "numeric": [{"name": "ad_price", "transform": "log1p"}],
}
CONFIG: dict[str, Any] = {
    "features": FEATURES,
    "split": {"by": "random", "train": 0.8, "valid": 0.1},
    "model": {"name": "dnn"},
    "training": {"epochs": 1, "batch_size": 128},
}


def taught_by(teacher: Path, **training: Any) -> dict[str, Any]:
    """The config of a student without one of the teacher's features, which believes the teacher alone."""
    loss = {"distillation": {"teacher": str(teacher), "weight": 1.0}}
    features = {**FEATURES, "categorical": [{"name": "ad_id"}]}
    return {**CONFIG, "features": features, "training": {**CONFIG["training"], **training, "loss": loss}}


@pytest.fixture(scope="module")
def table(logs: Path) -> pl.DataFrame:
    return pl.read_parquet(logs / "impressions.parquet").head(3000)


@pytest.fixture(scope="module")
def teacher(table: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    ctrkit.train(CONFIG, table, model=folder / "teacher.pt", out=folder)
    return folder / "teacher.pt"


def test_a_student_of_fewer_features_comes_to_agree_with_its_teacher(
    table: pl.DataFrame, teacher: Path, tmp_path: Path
) -> None:
    config = taught_by(teacher, epochs=6, patience=6, validations_per_epoch=1)
    # The labels tell nothing here: what is learnt is the teacher's.
    shuffled = table.with_columns(pl.col("click", "conversion").shuffle(seed=0))
    ctrkit.train(config, shuffled, model=tmp_path / "student.pt", out=tmp_path)
    ours, theirs = (ctrkit.load(path).outputs(table)[0][:, 0] for path in (tmp_path / "student.pt", teacher))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.5


class Stop(Exception):
    """Stands for a kill in the middle of a run."""


def stop_after(steps: int) -> Callable[[int, int, str], None]:
    def on_step(done: int, total: int, what: str) -> None:
        if done == steps:
            raise Stop

    return on_step


@pytest.mark.parametrize("same_teacher", [True, False])
def test_a_run_goes_on_only_under_the_same_teacher(
    table: pl.DataFrame, teacher: Path, tmp_path: Path, same_teacher: bool
) -> None:
    lesson = tmp_path / "teacher.pt"
    lesson.write_bytes(teacher.read_bytes())
    config = taught_by(lesson, checkpoint_steps=2)
    with pytest.raises(Stop):
        ctrkit.train(config, table, model=tmp_path / "s.pt", out=tmp_path, on_step=stop_after(5))
    if not same_teacher:
        other = {**CONFIG, "seed": 7}
        ctrkit.train(other, table, model=lesson, out=tmp_path / "other")
    told: AbstractContextManager[Any] = nullcontext()
    if not same_teacher:
        told = pytest.warns(TrainingWarning, match="other teacher")
    with told:
        result = ctrkit.train(config, table, model=tmp_path / "s.pt", out=tmp_path)
    assert result.history.resumed == same_teacher


def test_what_is_no_teacher_is_told(table: pl.DataFrame, teacher: Path, tmp_path: Path) -> None:
    def learn(config: dict[str, Any], rows: pl.DataFrame) -> None:
        ctrkit.train(config, rows, model=tmp_path / "student.pt", out=tmp_path)

    with pytest.raises(ArtifactError, match=r"nobody\.pt"):
        learn(taught_by(tmp_path / "nobody.pt"), table)
    clicks = {**FEATURES, "labels": {"click": "click"}}
    with pytest.raises(
        ConfigError, match=r"teacher\.pt: the teacher predicts click, conversion, not click\."
    ):
        learn({**taught_by(teacher), "features": clicks}, table)
    with pytest.raises(DataError, match="placement"):
        learn(taught_by(teacher), table.drop("placement"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fewer_features", [True, False])
def test_a_teacher_teaches_prepared_rows_as_those_in_memory(
    table: pl.DataFrame, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewer_features: bool
) -> None:
    """By the raw rows, part by part, or by the encoded rows where the teacher has the same features."""
    monkeypatch.setattr(raw_table, "ROWS", 701)
    config = taught_by(teacher)
    if not fewer_features:
        config["features"] = FEATURES
    file = tmp_path / "log.parquet"
    table.write_parquet(file)
    ctrkit.prepare(config, file, out=tmp_path / "prepared")
    if not fewer_features:
        file.unlink()  # the encoded rows are enough
    found = ctrkit.train(data=tmp_path / "prepared")
    expected = ctrkit.train(config, table)
    for name, weights in expected.artifact.weights.items():
        np.testing.assert_allclose(found.artifact.weights[name], weights, rtol=1e-4, atol=1e-5, err_msg=name)
    if fewer_features:
        table.drop("placement").write_parquet(file)
        ctrkit.prepare(config, file, out=tmp_path / "prepared")
        with pytest.raises(DataError, match="placement"):
            ctrkit.train(data=tmp_path / "prepared")
        file.unlink()
        with pytest.raises(DataError, match="raw files of these data are missing"):
            ctrkit.train(data=tmp_path / "prepared")
